"""Files that a finished run has beside its own, as other systems write them (`train.layout`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
