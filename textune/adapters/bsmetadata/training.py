"""`model`, `train` and `evaluate` of a run of bsmetadata."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from textune.adapters.bsmetadata.agreement import Agreed
from textune.adapters.bsmetadata.deepspeed import ZeroFile
from textune.adapters.bsmetadata.given import Settings
from textune.adapters.bsmetadata.keys import METADATA
from textune.adapters.foreign import BatchLine, Line
from textune.config import Problem, parse_key, refuse
from textune.errors import ConfigError
from textune.jsontext import parse_json

_STREAM_LENGTH = 1_000_000
"""Rows that the original takes a stream to have."""
_SHAPES = {"WarmupDecayLR": "linear", "WarmupCosineLR": "cosine", "WarmupLR": "constant_with_warmup"}
_EXTRA: dict[str, tuple[tuple[str, object], ...]] = {
    "cosine_with_restarts": (("num_cycles", 1),),
    "polynomial": (("power", 1.0), ("lr_end", 1e-7)),
    "constant": (("warmup", "0 steps"),),
}
"""What the schedules of transformers have beyond their names."""
_KNOWN_SHAPES = ("linear", "cosine", "constant_with_warmup", "inverse_sqrt", *_EXTRA)


def model_lines(settings: Settings) -> Iterator[Line]:
    """The backbone, or the weights of the checkpoint that a run was to resume from."""
    folder, name = settings["resume_from_checkpoint_dir"], settings["model_name"]
    added = _added_tokens(settings)
    if folder is None:
        yield Line("model.pretrained", name, settings.origin("model_name"))
        if added:
            yield Line("model.added_tokens", added, "local_metadata_special_token_start, _end and _state")
        return
    require_safe_weights(folder)
    if added:
        require_tokenizer(folder, name, added)
    yield Line("model.pretrained", folder, f"{settings.origin('resume_from_checkpoint_dir')}: its weights")
    if not has_tokenizer(folder):
        yield Line("model.tokenizer", name, f"{settings.origin('model_name')}; the checkpoint has no tokenizer")


def _added_tokens(settings: Settings) -> tuple[str, ...]:
    """The special tokens that the original adds: starts and ends by turns, paired by their order in the file."""
    if not settings[METADATA + "local_metadata_special_token_state"]:
        return ()
    starts = settings[METADATA + "local_metadata_special_token_start"] or {}
    ends = settings[METADATA + "local_metadata_special_token_end"] or {}
    return tuple(dict.fromkeys(token for pair in zip(starts.values(), ends.values(), strict=False) for token in pair))


def has_tokenizer(folder: str) -> bool:
    """Whether a tokenizer was saved there."""
    return (Path(folder).expanduser() / "tokenizer_config.json").is_file()


def require_tokenizer(folder: str, name: str, added: tuple[str, ...]) -> None:
    """ConfigError where a checkpoint has rows of added tokens, but no tokenizer that knows them: added again, those
    would begin anew."""
    if has_tokenizer(folder):
        return
    key = "resume_from_checkpoint_dir"
    code = (
        f"from transformers import AutoTokenizer as T; t = T.from_pretrained({name!r});"
        f" t.add_tokens({list(added)!r}, special_tokens=True); t.save_pretrained({folder!r})"
    )
    raise ConfigError(
        f"{key} = {folder}: its embeddings have rows for the special tokens, but it has no tokenizer with them.",
        hint=f"Save it there: python -c {shlex.quote(code)}",
        key=key,
        value=folder,
        place=folder,
        reason="it has no tokenizer",
    )


def require_safe_weights(folder: str) -> None:
    """ConfigError unless the folder holds weights that can be read without running code in them."""
    path = Path(folder).expanduser()
    key = "resume_from_checkpoint_dir"
    if not path.is_dir():
        raise ConfigError(f"{key} = {folder}: there is no such folder.", key=key, value=folder, place=str(path))
    if (path / "manifest.json").is_file():
        raise ConfigError(
            f"{key} = {folder} is a run or a checkpoint of textune.",
            hint=f"Leave the key out, and continue with --resume {folder}.",
            key=key,
            value=folder,
            place=str(path),
            reason="it is textune's own",
        )
    if any(path.glob("*.safetensors")):
        return
    old = sorted(item.name for item in [*path.glob("*.bin"), *path.glob("*.pt")])
    found = f"its weights ({old[0]}) are pickled, which textune never reads" if old else "it holds no weights"
    code = (
        "from transformers import AutoModelForCausalLM as M;"
        f" M.from_pretrained({folder!r}).save_pretrained({folder!r})"
    )
    hint = f"If you trust it, save it again: python -c {shlex.quote(code)}"
    raise ConfigError(
        f"{key} = {folder}: {found}; model.safetensors is needed.",
        hint=hint if old else "Name a folder such as checkpoint-1000step.",
        key=key,
        value=folder,
        place=str(path),
        reason=found,
    )


def completed_steps(folder: str) -> int | None:
    """How many steps a checkpoint has behind it; None if it does not say."""
    try:
        state = parse_json((Path(folder).expanduser() / "train_state.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ValueError):
        return None
    steps = state.get("completed_steps") if isinstance(state, dict) else None
    return steps if isinstance(steps, int) else None


def train_lines(agreed: Agreed, *, streamed: bool, evaluates: bool, precision: str | None) -> Iterator[Line]:
    """The section `train`. `evaluates`: whether there are rows to evaluate on. `precision`: accelerate's."""
    settings = agreed.settings
    if agreed.value("max_train_steps") is None:
        message = "max_train_steps is not set: it says how long to train, and num_train_epochs does not count."
        refuse([Problem(parse_key("max_train_steps"), message, "Set it, such as max_train_steps=100000.")])
    steps = int(agreed.value("max_train_steps"))
    yield Line("train.duration", _steps(steps), agreed.origin("max_train_steps"))
    batch = agreed.batch
    if batch.processes:
        yield BatchLine("train.batch_size", batch.size, batch.origin, batch.accumulation, batch.processes)
    else:
        yield Line("train.batch_size", batch.size, batch.origin)
    yield Line("train.seed", settings["seed"], settings.origin("seed"))
    yield Line(
        "train.gradient_checkpointing", settings["gradient_checkpointing"], settings.origin("gradient_checkpointing")
    )
    yield from _precision_lines(agreed.zero, precision)
    yield from _clipping_lines(agreed.zero)
    yield from _optimizer_lines(agreed)
    yield from _schedule_lines(agreed)
    yield Line("train.log_every", "1 step", "every step is logged")
    if evaluates:
        yield from _evaluation_lines(settings, steps, streamed=streamed)
    yield from _checkpoint_lines(settings, steps, streamed=streamed)
    yield from _sharing_lines(agreed.zero)


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def _precision_lines(zero: ZeroFile, accelerate: str | None) -> Iterator[Line]:
    stated = {name for name in ("fp16", "bf16") if zero.get(f"{name}.enabled") is not None}
    for name in ("fp16", "bf16"):
        if zero.value(f"{name}.enabled") is True:
            yield Line("train.precision", name, f"{name}.enabled of {zero.name}")
            return
    if accelerate in ("fp16", "bf16") and accelerate not in stated:
        yield Line("train.precision", accelerate, "mixed_precision of accelerate")
        return
    yield Line("train.precision", "fp32", f"neither fp16 nor bf16 in {zero.name}" if zero else "no DeepSpeed file")


