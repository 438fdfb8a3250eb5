"""Training rows larger than memory: where shards are, one shard from any position on, the order of their blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
