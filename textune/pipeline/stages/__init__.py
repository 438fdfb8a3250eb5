"""AzureML's stages around fine-tuning: a model imported, rows checked, split and encoded, a model converted.

The verbs are at the front door of `pipeline`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
