"""Batches, a model and a task in, trained weights and checkpoints out, step by step; after `model`, before
`prediction`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
