"""Labelled examples in, batches of tensors in their order out: token store, plan, loader; after `data`, before
`tasks`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
