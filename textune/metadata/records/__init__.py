"""Rows to documents, every entry of their metadata checked; after `types.py`, before `sampling.py`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
