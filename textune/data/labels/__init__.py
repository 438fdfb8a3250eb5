"""Label columns in, a label map and ids out; after `columns.py`, before `splits.py`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
