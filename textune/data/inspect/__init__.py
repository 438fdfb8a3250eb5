"""Rows or files in, what is wrong with them out, or how files that nobody has described can be read; beside the
flow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
