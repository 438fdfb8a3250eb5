"""The keys of a DeepSpeed JSON file (0.19): which there are, which textune owns, which it refuses; for `plan.py`.

Data alone: `tests/training/test_zeroconfig.py` compares it with the DeepSpeed that is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import JsonValue

OPTIMIZERS = {"adamw": frozenset({"adamw", "adam"})}
"""`train.optimizer.kind` to the types of DeepSpeed that do the same: its "Adam" decays as AdamW does unless configured
otherwise."""

SCHEDULERS = {
    "linear": "WarmupDecayLR",
    "cosine": "WarmupCosineLR",
    "constant": "WarmupLR",
    "constant_with_warmup": "WarmupLR",
}
"""`train.schedule.kind` to the scheduler of DeepSpeed with that shape; it has none of the others."""

OLD_OFFLOAD = frozenset({"cpu_offload", "cpu_offload_param", "cpu_offload_use_pin_memory"})
"""Former spelling of `offload_optimizer` and `offload_param`; compared, then left out."""

NEEDED: dict[str, tuple[JsonValue, str]] = {
    "optimizer.params.adam_w_mode": (True, "AdamW's decay is decoupled"),
    "optimizer.params.amsgrad": (False, "textune's AdamW has no such variant"),
    "optimizer.params.bias_correction": (True, "textune's AdamW corrects its moments"),
    "zero_force_ds_cpu_optimizer": (False, "textune's own AdamW runs on the processor"),
    "managed_gradient_accumulation": (True, "textune decides which micro-batch ends a step"),
    "gradient_allreduce_op": ("mean", "textune counts on the mean and scales its losses by the number of ranks"),
    "dataloader_drop_last": (False, "textune trains on every row"),
    "sequence_parallel_size": (1, "textune splits batches, not sequences"),
    "data_types.grad_accum_dtype": ("fp32", "gradients add up in fp32"),
    "data_types.param_dtype": ("fp32", "weights stay fp32"),
    "fp16.fp16_master_weights_and_grads": (False, "weights stay fp32"),
    "bf16.bf16_master_weights_and_grads": (False, "weights stay fp32"),
    "bf16.bf16_optimizer_states": (False, "the optimizer's state stays fp32"),
    "zero_optimization.compute_grad_norm": (True, "textune logs the gradient's norm"),
    "zero_optimization.offload_optimizer.ratio": (1, "the optimizer's state lies in one place"),
    "zero_optimization.offload_optimizer.super_offload": (False, "it brings an optimizer of its own"),
}
"""Values that textune relies on, and why."""

REFUSED: dict[str, str] = {
    "amp": "use train.precision",
    "autotuning": "train.max_tokens is measured instead",
    "compile": "use model.compile",
    "compression_training": "it trains another model",
    "curriculum_learning": "use train.order",
    "data_efficiency": "use train.order",
    "eigenvalue": "it belongs to quantisation",
    "elasticity": "train.batch_size is the same on any number of devices",
    "expert_parallel": "the backbones have no experts to split over devices",
    "graph_harvesting": "it needs steps of one shape",
    "hybrid_engine": "it generates text",
    "nebula": "checkpoints are textune's",
    "pipeline": "layers are not split over devices",
    "progressive_layer_drop": "it leaves layers out",
    "quantize_training": "it trains another model",
    "sparse_attention": "use model.attention",
    "sparse_gradients": "use train.compact_vocabulary",
    "tensor_parallel": "layers are not split over devices",
    "weight_quantization": "it trains another model",
    "zero_optimization.zenflow": "its updates come late",
}
"""Features that change what is trained, or that textune has itself. A section with `"enabled": false` is accepted."""

OWNED = frozenset(
    {
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "optimizer",
        "scheduler",
        "fp16",
        "bf16",
        "bfloat16",
        "torch_autocast",
        "data_types",
        *(path for path in REFUSED if "." not in path),
        *(path for path in NEEDED if "." not in path),
    }
)
"""Top-level keys that are compared and then written by textune, or left out."""

_PASSED = frozenset(
    {
        "activation_checkpointing",
        "aio",
        "checkpoint",
        "comet",
        "comms_logger",
        "communication_data_type",
        "csv_monitor",
        "disable_allgather",
        "disable_python_gc",
        "dump_state",
        "flops_profiler",
        "gradient_predivide_factor",
        "log_level",
        "memory_breakdown",
        "prescale_gradients",
        "seq_parallel_communication_data_type",
        "steps_per_print",
        "tensorboard",
        "timers",
        "use_data_before_expert_parallelism",
        "vocabulary_size",
        "wall_clock_breakdown",
        "wandb",
        "zero_allow_untested_optimizer",
        "zero_optimization",
    }
)

_BF16 = frozenset(
    {
        "enabled",
        "bf16_master_weights_and_grads",
        "bf16_optimizer_states",
        "check_grad_overflow",
        "check_overflow",
        "immediate_grad_update",
    }
)

KNOWN: dict[str, frozenset[str]] = {
    "": OWNED | _PASSED,
    "optimizer": frozenset({"type", "params", "legacy_fusion"}),
    "optimizer.params": frozenset(
        {
            "lr",
            "betas",
            "eps",
            "weight_decay",
            "bias_correction",
            "torch_adam",
            "adam_w_mode",
            "amsgrad",
            "max_grad_norm",
        }
    ),
    "scheduler": frozenset({"type", "params"}),
    "scheduler.params": frozenset(
        {
            "cos_min_ratio",
            "last_batch_iteration",
            "lr",
            "total_num_steps",
            "warmup_max_lr",
            "warmup_min_lr",
            "warmup_min_ratio",
            "warmup_num_steps",
            "warmup_type",
        }
    ),
    "fp16": frozenset(
        {
            "enabled",
            "auto_cast",
            "consecutive_hysteresis",
            "fp16_master_weights_and_grads",
            "hysteresis",
            "initial_scale_power",
            "loss_scale",
            "loss_scale_window",
            "min_loss_scale",
        }
    ),
    "bf16": _BF16,
    "bfloat16": _BF16,
    "torch_autocast": frozenset({"enabled", "dtype", "lower_precision_safe_modules"}),
    "data_types": frozenset({"grad_accum_dtype", "param_dtype", "buffer_dtype", "keep_in_fp32_modules"}),
    "zero_optimization": frozenset(
        {
            "allgather_bucket_size",
            "allgather_partitions",
            "compute_grad_norm",
            "contiguous_gradients",
            "elastic_checkpoint",
            "enable_sanity_checks",
            "ignore_unused_parameters",
            "leaf_module",
            "legacy_stage1",
            "load_from_fp32_weights",
            "log_trace_cache_warnings",
            "memory_efficient_linear",
            "offload_optimizer",
            "offload_param",
            "overlap_comm",
            "override_module_apply",
            "parameter_alignment",
            "pipeline_loading_checkpoint",
            "reduce_bucket_size",
            "reduce_scatter",
            "round_robin_gradients",
            "save_muon_momentum_buffer_in_memory",
            "stage",
            "stage3_allgather_sequential",
            "stage3_gather_16bit_weights_on_model_save",
            "stage3_gather_fp16_weights_on_model_save",
            "stage3_max_live_parameters",
            "stage3_max_reuse_distance",
            "stage3_model_persistence_threshold",
            "stage3_module_granularity_threshold",
            "stage3_param_persistence_threshold",
            "stage3_prefetch_bucket_size",
            "stage3_use_all_reduce_for_fetch_params",
            "sub_group_size",
            "use_multi_rank_bucket_allreduce",
            "zenflow",
            "zero_hpz_partition_size",
            "zero_quantized_gradients",
            "zero_quantized_nontrainable_weights",
            "zero_quantized_weights",
            *OLD_OFFLOAD,
        }
    ),
    "zero_optimization.offload_optimizer": frozenset(
        {
            "buffer_count",
            "cpuadam_cores_perc",
            "device",
            "fast_init",
            "nvme_path",
            "pin_memory",
            "pipeline_read",
            "pipeline_write",
            "ratio",
            "super_offload",
        }
    ),
    "zero_optimization.offload_param": frozenset(
        {"buffer_count", "buffer_size", "device", "max_in_cpu", "nvme_path", "pin_memory"}
    ),
}
"""By section, every key that DeepSpeed reads there."""
