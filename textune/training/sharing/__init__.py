"""Ways to share one model's training: alone, copies of it (DDP), slices of its weights (FSDP2, DeepSpeed); one module
each.

A module has two functions, `require` and `share` (see `learner.py`), and a row in `textune.training.learner.SHARINGS`.
"""
