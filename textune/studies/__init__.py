"""Several runs that answer one question together; after `pipeline`, before `launch`.

`runs.py` carries them out, whatever the question.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
