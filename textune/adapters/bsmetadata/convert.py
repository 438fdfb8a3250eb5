"""A run of bsmetadata as a configuration of textune: every key becomes a line, or is left out with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from textune.adapters.bsmetadata.agreement import Agreed, Prefer, agree
from textune.adapters.bsmetadata.data import data_lines, experiment_of, rows_of
from textune.adapters.bsmetadata.deepspeed import read_zero_file
from textune.adapters.bsmetadata.given import Settings, read_settings
from textune.adapters.bsmetadata.keys import DATA, KEYS, METADATA
from textune.adapters.bsmetadata.rendering import Compat, metadata_lines, types_of
from textune.adapters.bsmetadata.training import completed_steps, model_lines, train_lines
from textune.adapters.foreign import Foreign, LeftOut, Line, as_tree, kept_files
from textune.adapters.shown import shown
from textune.config import Problem, parse_key, refuse
from textune.errors import ConfigError

SYSTEM = "bsmetadata"


def convert_bsmetadata(
    config: Path | None,
    words: Iterable[str] = (),
    *,
    deepspeed: Path | None = None,
    prefer: Prefer = "none",
    processes: int | None = None,
    compat: Compat = "bsmetadata",
    precision: str | None = None,
) -> Foreign:
    """The configuration that trains what bsmetadata's YAML file, DeepSpeed file and words train.

    `config`: None for the defaults of its dataclasses. `prefer`: which file counts where the two disagree.
    `processes`: how many train, which the rows of a step depend on. `compat`: "none" renders by the mended rules.
    `precision`: what accelerate is configured for (`no`, `fp16`, `bf16`), which counts where the
    DeepSpeed file says nothing.
    Raises a ConfigError for an unknown key, a wrong value, and for each contradiction of the two files.
    """
    words = tuple(words)
    _refuse_another_kind_of_file(config)
    settings = read_settings(config, words)
    _refuse_what_has_no_counterpart(settings)
    agreed = agree(settings, read_zero_file(deepspeed), prefer=prefer, processes=processes)
    notes: list[str] = list(agreed.notes)
    types = types_of(settings, notes)
    rows = list(data_lines(settings, types, notes))
    evaluates = as_tree(rows)["data"]["validation"]["kind"] != "none"
    lines = [
        *rows,
        Line("tokens.max_length", _row_length(settings), _row_length_origin(settings)),
        Line("task.kind", "conditional_lm", "a language model"),
        *model_lines(settings),
        *train_lines(agreed, streamed=rows_of(settings).streamed, evaluates=evaluates, precision=precision),
        *metadata_lines(settings, types, compat, notes),
    ]
    notes += _usual_notes(agreed)
    files = [*settings.files, *filter(None, [deepspeed])]
    return Foreign(
        SYSTEM,
        (*map(str, files), *words),
        tuple(lines),
        tuple(_left_out(agreed, types)),
        tuple(notes),
        run=settings["out_dir"],
        kept=kept_files(files),
    )


def _refuse_another_kind_of_file(config: Path | None) -> None:
    """A Hydra configuration is YAML; files of other kinds are known by their names."""
    instead = {
        ".json": "Give a DeepSpeed file with --deepspeed.",
        ".toml": "textune train takes a TOML file as it is.",
    }
    if config is not None and config.suffix.lower() in instead:
        raise ConfigError(
            f"--config {config} is not a YAML file, as a Hydra configuration is.",
            hint=instead[config.suffix.lower()],
            key="--config",
            value=str(config),
        )


def _refuse_what_has_no_counterpart(settings: Settings) -> None:
    problems = []
    if not settings["do_train"]:
        message = f"{settings.given('do_train').said}: there is nothing to train."
        hint = "Evaluate a model with textune evaluate RUN --by-metadata."
        problems.append(Problem(parse_key("do_train"), message, hint, value=False))
    key = METADATA + "without_metadata_same_context"
    if settings[key]:
        message = f"{settings.given(key).said}: training on the pieces of text without their prefix is not done here."
        hint = "Leave it out; textune evaluate RUN --by-metadata compares both over the same characters."
        problems.append(Problem(parse_key(key), message, hint, value=True))
    refuse(problems)


def _row_length(settings: Settings) -> int:
    return 512 if settings[DATA + "experiment"] == "sample" else int(settings[METADATA + "max_seq_len"])


def _row_length_origin(settings: Settings) -> str:
    if settings[DATA + "experiment"] == "sample":
        return "fixed in the original's code"
    return settings.origin(METADATA + "max_seq_len")


def _left_out(agreed: Agreed, types: tuple[str, ...]) -> Iterator[LeftOut]:
    """Keys that somebody set and that change nothing here."""
    settings = agreed.settings
    for key, known in KEYS.items():
        given = settings.given(key)
        reason = known.unused or _unused_here(settings, key, types)
        if reason and not given.is_default:
            yield LeftOut(f"{given.key.rpartition('.')[2]} ({given.place})", reason)
    for word in settings.of_hydra:
        yield LeftOut(word, "it is about Hydra itself")
    yield LeftOut("out_dir", f"it is the run folder: --run {settings['out_dir']}")
    for found in agreed.zero.left_out:
        yield LeftOut(f"{found.key} ({agreed.zero.name})", found.reason)


def _unused_here(settings: Settings, key: str, types: tuple[str, ...]) -> str:
    """Why a key changes nothing beside the others that this run has."""
    experiment, name = experiment_of(settings), settings[DATA + "experiment"]
    kept = (METADATA + "max_seq_len", METADATA + "local_metadata_special_token_state")
    if key.startswith(METADATA) and not types and key not in kept and "special_token_" not in key:
        return f"{name} renders no metadata" if not experiment.renders else "no type of metadata is rendered"
    samples = settings[METADATA + "random_sample_metadata"]
    weighted = settings[METADATA + "random_sample_metadata_weights"] is not None
    if key == METADATA + "random_sample_metadata_calculate_size" and (weighted or not samples):
        return "random_sample_metadata_weights are given" if samples else "random_sample_metadata is false"
    if key == METADATA + "random_sample_metadata_weights" and not samples:
        return "random_sample_metadata is false"
    if key == DATA + "validation_split_percentage" and (
        settings[DATA + "validation_file"] is not None or not experiment.splits
    ):
        return "validation rows are not a share of the training rows"
    if key == DATA + "validation_size_max" and settings[DATA + "validation_file"] is None:
        return "there is no validation_file"
    for strategy, by_steps, by_epochs in (
        ("evaluation_strategy", "eval_steps", "eval_num_per_epoch"),
        ("save_strategy", "save_steps", "save_num_per_epoch"),
    ):
        unused = {"STEPS": (by_epochs,), "EPOCH": (by_steps,), "NO": (by_steps, by_epochs)}[settings[strategy]]
        if key in unused:
            return f"{strategy} = {settings[strategy]}"
    return ""


def _usual_notes(agreed: Agreed) -> Iterator[str]:
    """What textune does otherwise in every such run."""
    settings = agreed.settings
    yield (
        "The loss is the mean over the scored tokens of the whole batch, not the mean of the means of its"
        " micro-batches" + ("." if agreed.zero else ", whose gradients the original adds up undivided.")
    )
    yield "Biases and norms are not decayed; there the norms of GPT-2 are, since their names (ln_1) differ."
    warms_up = agreed.zero.get("scheduler.type") is not None
    if warms_up and agreed.zero.get("scheduler.params.warmup_max_lr") is None:
        yield (
            f"The learning rate rises to {shown(agreed.value('learning_rate'))}; there to 0.001, the default of"
            f" DeepSpeed and accelerate, since {agreed.zero.name} gives no warmup_max_lr."
        )
    if warms_up and agreed.zero.get("scheduler.params.warmup_type") is None:
        yield f"The warm-up is a line; DeepSpeed's is a logarithm, since {agreed.zero.name} has no warmup_type."
    if not agreed.zero:
        yield "The learning rate follows the steps of the run; there several processes make it fall too fast."
    yield "Rows are read where a resumed run stopped, and the tokenizer is saved with every model."
    folder = settings["resume_from_checkpoint_dir"]
    if folder is not None:
        done = completed_steps(folder)
        steps = "" if done is None else f" The {done} steps behind it are not taken off train.duration."
        yield f"A new run begins with the weights of {folder}, at step 0, with a new optimizer.{steps}"
