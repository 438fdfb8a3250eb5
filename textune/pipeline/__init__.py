"""Composition root: the verbs of textune as importable functions, each building what it needs in the order the data flows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
