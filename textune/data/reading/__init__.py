"""Files, hub data sets and the user's own rows in, Arrow tables with the place of each row out; the first step of
`data`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
