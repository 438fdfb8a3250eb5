"""URLs of shards in, blocks of training rows out, however large the whole: shards, one from any position on, their
order."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
