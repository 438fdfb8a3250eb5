"""The life of a run: its folder, where it starts, what it says, what stops it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
