"""A config in, a proof out: the run is killed at random moments, and ends like one that nobody killed; after
`launch`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
