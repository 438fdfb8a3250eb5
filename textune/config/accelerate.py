"""What `accelerate launch` tells its processes beside the configuration: each of its settings, and what becomes of it.

It passes what `accelerate config` wrote, and its own defaults, in environment variables. One config says how a run is
computed, so a setting equals the config's, or both are named in one sentence. Its defaults ("no", one step, no
clipping) count as not set. To add another setting, write a row of `SETTINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from textune.config.schema import Experiment, ModelSection
from textune.config.sharing import DeepSpeed, Sharded

STARTED = "ACCELERATE_MIXED_PRECISION"
"""Every launcher of accelerate sets it."""
OWN_PREFIX = "ACCELERATE_"


@dataclass(frozen=True)
class Here:
    """What this process computes with."""

    experiment: Experiment
    device: str
    """`cuda` or `cpu`."""
    precision: str
    """`fp32`, `bf16` or `fp16`, which `train.precision` stands for here."""


@dataclass(frozen=True)
class Difference:
    """A setting of accelerate that is not the configuration's."""

    asked: str
    """What accelerate asks for, such as `mixed precision fp16`."""
    here: str
    """What the configuration says, with its key."""
    do: str
    """What to set, such as `train.precision = "fp16"`."""


Compare: TypeAlias = Callable[[str, Here], Difference | None]
"""From the text of a variable to what differs."""


@dataclass(frozen=True)
class Said:
    """A setting that changes speed or memory alone, so that a difference is said and not refused."""

    compare: Compare


def is_true(text: str) -> bool:
    """Whether accelerate reads it as true."""
    return text.lower() in ("y", "yes", "t", "true", "on", "1")


def _precision(text: str, here: Here) -> Difference | None:
    wanted = text.lower()
    if wanted in ("no", "", here.precision):
        return None
    known = wanted in ("bf16", "fp16")
    section = here.experiment.train.precision
    return Difference(
        f"mixed precision {wanted}",
        f'train.precision = "{section}" computes in {here.precision}',
        f'train.precision = "{wanted}"' if known else "another mixed precision there",
    )


def _on_cpu(text: str, here: Here) -> Difference | None:
    if not is_true(text) or here.device == "cpu":
        return None
    said = f'train.device = "{here.experiment.train.device}" computes on a GPU'
    return Difference("the processor", said, 'train.device = "cpu"')


def _device(text: str, here: Here) -> Difference | None:
    wanted = text.lower().partition(":")[0]
    if wanted in ("", here.device):
        return None
    said = f'train.device = "{here.experiment.train.device}" computes on {here.device}'
    known = wanted in ("cpu", "cuda")
    return Difference(f"the device {text}", said, f'train.device = "{wanted}"' if known else "cpu or cuda there")


def _compiler(text: str, here: Here) -> Difference | None:
    backend = text.lower()
    if backend in ("no", ""):
        return None
    model = here.experiment.model
    if not isinstance(model, ModelSection):
        said = f'model.kind = "{model.kind}" is computed by PyTorch\'s own operators'
        return Difference(f"the compiler {backend}", said, "dynamo_backend: no there")
    said = f'model.compile = "{model.compile}"'
    if backend == "inductor":
        return Difference("the compiler inductor", said, 'model.compile = "auto"') if model.compile == "off" else None
    said += " compiles with TorchInductor or textune's own kernels"
    return Difference(f"the compiler {backend}", said, "dynamo_backend: inductor there")


def _compiler_mode(text: str, here: Here) -> Difference | None:
    if text.lower() in ("default", "none", ""):
        return None
    return Difference(f"the compiler's mode {text}", "textune compiles in the default mode", "dynamo_mode: default")


def _accumulation(text: str, here: Here) -> Difference | None:
    if text.lower() in ("1", "auto", "none", ""):
        return None
    rows = here.experiment.train.batch_size
    said = f"train.batch_size = {rows} rows make a step, in as many micro-batches as memory needs"
    return Difference(f"{text} steps of gradient accumulation", said, "train.batch_size to the rows of all of them")


def _clipping(text: str, here: Here) -> Difference | None:
    own = here.experiment.train.max_grad_norm
    try:
        wanted = float(text)
    except ValueError:  # none, auto: as here
        return None
    if wanted == own:
        return None
    return Difference(
        f"gradient clipping at {text}", f"train.max_grad_norm = {own:g}", f"train.max_grad_norm = {wanted:g}"
    )


