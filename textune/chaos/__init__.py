"""Kills a run at random moments and proves that it ends like one that nobody killed; the last room, above `pipeline`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
