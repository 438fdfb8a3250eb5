"""Runs with few labels: a linear head on a backbone that stays, or that learned from pairs first (`task.few`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
