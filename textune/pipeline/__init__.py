"""A config or a run folder in, what a verb makes of it out: one importable function each; after `exports`, before
`launch`.

`build.py` builds every part of a run in the order the data flows.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
