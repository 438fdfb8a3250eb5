"""Configurations as Hydra composes them: YAML files, their lists of defaults, and words that override keys."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
