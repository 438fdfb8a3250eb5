"""Commands of other systems: the verb `convert`, and their scripts and programs as words of `textune`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