def _kind(wanted: str) -> Compare:
    """That the way of sharing is the one which a switch of accelerate turns on."""

    def compare(text: str, here: Here) -> Difference | None:
        own = here.experiment.train.distributed.kind
        if not is_true(text) or own == wanted:
            return None
        do = f'train.distributed.kind = "{wanted}"'
        return Difference(wanted, f'train.distributed.kind = "{own}"', do)

    return compare


def _impossible(what: str, instead: str, *, when: Callable[[str], bool] = is_true) -> Compare:
    """That accelerate does not ask for what textune does not have."""

    def compare(text: str, here: Here) -> Difference | None:
        own = f'train.distributed.kind = "{here.experiment.train.distributed.kind}" does not have it'
        return Difference(what, own, instead) if when(text) else None

    return compare


def _stage(text: str, here: Here) -> Difference | None:
    sharing = here.experiment.train.distributed
    if not isinstance(sharing, DeepSpeed) or text == str(sharing.stage):
        return None
    do = f"train.distributed.stage = {text}" if text in "123" else 'train.distributed.kind = "ddp"'
    return Difference(f"ZeRO stage {text}", f"train.distributed.stage = {sharing.stage}", do)


def _offload(what: str) -> Compare:
    def compare(text: str, here: Here) -> Difference | None:
        place = text.lower()
        sharing = here.experiment.train.distributed
        if place in ("none", "", "false") or not isinstance(sharing, DeepSpeed | Sharded):
            return None
        said = f"train.distributed.cpu_offload = {str(sharing.cpu_offload).lower()}"
        if place == "nvme":
            return Difference(f"{what} on NVMe", f"{said}, and textune keeps nothing there", "cpu there")
        if sharing.cpu_offload:
            return None
        return Difference(f"{what} in host memory", said, "train.distributed.cpu_offload = true")

    return compare


def _deepspeed_file(text: str, here: Here) -> Difference | None:
    sharing = here.experiment.train.distributed
    if text.lower() in ("none", "") or not isinstance(sharing, DeepSpeed):
        return None
    own = sharing.config
    if own is not None and Path(own).resolve() == Path(text).resolve():
        return None
    said = "train.distributed.config is not set" if own is None else f'train.distributed.config = "{own}"'
    return Difference(f"the DeepSpeed file {text}", said, f'train.distributed.config = "{text}"')


def _strategy(text: str, here: Here) -> Difference | None:
    names = {"1": "FULL_SHARD", "2": "SHARD_GRAD_OP", "3": "NO_SHARD", "4": "HYBRID_SHARD", "5": "HYBRID_SHARD_ZERO2"}
    wanted = names.get(text, text.upper())
    if wanted in ("FULL_SHARD", "NONE", ""):
        return None
    said = 'train.distributed.kind = "fsdp" shards weights, gradients and optimizer state over all processes'
    do = 'train.distributed.kind = "ddp"' if wanted == "NO_SHARD" else "fsdp_sharding_strategy: FULL_SHARD there"
    return Difference(f"the sharding strategy {wanted}", said, do)


def _reshard(text: str, here: Here) -> Difference | None:
    if text.lower() in ("true", "full_shard", "none", ""):
        return None
    said = 'train.distributed.kind = "fsdp" shards the weights of a layer again after its forward pass'
    return Difference(f"fsdp_reshard_after_forward: {text}", said, "fsdp_reshard_after_forward: true there")


def _recompute(text: str, here: Here) -> Difference | None:
    if not is_true(text) or here.experiment.train.gradient_checkpointing:
        return None
    said = "train.gradient_checkpointing = false"
    return Difference("activation checkpointing", said, "train.gradient_checkpointing = true")


def _recompute_offload(text: str, here: Here) -> Difference | None:
    if not is_true(text):
        return None
    said = "train.gradient_checkpointing keeps the inputs of layers on the device"
    return Difference("activation checkpointing with offloading", said, "a smaller train.max_tokens")


def _dimension(what: str) -> Compare:
    """Of accelerate's mesh of processes: one that textune does not have must be 1."""
    return _impossible(what, "the size 1 there", when=lambda text: text.isdigit() and int(text) > 1)


def _affinity(text: str, here: Here) -> Difference | None:
    if not is_true(text):
        return None
    said = "textune leaves processes on the processors that the system gives them"
    return Difference("processes that are bound to processors", said, "numactl or taskset before the command")


