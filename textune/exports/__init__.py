"""A run folder or a checkpoint in, a model as something else can use it out; after `run`, before `pipeline`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
