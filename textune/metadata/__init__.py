"""Documents with their metadata in, texts with tags, masks and rows of tokens out; after `batches`, before `tasks`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
