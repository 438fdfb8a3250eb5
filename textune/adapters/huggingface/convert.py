"""A call of one of the scripts as a configuration of textune, and what else the script does: `read_huggingface`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from textune.adapters.flags import read_words
from textune.adapters.foreign import Foreign, LeftOut, Line
from textune.adapters.huggingface.given import Settings, read_settings
from textune.adapters.huggingface.rows import rows_of
from textune.adapters.huggingface.scripts import Script, types_of
from textune.adapters.huggingface.training import training_of
from textune.adapters.trainer import Arguments
from textune.config import user_path
from textune.errors import ConfigError
from textune.jsontext import parse_json

SYSTEM = "huggingface"


@dataclass(frozen=True)
class HuggingFaceCall:
    """What a script was asked to do."""

    foreign: Foreign
    trains: bool
    evaluates: bool
    predict: Mapping[str, Mapping[str, object]]
    """Sources to predict, by the file that the script writes."""
    resume: str | None
    """`auto`, or the checkpoint that it names; None for a run from the start."""
    adopts: str | None
    """The checkpoint of the script's own whose step and optimizer the run takes over."""
    push: str | None
    """The repository to push to; empty for one named after the folder."""
    precision: str


def read_huggingface(
    script: Script,
    words: Iterable[str],
    *,
    processes: int = 1,
    precision: str | None = None,
    folder: str | None = None,
    unpickle: bool = False,
) -> HuggingFaceCall:
    """What `script` does with these words, which may be one JSON file.

    `processes`: how many train. `precision`: that of accelerate's configuration. `folder`: a data set folder that
    stands for that of the hub. `unpickle`: of a checkpoint of the script's own, the optimizer is taken over as well,
    not its weights alone. Raises a ConfigError for an unknown flag, a wrong value and for what cannot be done.
    """
    words = tuple(words)
    flags = read_words(words, types_of(script), program=f"{script}.py")
    settings = read_settings(script, flags)
    if settings["model_name_or_path"] is None:
        settings.refuse("model_name_or_path", "which backbone?", "Write it, such as bert-base-cased.")
    loop = script == "run_glue_no_trainer"
    found = training_of(script, flags, processes=processes, has_validation=True)
    trains, evaluates, predicts = (loop or bool(found.values[f"do_{part}"]) for part in ("train", "eval", "predict"))
    evaluates = evaluates or found.values["eval_strategy"] != "no"
    predicts = predicts and not loop
    rows = rows_of(settings, folder, trains=trains, evaluates=evaluates, predicts=predicts)
    if not rows.has_validation:
        found = training_of(script, flags, processes=processes, has_validation=False)
    resume, earlier = _resume(settings, found, unpickle=unpickle)
    model = _model(settings, earlier)
    lines = list(_settled([*rows.lines, *_tokens(settings), *model, *found.lines], found, precision))
    run = settings["output_dir"] if loop else found.values["output_dir"]
    foreign = Foreign(
        SYSTEM,
        (f"{script}.py", *flags.source),
        tuple(lines),
        tuple([*settings.unused(), *_left_out(settings), *_without_push(found)]),
        tuple(
            [
                *_usual_notes(settings, loop=loop),
                *_notes_of_earlier(earlier, unpickle=unpickle),
                *_notes_of_length(settings),
                *rows.notes,
                *found.notes,
            ]
        ),
        run=str(run or ("runs/run_glue_no_trainer" if loop else "trainer_output")),
        kept=flags.kept,
    )
    return HuggingFaceCall(
        foreign,
        trains,
        evaluates,
        rows.predict,
        resume,
        str(earlier) if unpickle else None,
        _push(settings, found),
        next(str(line.value) for line in lines if line.key == "train.precision"),
    )


def _settled(lines: list[Line], found: Arguments, precision: str | None) -> Iterator[Line]:
    """One line for each key: the metric that Trainer was told counts before that of the task, and accelerate's
    precision where the script has none."""
    trainers = [line for line in found.lines if line.key == "evaluate.metric" and line.value != "combined_score"]
    for line in lines:
        if line.key == "evaluate.metric" and line not in trainers and (trainers or line.value == "combined_score"):
            continue
        if line.key == "train.precision" and line.value == "fp32" and precision in ("fp16", "bf16"):
            line = Line(line.key, precision, "mixed_precision of accelerate")
        yield line
    yield Line("train.layout", "huggingface", "the files of the script, at the top of its folder")


