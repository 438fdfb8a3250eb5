"""Rendered documents to rows of tokens with a mask; after `rendering`, before `maker.py`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