_UNITS = "weights are sharded layer by layer, whatever the model"
_WHEN_GATHERED = "when weights are gathered is FSDP2's own choice"
_WHOLE_WEIGHTS = "every process reads its share of the weights, from files or from the first process's"
_FOR_FP8 = "counts with mixed precision fp8 alone, which is refused"
_COMPILES = "which graphs are compiled is textune's own choice: see model.compile"
_WITH_ITS_SIZE = "counts where its size is above 1, which is refused"

SETTINGS: dict[str, Compare | Said | str] = {
    STARTED: _precision,
    "ACCELERATE_FP8_*": _FOR_FP8,
    "ACCELERATE_USE_CPU": _on_cpu,
    "ACCELERATE_TORCH_DEVICE": _device,
    "ACCELERATE_CPU_AFFINITY": Said(_affinity),
    "ACCELERATE_DYNAMO_BACKEND": _compiler,
    "ACCELERATE_DYNAMO_MODE": Said(_compiler_mode),
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": _COMPILES,
    "ACCELERATE_DYNAMO_USE_DYNAMIC": _COMPILES,
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": _COMPILES,
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": _accumulation,
    "ACCELERATE_GRADIENT_CLIPPING": _clipping,
    "ACCELERATE_USE_DEEPSPEED": _kind("deepspeed"),
    "ACCELERATE_CONFIG_DS_FIELDS": "names the fields that its own file set, which have variables of their own",
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": _stage,
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": _deepspeed_file,
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": _offload("optimizer state"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": _offload("weights"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_NVME_PATH": "counts with NVMe alone, which is refused",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_NVME_PATH": "counts with NVMe alone, which is refused",
    "ACCELERATE_DEEPSPEED_ZERO3_INIT": "how weights are made before they are sharded changes no result",
    "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "models and checkpoints always hold whole weights, in fp32",
    "ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES": _impossible(
        "layers of experts as leaves of ZeRO-3",
        "no deepspeed_moe_layer_cls_names there",
        when=lambda text: text.lower() not in ("", "none"),
    ),
    "ACCELERATE_USE_FSDP": _kind("fsdp"),
    "FSDP_VERSION": "both versions compute the same; textune's is FSDP2",
    "FSDP_SHARDING_STRATEGY": _strategy,
    "FSDP_RESHARD_AFTER_FORWARD": Said(_reshard),
    "FSDP_OFFLOAD_PARAMS": _offload("weights"),
    "FSDP_ACTIVATION_CHECKPOINTING": _recompute,
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": Said(_recompute_offload),
    "FSDP_MIN_NUM_PARAMS": _UNITS,
    "FSDP_AUTO_WRAP_POLICY": _UNITS,
    "FSDP_TRANSFORMER_CLS_TO_WRAP": _UNITS,
    "FSDP_IGNORED_MODULES": _UNITS,
    "FSDP_USE_ORIG_PARAMS": "FSDP2 always keeps the original parameters",
    "FSDP_BACKWARD_PREFETCH": _WHEN_GATHERED,
    "FSDP_FORWARD_PREFETCH": _WHEN_GATHERED,
    "FSDP_STATE_DICT_TYPE": "checkpoints hold whole tensors by name, for every kind of sharing",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": _WHOLE_WEIGHTS,
    "FSDP_SYNC_MODULE_STATES": _WHOLE_WEIGHTS,
    "ACCELERATE_USE_MEGATRON_LM": _impossible("Megatron-LM", "distributed_type: MULTI_GPU or FSDP there"),
    "MEGATRON_LM_*": "counts with Megatron-LM alone, which is refused",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "its dimensions have variables of their own",
    "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": _dimension("replicas of what is sharded"),
    "PARALLELISM_CONFIG_DP_SHARD_SIZE": "the number of processes that weights are sharded over: all of them",
    "PARALLELISM_CONFIG_TP_SIZE": _dimension("tensor parallelism"),
    "PARALLELISM_CONFIG_CP_SIZE": _dimension("context parallelism"),
    "PARALLELISM_CONFIG_CP_BACKEND": _WITH_ITS_SIZE,
    "PARALLELISM_CONFIG_CP_COMM_STRATEGY": _WITH_ITS_SIZE,
    "PARALLELISM_CONFIG_SP_SIZE": _dimension("sequence parallelism"),
    "PARALLELISM_CONFIG_SP_BACKEND": _WITH_ITS_SIZE,
    "PARALLELISM_CONFIG_SP_SEQ_LENGTH": _WITH_ITS_SIZE,
    "PARALLELISM_CONFIG_SP_SEQ_LENGTH_IS_VARIABLE": _WITH_ITS_SIZE,
    "PARALLELISM_CONFIG_SP_ATTN_IMPLEMENTATION": _WITH_ITS_SIZE,
    "ACCELERATE_IN_TPU_POD": _impossible("a TPU", "compute_environment: LOCAL_MACHINE and no tpu there"),
    "ACCELERATE_DOWNCAST_BF16": "counts on a TPU alone",
    "ACCELERATE_USE_SAGEMAKER": "where the processes were started changes no result",
    "ACCELERATE_SAGEMAKER_DISTRIBUTED_TYPE": _impossible(
        "SageMaker's own data parallelism",
        "distributed_type: NO there, and processes through torchrun",
        when=lambda text: text.upper() not in ("", "NO"),
    ),
    "ACCELERATE_DEBUG_MODE": "textune's processes always agree on the shapes that they exchange",
    "ACCELERATE_DEBUG_RDV_FILE": "where accelerate's processes meet in its own tests",
    "ACCELERATE_LOG_LEVEL": "how much accelerate itself prints",
    "ACCELERATE_ENABLE_RICH": "how accelerate itself prints",
    "ACCELERATE_BYPASS_DEVICE_MAP": "a check of accelerate's own on models that it placed",
    "ACCELERATE_INIT_INCLUDE_BUFFERS": "how accelerate makes models without weights",
    "ACCELERATE_ALLOW_CP_STANDALONE": "a check of accelerate's own on its dimensions",
}
"""Each variable, or each that begins as one with a `*`: how it is compared, or why it means nothing here."""

_COUNTS_WITH = {
    "ACCELERATE_DEEPSPEED_": "ACCELERATE_USE_DEEPSPEED",
    "FSDP_": "ACCELERATE_USE_FSDP",
    "MEGATRON_LM_": "ACCELERATE_USE_MEGATRON_LM",
    "PARALLELISM_CONFIG_": "ACCELERATE_USE_PARALLELISM_CONFIG",
}
"""Variables by their beginning, and the switch without which accelerate itself ignores them."""


def settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that accelerate would heed."""
    found = {}
    for name, value in environment.items():
        switch = next((switch for start, switch in _COUNTS_WITH.items() if name.startswith(start)), None)
        counts = name.startswith(OWN_PREFIX) if switch is None else is_true(environment.get(switch, ""))
        if counts:
            found[name] = value
    return found


def rule_for(name: str) -> Compare | Said | str | None:
    """What is done with a variable; None for one that this table does not have."""
    if name in SETTINGS:
        return SETTINGS[name]
    return next((rule for key, rule in SETTINGS.items() if key[-1] == "*" and name.startswith(key[:-1])), None)


def differences_to(
    environment: Mapping[str, str], here: Here, settled: Collection[str] = ()
) -> tuple[list[Difference], list[str]]:
    """What accelerate asks for and the configuration contradicts, and what is only said, as sentences.

    `settled`: variables that the configuration was made of, which are not compared again.
    """
    refused, said = list(_processes(environment, here)), []
    for name, value in sorted(settings_of(environment).items()):
        rule = rule_for(name)
        if name in settled or isinstance(rule, str):
            continue
        if rule is None:
            said.append(f"accelerate sets {name} = {value}, which textune does not know: it changes nothing here")
        elif isinstance(rule, Said):
            if found := rule.compare(value, here):
                said.append(f"accelerate asks for {found.asked}, but {found.here}")
        elif found := rule(value, here):
            refused.append(found)
    return refused, said


def _processes(environment: Mapping[str, str], here: Here) -> Iterator[Difference]:
    """That accelerate has started as many processes on this machine as the configuration says, if it says it."""
    if STARTED not in environment:
        return
    if "RANK" not in environment:
        mpi = next((environment[name] for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE") if name in environment), "1")
        if mpi not in ("0", "1"):
            said = "textune learns from torchrun alone which process it is"
            yield Difference(f"{mpi} processes through mpirun", said, "no mpirun_hostfile there, or use torchrun")
            return
    started = environment.get("LOCAL_WORLD_SIZE", environment.get("WORLD_SIZE", "1"))
    wanted = here.experiment.train.distributed.devices
    if wanted != "auto" and str(wanted) != started:
        several = f"{started} process{'' if started == '1' else 'es'} on this machine"
        yield Difference(several, f"train.distributed.devices = {wanted}", 'train.distributed.devices = "auto"')
