"""Several processes that train one model: copies of it (DDP), or parts of its weights (FSDP2, DeepSpeed)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