def _tokens(settings: Settings) -> Iterator[Line]:
    length = "max_length" if settings.script == "run_glue_no_trainer" else "max_seq_length"
    if settings[length] < 2:
        settings.refuse(length, "a row has at least two tokens.")
    longest = _longest(settings)
    if longest is None:
        yield Line("tokens.max_length", settings[length], settings.origin(length))
    else:
        yield Line("tokens.max_length", longest, f"model_max_length of the tokenizer, below {settings.origin(length)}")
    if settings["pad_to_max_length"] and settings.given("pad_to_max_length"):
        yield Line("tokens.pad", "max_length", settings.origin("pad_to_max_length"))


def _longest(settings: Settings) -> int | None:
    """What the tokenizer says is its longest row, where that is below `max_seq_length`: run_glue and
    run_classification take the smaller one. None where it is not, and for a tokenizer that is in no folder."""
    file = user_path(str(settings["tokenizer_name"] or settings["model_name_or_path"])) / "tokenizer_config.json"
    if settings.script not in ("run_glue", "run_classification") or not file.is_file():
        return None
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # whoever opens the tokenizer says what is wrong with it
    limit = found.get("model_max_length") if isinstance(found, dict) else None
    return limit if isinstance(limit, int) and 2 <= limit < settings["max_seq_length"] else None


def _notes_of_length(settings: Settings) -> Iterator[str]:
    if (longest := _longest(settings)) is not None:
        yield (
            f"{settings.origin('max_seq_length')} is above the {longest} tokens that the tokenizer says are the most"
            f" (model_max_length): rows are cut at {longest}, as there."
        )


def _model(settings: Settings, earlier: Path | None) -> Iterator[Line]:
    """`earlier`: a checkpoint of the script's own, whose weights stand for those of the backbone."""
    name = "model_name_or_path"
    if earlier is None:
        yield Line("model.pretrained", settings[name], settings.origin(name))
    else:
        yield Line("model.pretrained", str(earlier), "resume_from_checkpoint: its weights")
    if earlier is not None and not (earlier / "tokenizer_config.json").is_file():
        yield Line("model.tokenizer", settings["tokenizer_name"] or settings[name], settings.origin(name))
    elif settings["tokenizer_name"]:
        yield Line("model.tokenizer", settings["tokenizer_name"], settings.origin("tokenizer_name"))
    if settings["model_revision"]:
        yield Line("model.revision", settings["model_revision"], settings.origin("model_revision"))
    for name in ("trust_remote_code", "ignore_mismatched_sizes"):
        yield Line(f"model.{name}", settings[name], settings.origin(name))
    if settings["config_name"] not in (None, settings["model_name_or_path"]):
        hint = "Put its differences into model.config of a config of textune."
        settings.refuse("config_name", "the configuration of another backbone cannot be laid over this one.", hint)
    if settings["do_lower_case"]:
        hint = "Leave it out, or name a backbone whose tokenizer does so."
        settings.refuse("do_lower_case", "a tokenizer lowers letters or not, as its files say.", hint)


def _left_out(settings: Settings) -> Iterator[LeftOut]:
    reasons = {
        "cache_dir": "downloads are in the cache of huggingface_hub (HF_HOME)",
        "token": "a token is never written into a config: it is that of `hf auth login`, or HF_TOKEN",
        "use_auth_token": "a token is never written into a config: it is that of `hf auth login`, or HF_TOKEN",
        "hub_token": "a token is never written into a config: it is that of `hf auth login`, or HF_TOKEN",
        "remove_columns": "only the columns that are named are read",
        "remove_splits": "only the splits that are named are read",
    }
    if not settings["pad_to_max_length"]:
        reasons["pad_to_max_length"] = "rows of a batch are padded to the longest, or not at all"
    if not settings["with_tracking"]:
        reasons["report_to"] = "without --with_tracking there are no trackers"
    for name, reason in reasons.items():
        if settings.given(name) and settings[name] is not None and name in settings.values:
            yield LeftOut(name, reason)


