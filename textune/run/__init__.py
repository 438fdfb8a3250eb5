"""The parts of a run in; a run folder with its checkpoints and reports out; after `evaluation`, before `exports`.

Where a run starts, what it says, what stops it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
