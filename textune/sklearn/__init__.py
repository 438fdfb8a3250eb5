"""Text models as estimators of scikit-learn: texts and labels in, a fitted estimator out; after `pipeline`, beside the
command line.

texts, y --targets.py, fitting.py--> `textune.train` --> kept.py (the model folder) --estimators.py--> predictions
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
