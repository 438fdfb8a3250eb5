"""The one inference path: a live model or a saved folder in, `Scorer` out (rows of tokens to scores), or
`Predictor` (a table of rows to a table of predictions); after `training`, before `evaluation`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
