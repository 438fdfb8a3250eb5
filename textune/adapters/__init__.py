"""Configurations and commands of other systems: read, checked, and turned into textune's own. Sees only `config`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