def _clipping_lines(zero: ZeroFile) -> Iterator[Line]:
    """Nothing is clipped without DeepSpeed, nor where its file does not say it; "auto" is 1, which accelerate puts
    in."""
    given = zero.get("gradient_clipping")
    if not zero:
        yield Line("train.max_grad_norm", 0.0, "the original clips nothing without DeepSpeed")
    elif given is not None:
        yield Line("train.max_grad_norm", float(given.value), given.said)
    elif "gradient_clipping" in zero.auto:
        yield Line("train.max_grad_norm", 1.0, f'gradient_clipping of {zero.name}: "auto" is 1 in accelerate')
    else:
        yield Line("train.max_grad_norm", 0.0, f"no gradient_clipping in {zero.name}")


def _optimizer_lines(agreed: Agreed) -> Iterator[Line]:
    zero = agreed.zero
    has_own = zero.get("optimizer.type") is not None
    betas = zero.value("optimizer.params.betas", [0.9, 0.999] if has_own else [0.9, 0.98])
    eps = zero.value("optimizer.params.eps", 1e-8 if has_own else 1e-6)
    place = f"{zero.name}, optimizer" if has_own else "as in the original's code"
    yield Line("train.optimizer.kind", "adamw", place)
    yield Line("train.optimizer.lr", float(agreed.value("learning_rate")), agreed.origin("learning_rate"))
    yield Line("train.optimizer.weight_decay", float(agreed.value("weight_decay")), agreed.origin("weight_decay"))
    yield Line("train.optimizer.beta1", float(betas[0]), place)
    yield Line("train.optimizer.beta2", float(betas[1]), place)
    yield Line("train.optimizer.eps", float(eps), place)


