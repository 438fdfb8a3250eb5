"""Training rows larger than memory: where shards are, how one is read from any position, and the order of blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
