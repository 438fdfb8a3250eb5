"""What a run says while it works, and who is told: metrics.jsonl, the caller, and the trackers of `[[track]]`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
