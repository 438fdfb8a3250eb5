"""Metrics, their intervals, and the report: what scores are worth against the targets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
