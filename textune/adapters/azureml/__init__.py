"""The AzureML components for text classification: their inputs, their folders, and what becomes of each."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
