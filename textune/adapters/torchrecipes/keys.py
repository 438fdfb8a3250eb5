"""Every key of the recipe's configuration: its type, its default, and what becomes of it.

To add a key, write a row in `KEYS`. A table that names a class (`_target_`) has its keys where that is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SPEED = "it decides how fast rows are read, which textune does in a thread"
_SHOWN = "it is about what the terminal shows"
_SWEEP = "Leave it out; textune sweep tries several values of any key."


@dataclass(frozen=True)
class Key:
    """One key."""

    takes: Any
    """Its type."""
    default: Any = None
    """Lightning's or the recipe's own."""
    unused: str = ""
    """Why it changes nothing here."""
    only: tuple[Any, ...] = ()
    """The values that can be had, where others cannot."""
    instead: str = ""
    """What to write instead of those others."""


def _only(*values: Any, instead: str, takes: Any = Any) -> Key:
    """A key of which only these values can be had, the first of which is its default."""
    return Key(takes, values[0], only=values, instead=instead)


def _unused(reason: str, default: Any = None) -> Key:
    return Key(Any, default, unused=reason)


_TRAINER: Mapping[str, Key] = {
    "_target_": _only(
        None,
        "pytorch_lightning.trainer.Trainer",
        "pytorch_lightning.Trainer",
        "lightning.pytorch.Trainer",
        "lightning.pytorch.trainer.Trainer",
        "lightning.Trainer",
        instead="textune trains; a loop of your own is docs/extending.md, and your own callbacks stay callbacks.",
    ),
    "accelerator": Key(str | None),
    "devices": Key(int | str | list[int] | None),
    "gpus": Key(int | str | list[int] | None),
    "num_processes": Key(int | None),
    "num_nodes": _only(1, instead="textune launch CONFIG --nodes N starts a job on several machines.", takes=int),
    "strategy": Key(str | None),
    "plugins": Key(list[str] | str | None),
    "precision": Key(int | str, 32),
    "max_epochs": Key(int | None),
    "max_steps": Key(int | None, -1),
    "min_epochs": _only(None, 0, 1, instead="Leave it out: nothing but early stopping ends a run sooner."),
    "min_steps": _only(None, 0, instead="Leave it out: nothing but early stopping ends a run sooner."),
    "max_time": _only(
        None, instead="Give trainer.max_steps; a scheduler's own limit stops a run, which then resumes."
    ),
    "accumulate_grad_batches": Key(int | None, 1),
    "gradient_clip_val": Key(float | None),
    "gradient_clip_algorithm": _only(None, "norm", instead="Leave it out: gradients are clipped by their norm."),
    "check_val_every_n_epoch": Key(int | None, 1),
    "val_check_interval": Key(int | float | None, 1.0),
    "limit_train_batches": Key(int | float | None, 1.0),
    "limit_val_batches": Key(int | float | None, 1.0),
    "limit_test_batches": Key(int | float | None, 1.0),
    "overfit_batches": _only(0.0, 0, instead="trainer.limit_train_batches=N trains on the first N batches."),
    "log_every_n_steps": Key(int | None, 50),
    "logger": Key(Any, True),
    "callbacks": Key(Any),
    "enable_checkpointing": Key(bool | None, True),
    "checkpoint_callback": Key(bool | None),
    "default_root_dir": Key(str | None),
    "resume_from_checkpoint": Key(str | None),
    "fast_dev_run": Key(bool | int, False),
    "deterministic": Key(bool | str | None, False),
    "profiler": _only(None, instead="Leave it out; metrics.jsonl has the speed of every step."),
    "stochastic_weight_avg": _only(False, None, instead="Leave it out: weights are not averaged here."),
    "auto_lr_find": _only(False, None, instead=_SWEEP),
    "auto_scale_batch_size": _only(
        False, None, instead="Leave it out: how many rows fit at once is found out anyway, whatever the batch size."
    ),
    "tpu_cores": _only(None, instead="Train on a GPU or a processor: there is no TPU for the PyTorch that this uses."),
    "ipus": _only(None, instead="Train on a GPU or a processor."),
    "amp_backend": _only("native", None, instead="Leave it out: PyTorch's own is used."),
    "amp_level": _only(None, instead="Leave it out; trainer.precision says it."),
    "reload_dataloaders_every_n_epochs": _only(0, instead="Leave it out: the rows stay the same."),
    "multiple_trainloader_mode": _unused("there is one source of rows"),
    "auto_select_gpus": _unused("CUDA_VISIBLE_DEVICES says which GPUs"),
    "benchmark": _unused("it is about convolutions"),
    "detect_anomaly": _unused("a step whose gradient is not finite stops the run, with its number"),
    "enable_model_summary": _unused(_SHOWN),
    "enable_progress_bar": _unused(_SHOWN),
    "progress_bar_refresh_rate": _unused(_SHOWN),
    "flush_logs_every_n_steps": _unused("metrics.jsonl is written at once"),
    "move_metrics_to_cpu": _unused("metrics are computed from the few numbers that are kept of each row"),
    "num_sanity_val_steps": _unused("textune check and --dry-run find what does not fit"),
    "prepare_data_per_node": _unused("each file is tokenised once, whatever the processes"),
    "replace_sampler_ddp": _unused("each row of an epoch is trained on once, whatever the processes"),
    "use_distributed_sampler": _unused("each row of an epoch is trained on once, whatever the processes"),
    "sync_batchnorm": _unused("there are no batch norms"),
    "track_grad_norm": _unused("metrics.jsonl has the norm of every step"),
    "weights_save_path": _unused("checkpoints are in the run folder"),
    "inference_mode": _unused("evaluation needs no gradients"),
    "limit_predict_batches": _unused("the recipe predicts nothing"),
    "process_position": _unused(_SHOWN),
    "weights_summary": _unused(_SHOWN),
    "log_gpu_memory": _unused("nvidia-smi shows it"),
    "terminate_on_nan": _unused("a step whose gradient is not finite stops the run, with its number"),
    "truncated_bptt_steps": _unused("no model here goes through a text in pieces"),
    "reload_dataloaders_every_epoch": _unused("the rows stay the same"),
    "distributed_backend": _only(None, instead="Write trainer.strategy, as its name is today."),
    "barebones": _unused("it decides what is shown and saved"),
}

KEYS: Mapping[str, Key] = {
    "_target_": _only(
        None,
        "torchrecipes.text.doc_classification.train_app.DocClassificationTrainApp",
        instead="Only the application for document classification is known.",
    ),
    "random_seed": Key(int | None),
    "tb_save_dir": Key(str | None),
    "module._target_": _only(
        None,
        "torchrecipes.text.doc_classification.module.doc_classification.DocClassificationModule.from_config",
        "torchrecipes.text.doc_classification.module.doc_classification.DocClassificationModule",
        instead="The model and the optimizer may be your own: module.model._target_, module.optim._target_.",
    ),
    "module.num_classes": Key(int | None),
    "module.transform": _unused("it is transform, again"),
    "module.model": Key(dict[str, Any] | None),
    "module.optim": Key(dict[str, Any] | None),
    "datamodule._target_": _only(
        None,
        "torchrecipes.text.doc_classification.datamodule.doc_classification.DocClassificationDataModule.from_config",
        "torchrecipes.text.doc_classification.datamodule.doc_classification.DocClassificationDataModule",
        instead="A data set may be your own: datamodule.dataset._target_ names what returns its three parts.",
    ),
    "datamodule.dataset": Key(dict[str, Any] | None),
    "datamodule.columns": Key(list[str], ["text", "label"]),
    "datamodule.label_column": Key(str, "label"),
    "datamodule.batch_size": Key(int, 16),
    "datamodule.num_workers": _unused(_SPEED),
    "datamodule.pin_memory": _unused(_SPEED),
    "datamodule.drop_last": _unused("the recipe's loader gets whole batches, so it changes nothing there either"),
    "datamodule.transform": _unused("it is transform, again"),
    "transform._target_": _only(None, instead="Only transform.transform._target_ is read."),
    "transform.transform": Key(dict[str, Any] | None),
    "transform.label_transform": Key(dict[str, Any] | None),
    "transform.num_labels": Key(int | None),
    **{f"trainer.{name}": key for name, key in _TRAINER.items()},
}
"""By dotted key."""


def is_open(key: str) -> bool:
    """Whether a key holds a table of its own, whose keys are read elsewhere."""
    return KEYS[key].takes in (Any, dict[str, Any] | None)
