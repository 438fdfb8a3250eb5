"""Targets and scores in, batch by batch; metrics, their intervals and a report out; after `prediction`, before
`run`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
