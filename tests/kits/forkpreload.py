"""Imports what training a tiny BERT imports, and starts no threads; `forking` forks from a process that has done
so."""

import contextlib
import importlib

import torch

NEEDED = (
    "kits.ranking",
    "scipy.stats",
    "sklearn.metrics",
    "textune.cli",
    "textune.console",
    "textune.pipeline.train",
    "textune.pipeline.predict_files",
    "textune.training.sharing.ddp",
    "textune.training.sharing.fsdp",
    "torch.distributed.run",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
)
IF_THERE = ("accelerate.utils", "deepspeed")
"""What transformers imports to save a model, where it is installed."""

for name in NEEDED:
    importlib.import_module(name)
for name in IF_THERE:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
torch.set_num_threads(1)
