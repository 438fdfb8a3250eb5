"""A report in; what people and programs read out: terminal, Markdown, JSON."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
