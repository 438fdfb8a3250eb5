"""bsmetadata, which trains language models on documents with metadata: its Hydra configuration, its DeepSpeed file and
its two scripts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
