"""Prediction of large files by several processes: rows are cut into shards, each is predicted once and kept beside the
output as soon as it is done, and the output is all of them in order.

    files --inputs.py, plan.py--> shards --reading.py--> their rows --worker.py--> parts --output.py--> output

The verb is `predict_files.py`; processes of this machine or Ray (`rayengine.py`) do the work.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
