"""Names that earlier versions of TrainingArguments had: what they are called today, or why they are not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Older:
    """An argument of an earlier version."""

    takes: Any
    name: str = ""
    """The field of today."""
    value: Callable[[Any], Any] = lambda value: value
    """Its value to that of today."""
    unused: str = ""
    """Why it changes nothing, where there is no such field."""
    refused: str = ""
    """What to do instead, where it cannot be done."""


_HUB = "it is about the hub: textune push has the same choice"
_PRECISION = "there is one way to compute in few bits, PyTorch's own"
_TPU = "there is no TPU here"

OLDER: Mapping[str, Older] = {
    "evaluation_strategy": Older(str, "eval_strategy"),
    "evaluate_during_training": Older(bool, "eval_strategy", lambda on: "steps" if on else "no"),
    "per_gpu_train_batch_size": Older(int, "per_device_train_batch_size"),
    "per_gpu_eval_batch_size": Older(int, "per_device_eval_batch_size"),
    "no_cuda": Older(bool, "use_cpu"),
    "warmup_ratio": Older(float | None, "warmup_steps"),
    "group_by_length": Older(bool, "train_sampling_strategy", lambda on: "group_by_length" if on else "random"),
    "adafactor": Older(bool, "optim", lambda on: "adafactor" if on else "adamw_torch"),
    "torchdynamo": Older(str | None, "torch_compile", bool),
    "include_tokens_per_second": Older(bool, unused="every logged step has the tokens per second"),
    "include_inputs_for_metrics": Older(bool, unused="metrics have what they need"),
    "push_to_hub_model_id": Older(str | None, "hub_model_id"),
    "push_to_hub_token": Older(str | None, "hub_token"),
    "push_to_hub_organization": Older(str | None, unused=_HUB),
    "logging_dir": Older(str | None, unused="tensorboard's files are in the run folder (tensorboard/)"),
    "overwrite_output_dir": Older(bool, unused="a run folder is never overwritten: a run resumes, or takes another"),
    "save_safetensors": Older(bool, unused="weights are always saved as safetensors"),
    "fp16_opt_level": Older(str, unused=_PRECISION),
    "fp16_backend": Older(str, unused=_PRECISION),
    "half_precision_backend": Older(str, unused=_PRECISION),
    "tpu_num_cores": Older(int | None, unused=_TPU),
    "tpu_metrics_debug": Older(bool, unused=_TPU),
    "use_mps_device": Older(bool, unused="train.device says where to compute"),
    "use_ipex": Older(bool, unused="layers are computed by kernels of textune's own where that is faster"),
    "jit_mode_eval": Older(bool, unused="layers are computed by kernels of textune's own where that is faster"),
    "past_index": Older(int, unused="no earlier output is fed to a classifier"),
    "use_legacy_prediction_loop": Older(bool, unused="there is one loop"),
    "ray_scope": Older(str, unused="sweeps are textune sweep"),
    "xpu_backend": Older(str | None, unused="gloo connects processors, nccl connects GPUs"),
    "mp_parameters": Older(str, unused="it is about SageMaker's own library"),
    "dispatch_batches": Older(bool | None, unused="every process reads its own share of a batch"),
    "split_batches": Older(bool | None, "accelerator_config", lambda on: {"split_batches": bool(on)}),
    "sharded_ddp": Older(str | bool | list[str], refused="Write fsdp, or deepspeed, which replaced it."),
    "fsdp_min_num_params": Older(int, unused="layers are sharded one by one"),
    "fsdp_transformer_layer_cls_to_wrap": Older(str | None, unused="layers are sharded one by one"),
}
"""By name."""
