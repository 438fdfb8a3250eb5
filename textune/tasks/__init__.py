"""The `task` section and a label map in, a `Task` out: its heads know losses, weights, scores, decisions and metrics;
after `batches`, before `model`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
