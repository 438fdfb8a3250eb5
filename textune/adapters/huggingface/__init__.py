"""The scripts of transformers for text classification: run_glue, run_glue_no_trainer, run_classification, run_xnli."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
