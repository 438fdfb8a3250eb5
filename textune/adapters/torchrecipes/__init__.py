"""torchrecipes: its document classification, from Hydra's groups and words to a configuration of ours."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
