"""Web pages in, pages with their text and metadata out: one file for each type that is found, one table of them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