def _schedule_lines(agreed: Agreed) -> Iterator[Line]:
    shape = _SHAPES.get(agreed.value("lr_scheduler_type"), agreed.value("lr_scheduler_type"))
    if shape not in _KNOWN_SHAPES:
        given = agreed.chosen["lr_scheduler_type"]
        message = f"{given.said}: expected one of {', '.join(_KNOWN_SHAPES)}."
        refuse([Problem(parse_key("lr_scheduler_type"), message, value=given.value, origin=given.place)])
    yield Line("train.schedule.kind", shape, agreed.origin("lr_scheduler_type"))
    extra = dict(_EXTRA.get(shape, ()))
    if "warmup" not in extra:
        warmup = int(agreed.value("num_warmup_steps"))
        yield Line("train.schedule.warmup", _steps(warmup), agreed.origin("num_warmup_steps"))
    for name, value in extra.items():
        yield Line(f"train.schedule.{name}", value, "as this schedule of transformers has it")


def _period(settings: Settings, name: str, steps: int, *, streamed: bool) -> tuple[str, str] | None:
    """How often something happens, with what that was made of; None for never. `name`: `eval` or `save`."""
    strategy_key = "evaluation_strategy" if name == "eval" else "save_strategy"
    strategy = settings[strategy_key]
    if strategy == "STEPS":
        return _steps(settings[f"{name}_steps"]), settings.origin(f"{name}_steps")
    count = settings[f"{name}_num_per_epoch"]
    if strategy == "NO" or count < 1:
        return None
    origin = settings.origin(strategy_key, f"{name}_num_per_epoch")
    if not streamed:
        return f"{1 / count:.6g} epochs", origin
    per_epoch = -(-_STREAM_LENGTH // settings["gradient_accumulation_steps"])
    every = steps // (count * -(-steps // per_epoch))
    if every < 1:
        message = f"{origin}: with {_steps(steps)} there is no whole step between two of them, and the original stops."
        refuse([Problem(parse_key(f"{name}_num_per_epoch"), message, "Set a smaller number.", value=count)])
    return _steps(every), f"{origin}, of a stream"


def _evaluation_lines(settings: Settings, steps: int, *, streamed: bool) -> Iterator[Line]:
    found = _period(settings, "eval", steps, streamed=streamed)
    every, origin = found if found is not None else (_steps(steps), "no evaluation but that of the end")
    yield Line("train.evaluate_every", every, origin)
    extra = tuple(step for step in settings["extra_steps_to_eval_save_at"] if step <= steps)
    if extra:
        yield Line("train.evaluate_at", extra, settings.origin("extra_steps_to_eval_save_at"))
    if settings["start_with_eval"]:
        yield Line("train.evaluate_first", True, settings.origin("start_with_eval"))


def _checkpoint_lines(settings: Settings, steps: int, *, streamed: bool) -> Iterator[Line]:
    found = _period(settings, "save", steps, streamed=streamed)
    every, origin = found if found is not None else ("never", settings.origin("save_strategy"))
    yield Line("train.checkpoint.every", every, origin)
    extra = tuple(step for step in settings["extra_steps_to_eval_save_at"] if step <= steps)
    if extra:
        yield Line("train.checkpoint.at_steps", extra, settings.origin("extra_steps_to_eval_save_at"))
    yield Line("train.checkpoint.keep", "all", "as there; a number keeps only the newest, and those of at_steps")


def _sharing_lines(zero: ZeroFile) -> Iterator[Line]:
    stage = int(zero.value("zero_optimization.stage", 0))
    if stage == 0:
        yield Line("train.distributed.kind", "ddp", f"no ZeRO in {zero.name}" if zero else "no DeepSpeed file")
        return
    yield Line("train.distributed.kind", "deepspeed", zero.name)
    yield Line("train.distributed.stage", stage, f"zero_optimization.stage of {zero.name}")
    offload = [
        key
        for key, on in (
            ("zero_optimization.cpu_offload", True),
            ("zero_optimization.offload_optimizer.device", "cpu"),
            ("zero_optimization.offload_param.device", "cpu"),
        )
        if zero.value(key) == on
    ]
    if offload:
        yield Line("train.distributed.cpu_offload", True, f"{offload[0]} of {zero.name}")
