"""Files, hub data sets, the user's own classes and rows in memory to Arrow tables with the place of each row."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