def _without_push(found: Arguments) -> Iterator[LeftOut]:
    """What Trainer's arguments left out, but what this call does after all."""
    done = ("push_to_hub", "hub_model_id", "output_dir")
    return (one for one in found.left_out if one.key not in done)


def _usual_notes(settings: Settings, *, loop: bool) -> Iterator[str]:
    """What costs most of what is the script's default, in one sentence; and what is done otherwise in each run."""
    if loop:
        costly = "no warm-up (num_warmup_steps), no clipping, and evaluation after every epoch"
    else:
        costly = "no warm-up (warmup_steps), the last model instead of the best (load_best_model_at_end), fp32 (bf16)"
    yield f"Its defaults are kept. The three that cost most: {costly}."
    if settings["pad_to_max_length"] and not settings.given("pad_to_max_length"):
        yield (
            "pad_to_max_length is true by default there; rows are computed without padding here, with the same result."
        )
    yield "Class names are sorted, whole numbers by their value; there 10 comes before 2."
    if settings.script == "run_classification" and settings["validation_file"] is None and settings["train_file"]:
        yield "The test rows never stand in for validation rows, as they do there."


def _resume(settings: Settings, found: Arguments, *, unpickle: bool) -> tuple[str | None, Path | None]:
    """Where a run goes on: a checkpoint of ours, or `auto`; and a folder of theirs whose weights are taken."""
    loop = settings.script == "run_glue_no_trainer"
    given = settings["resume_from_checkpoint"] if loop else found.values["resume_from_checkpoint"]
    overwrite = str(settings.flags.values.get("overwrite_output_dir", False)).lower() == "true"
    again = None if overwrite or loop else "auto"
    named = given if isinstance(given, str) and given.lower() not in ("true", "false") else None
    folder = None if named is None else Path(named).expanduser()
    if folder is not None and _is_theirs(folder):
        return again, folder
    if unpickle:
        raise _nothing_to_unpickle(named)
    if folder is not None and any(folder.glob("*.bin")):
        raise ConfigError(
            f"resume_from_checkpoint = {named}: its files are pickled, which textune never reads.",
            hint="Load and save its model with transformers, which writes model.safetensors.",
            key="resume_from_checkpoint",
            value=named,
            place=str(folder),
        )
    return (again if named is None else named), None


def _is_theirs(folder: Path) -> bool:
    """Whether transformers wrote it, with weights that can be read."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    is_run = (folder / "manifest.json").is_file() or (folder / "textune.json").is_file()
    return not is_run and (folder / "config.json").is_file() and any((folder / name).is_file() for name in weights)


def _nothing_to_unpickle(named: str | None) -> ConfigError:
    why = "a checkpoint-N that transformers.Trainer wrote, with config.json and model.safetensors"
    if named is None:
        message = f"--unpickle needs resume_from_checkpoint: {why}."
    else:
        message = f"--unpickle: resume_from_checkpoint = {named} is not {why}."
    hint = "Leave --unpickle out: checkpoints of textune go on exactly without it, and of others weights are taken."
    return ConfigError(message, hint=hint, key="resume_from_checkpoint", value=named)


def _notes_of_earlier(earlier: Path | None, *, unpickle: bool) -> Iterator[str]:
    if earlier is not None and unpickle:
        yield f"The run goes on from {earlier}: its weights, its step, and its optimizer (--unpickle)."
    elif earlier is not None:
        yield (
            f"A new run begins with the weights of {earlier}, at step 0: the moments of its optimizer, its step and"
            " its place in the schedule are not carried, since they are pickled. --unpickle takes them over."
        )


def _push(settings: Settings, found: Arguments) -> str | None:
    loop = settings.script == "run_glue_no_trainer"
    wanted = settings["push_to_hub"] if loop else found.values["push_to_hub"]
    if not wanted:
        return None
    run = settings["output_dir"] if loop else found.values["output_dir"]
    name = settings["hub_model_id"] if loop else found.values["hub_model_id"]
    return str(name or Path(str(run or "textune-model")).name)
