"""The first room: TOML files and overrides in, one checked and frozen `Experiment` out, every value with its origin.
Imports no torch or pyarrow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
