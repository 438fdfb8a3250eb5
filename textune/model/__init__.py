"""The `model` section in, `TextModel` out: token batch to logits, saved as a plain Hugging Face folder; after `tasks`,
before `training`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
