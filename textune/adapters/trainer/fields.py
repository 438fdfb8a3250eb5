"""Every field of TrainingArguments: what it takes, its default, and what becomes of it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Text = str | None
Table = dict[str, Any] | str | None
"""A table, or the path of a JSON file with one."""
Texts = list[str] | str | None


@dataclass(frozen=True)
class Field:
    """One argument. It becomes lines, unless it says why not."""

    takes: Any
    default: object
    unused: str = ""
    """Why it changes nothing here, whatever its value."""
    refused: str = ""
    """What to do instead of any value but the default and those of `harmless`."""
    harmless: tuple[object, ...] = ()


_OWN_MEMORY = "a batch is cut into parts that fit into memory, with the same gradient (train.max_tokens)"
_OWN_EVALUATION = "evaluation cuts rows into parts by evaluate.max_tokens, with the same scores"
_LOADING = "batches are prepared ahead in a thread (train.prefetch)"
_OWN_DDP = "processes find each other and share gradients by themselves"
_TRACKIO = "it is about trackio alone: put it into the options of that tracker"
_HUB = "it is about the hub: textune push has the same choice"
_KERNELS = "layers are computed by kernels of textune's own where that is faster (model.compile)"
_RESUME = "a resumed run goes on with the next row, and with all of its state"
_LOGS = "what a run says is in run.log and metrics.jsonl; --quiet leaves the terminal alone"

FIELDS: Mapping[str, Field] = {
    # length, batches
    "output_dir": Field(Text, None),
    "per_device_train_batch_size": Field(int, 8),
    "num_train_epochs": Field(float, 3.0),
    "max_steps": Field(int, -1),
    "gradient_accumulation_steps": Field(int, 1),
    "auto_find_batch_size": Field(bool, False, unused=_OWN_MEMORY),
    "train_sampling_strategy": Field(Literal["random", "group_by_length", "sequential"], "random"),
    "length_column_name": Field(str, "length", unused="lengths are counted from the rows themselves"),
    "average_tokens_across_devices": Field(
        bool, True, unused="the loss is the mean over the rows of the whole batch, on any number of devices"
    ),
    # the update
    "learning_rate": Field(float, 5e-5),
    "lr_scheduler_type": Field(str, "linear"),
    "lr_scheduler_kwargs": Field(Table, None),
    "warmup_steps": Field(float, 0.0),
    "optim": Field(str, "adamw_torch_fused"),
    "optim_args": Field(Text, None),
    "optim_target_modules": Field(Texts, None, refused="Leave it out: it belongs to optimizers that are not here."),
    "weight_decay": Field(float, 0.0),
    "adam_beta1": Field(float, 0.9),
    "adam_beta2": Field(float, 0.999),
    "adam_epsilon": Field(float, 1e-8),
    "max_grad_norm": Field(float | None, 1.0),
    "label_smoothing_factor": Field(float, 0.0),
    "neftune_noise_alpha": Field(
        float | None, None, refused="Leave it out: noise is not added to embeddings here.", harmless=(0.0,)
    ),
    # arithmetic, memory
    "bf16": Field(bool, False),
    "fp16": Field(bool, False),
    "bf16_full_eval": Field(bool, False, unused="evaluation has the arithmetic of training (train.precision)"),
    "fp16_full_eval": Field(bool, False, unused="evaluation has the arithmetic of training (train.precision)"),
    "tf32": Field(bool | None, None, unused="fp32 is computed in fp32, which is more exact; bf16 is the fast way"),
    "activation_checkpointing": Field(bool | None, None),
    "activation_checkpointing_kwargs": Field(Table, None, unused="there is one way, which has the same gradient"),
    "gradient_checkpointing": Field(bool | None, None),
    "gradient_checkpointing_kwargs": Field(Table, None, unused="there is one way, which has the same gradient"),
    "torch_compile": Field(bool, False),
    "torch_compile_backend": Field(Text, None, unused=_KERNELS),
    "torch_compile_mode": Field(Text, None, unused=_KERNELS),
    "use_liger_kernel": Field(bool, False, unused=_KERNELS),
    "liger_kernel_config": Field(Table, None, unused=_KERNELS),
    "use_cache": Field(bool, False, unused="it is about generating text"),
    "torch_empty_cache_steps": Field(int | None, None, unused=_OWN_MEMORY),
    "use_cpu": Field(bool, False),
    # what a run says
    "logging_strategy": Field(Literal["no", "steps", "epoch"], "steps"),
    "logging_steps": Field(float, 500.0),
    "logging_first_step": Field(bool, False, unused="only the steps of train.log_every are logged"),
    "log_on_each_node": Field(bool, True, unused="one process speaks for all"),
    "logging_nan_inf_filter": Field(bool, True, unused="a loss that is no number stops the run and says so"),
    "include_num_input_tokens_seen": Field(str | bool, "no", unused="every logged step has the tokens per second"),
    "log_level": Field(str, "passive", unused=_LOGS),
    "log_level_replica": Field(str, "warning", unused=_LOGS),
    "disable_tqdm": Field(bool | None, None, unused=_LOGS),
    "report_to": Field(Texts, "none"),
    "run_name": Field(Text, None),
    "project": Field(str, "huggingface"),
    "trackio_space_id": Field(Text, None, unused=_TRACKIO),
    "trackio_bucket_id": Field(Text, None, unused=_TRACKIO),
    "trackio_static_space_id": Field(str | bool | None, None, unused=_TRACKIO),
    # evaluation
    "do_train": Field(bool, False),
    "do_eval": Field(bool, False),
    "do_predict": Field(bool, False),
    "eval_strategy": Field(Literal["no", "steps", "epoch"], "no"),
    "eval_steps": Field(float | None, None),
    "eval_delay": Field(float, 0.0, unused="the first evaluation is not put off, and may be the best one"),
    "eval_on_start": Field(bool, False),
    "per_device_eval_batch_size": Field(int, 8, unused=_OWN_EVALUATION),
    "prediction_loss_only": Field(bool, False, unused="metrics are computed batch by batch, in little memory"),
    "eval_do_concat_batches": Field(bool, True, unused=_OWN_EVALUATION),
    "eval_use_gather_object": Field(bool, False, unused=_OWN_EVALUATION),
    "eval_accumulation_steps": Field(int | None, None, unused=_OWN_EVALUATION),
    "include_for_metrics": Field(Texts, [], unused="metrics have what they need"),
    "batch_eval_metrics": Field(bool, False, unused="metrics are computed batch by batch, in little memory"),
    "metric_for_best_model": Field(Text, None),
    "greater_is_better": Field(bool | None, None),
    "load_best_model_at_end": Field(bool, False),
    # what is saved
    "save_strategy": Field(Literal["no", "steps", "epoch", "best"], "steps"),
    "save_steps": Field(float, 500.0),
    "save_total_limit": Field(int | None, None),
    "save_only_model": Field(bool, False),
    "save_on_each_node": Field(bool, False, unused="one process writes for all"),
    "enable_jit_checkpoint": Field(bool, False, unused="a signal makes a run save everything before it stops"),
    "push_to_hub": Field(bool, False, unused="when the run is complete, textune push RUN NAME puts it on the hub"),
    "hub_token": Field(Text, None, unused="a token is never written into a config: textune push takes it"),
    "hub_private_repo": Field(bool | None, None, unused=_HUB),
    "hub_model_id": Field(Text, None, unused=_HUB),
    "hub_strategy": Field(Literal["end", "every_save", "checkpoint", "all_checkpoints"], "every_save", unused=_HUB),
    "hub_always_push": Field(bool, False, unused=_HUB),
    "hub_revision": Field(Text, None, unused=_HUB),
    # resuming, chance
    "resume_from_checkpoint": Field(str | bool | None, None),
    "ignore_data_skip": Field(bool, False, unused=_RESUME),
    "restore_callback_states_from_checkpoint": Field(bool, False, unused=_RESUME),
    "full_determinism": Field(bool, False),
    "seed": Field(int, 42),
    "data_seed": Field(int | None, None),
    # loading
    "accelerator_config": Field(Table, None),
    "parallelism_config": Field(Table, None, refused="Set train.distributed in a config of textune."),
    "dataloader_drop_last": Field(
        bool, False, refused="Leave it out: every row is trained on, and the last batch of an epoch may be smaller."
    ),
    "dataloader_num_workers": Field(int, 0, unused=_LOADING),
    "dataloader_pin_memory": Field(bool, True, unused=_LOADING),
    "dataloader_persistent_workers": Field(bool, False, unused=_LOADING),
    "dataloader_prefetch_factor": Field(int | None, None, unused=_LOADING),
    "dataloader_multiprocessing_context": Field(Text, None, unused=_LOADING),
    "dataloader_in_order": Field(bool, True, unused=_LOADING),
    "remove_unused_columns": Field(bool, True, unused="only the columns that are named are read"),
    "label_names": Field(Texts, None, unused="labels are read from data.columns"),
    # several devices
    "ddp_find_unused_parameters": Field(bool | None, None, unused=_OWN_DDP),
    "ddp_bucket_cap_mb": Field(int | None, None, unused=_OWN_DDP),
    "ddp_broadcast_buffers": Field(bool | None, None, unused=_OWN_DDP),
    "ddp_static_graph": Field(bool | None, None, unused=_OWN_DDP),
    "ddp_backend": Field(Text, None, unused="gloo connects processors, nccl connects GPUs"),
    "ddp_timeout": Field(int, 1800, unused=_OWN_DDP),
    "fsdp": Field(str | bool | list[str] | None, None),
    "fsdp_config": Field(Table, None),
    "deepspeed": Field(Table, None),
    "debug": Field(Texts, "", unused="a loss that is no number stops the run and says so"),
    "skip_memory_metrics": Field(bool, True, unused="memory is not measured while a run trains"),
    "local_rank": Field(int, -1, unused="the launcher says which process this is"),
}
"""By name, as in transformers 5; `tests/adapters/test_trainer.py` compares it with the installed one."""
