"""Options that several verbs share, and what becomes of them; used only by `cli`."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from textune.errors import ConfigError, Setting, TextuneError
from textune.ranks import launched, launched_world

if TYPE_CHECKING:
    from textune.config import Columns, FilesSource


def config_options(function: Callable[..., None]) -> Callable[..., None]:
    """The config and its overrides."""
    function = click.option(
        "--unset", multiple=True, metavar="KEY", help="Unset an optional key, such as data.columns.weight."
    )(function)
    function = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")(function)
    return click.argument("config", metavar="CONFIG")(function)


preset_option = click.option(
    "--preset",
    metavar="NAME",
    help="How to train: fast, balanced or best; laid over the config, and under KEY=VALUE.",
)


# torchrun takes `--run` as an abbreviation of its own option, wherever it appears; use the longer name there.
run_option = click.option(
    "--run",
    "--run-folder",
    "run",
    metavar="FOLDER",
    help="The run folder; by default runs/NAME-OF-CONFIG. An occupied one is refused.",
)


resume_option = click.option(
    "--resume",
    is_flag=False,
    flag_value="latest",
    metavar="[PATH|auto]",
    help="Resume the run folder; `auto`: start it if there is nothing to resume. PATH: a run or a checkpoint"
    " (runs/x/checkpoints/step-120) to start from.",
)


def resume_and_overrides(resume: str | None, overrides: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """Separate the two: in `--resume key=value`, the parser takes the first override as the option's value."""
    if resume is not None and "=" in resume and not os.path.exists(resume):
        return "latest", (resume, *overrides)
    return resume, overrides


processes_option = click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many processes train there, one for each GPU; by default as many as were started, or one.",
)
OWN_RANKS = "--own-ranks"
own_ranks_option = click.option(OWN_RANKS, is_flag=True, hidden=True)
"""Says that textune itself started this process as one of several, so their number is none of the user's words."""


def processes_started(given: int | None, *, own_ranks: bool) -> int | None:
    """How many processes the user means: those that `--processes` says, else those that a launcher started; None where
    nobody said."""
    return launched_world() if given is None and launched() and not own_ranks else given


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document: ok, then the result or the error."
)
jobs_option = click.option(
    "--jobs",
    type=int,
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="Runs at once, each in a process of its own, on the devices in turn.",
)


def as_setting(error: click.NoSuchOption, words: list[str]) -> str:
    """How to write an option such as `--lr 3e-5` as a setting; empty if no key has that name, and for a command that
    neither takes settings nor writes a config."""
    if error.ctx is None:
        return ""
    takes_settings = any(parameter.name == "overrides" for parameter in error.ctx.command.params)
    if not takes_settings and error.ctx.command.name != "init":
        return ""
    from textune.config import keys_called

    at = next((index for index, word in enumerate(words) if word.startswith(error.option_name)), None)
    if at is None:
        return ""
    name, equals, value = words[at].lstrip("-").partition("=")
    following = words[at + 1] if at + 1 < len(words) else "--"
    if not equals:
        value = "VALUE" if following.startswith("--") or "=" in following else following
    name = name.replace("-", "_")
    keys = keys_called(name)
    if keys and keys[0].rpartition(".")[2] != name.rpartition(".")[2]:
        value = "VALUE"  # the name in another tool, whose values may be written differently
    if keys and not takes_settings:
        return f"Leave it out, and set it in the config that is written: {' or '.join(keys)}."
    settings = [shlex.quote(f"{key}={value}") for key in keys]
    return f"Settings are written KEY=VALUE: {' or '.join(settings)}." if settings else ""


code_option = click.option(
    "--code",
    metavar="MODULE:CLASS",
    multiple=True,
    help="A class of your own that the model's run used and that may be imported for it.",
)


decision_option = click.option(
    "--no-decision",
    "decision",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Answer by the usual rule (the highest score, or 0.5), whatever rule was fitted and kept with the model.",
)


def device_options(function: Callable[..., None]) -> Callable[..., None]:
    """Where and how a trained model computes."""
    for decorate in (
        code_option,
        click.option(
            "--max-tokens",
            type=click.IntRange(min=1),
            metavar="NUMBER",
            help="Most tokens computed at once; by default as in the run. Lower it if memory runs out.",
        ),
        click.option(
            "--compile",
            type=click.Choice(["auto", "on", "off"]),
            default="auto",
            show_default=True,
            help="Compiled kernels for the processor; auto uses them unless they were off in the model's run.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
            default="auto",
            show_default=True,
            help="Precision; auto is that of the model's run. int8: faster than fp32 on a processor, less exact.",
        ),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="Where to compute.",
        ),
    ):
        function = decorate(function)
    return function


_READING = ("encoding", "delimiter", "quoting", "pattern", "skip_lines", "extra_cells", "split")
"""Options that are keys of a source, with the same name."""
_DEVICE_OPTIONS = {"device": "--device", "precision": "--precision", "evaluate.metric": "--metric"}
_READING_OPTIONS = {
    key: f"--{key.replace('_', '-')}" for key in (*_READING, "format", "column_names", "label_files", "where")
} | {
    "data.columns.text": "--text",
    "data.columns.template": "--text",
    "data.columns.text_pair": "--text-pair",
    "data.columns.label": "--label",
    "data.on_bad_row": "--skip-bad-rows",
}
"""The options of a verb about a trained model, by key or argument; and those of the files given to it."""


@contextlib.contextmanager
def options_in_errors(*, files: bool = True) -> Iterator[None]:
    """Make errors name options of the command instead of keys; without `files`, data keys are those of the run's
    config."""
    try:
        yield
    except TextuneError as error:
        error.name_settings(partial(as_option, files=files))
        raise


def as_option(setting: Setting, *, files: bool = True) -> str:
    """A setting as an option, such as `--delimiter ';'`; the setting itself if there is no option."""
    option = _DEVICE_OPTIONS.get(setting.key) or (_READING_OPTIONS.get(setting.key) if files else None)
    if option is None:
        return str(setting)
    if setting.value is None:
        return f"{setting.verb} {option}".lstrip()
    value = "" if option == "--skip-bad-rows" else f" {_as_word(setting.value)}"
    return f"{_ADD.get(setting.verb, setting.verb)} {option}{value}".lstrip()


_ADD = {"set": "add", "Set": "Add"}


def _as_word(value: object) -> str:
    return shlex.quote(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def names_in(text: str | None) -> tuple[str, ...]:
    """The names in an option such as `mrpc,rte`."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def reading_options(function: Callable[..., None]) -> Callable[..., None]:
    """How the rows of a file are written."""
    for decorate in (
        click.option("--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be used, and report how many."),
        click.option(
            "--reading",
            type=click.Choice(["run", "plain"]),
            default="run",
            show_default=True,
            help="run: as the run read its own files with the same suffix; plain: by the file's name and these"
            " options alone.",
        ),
        click.option(
            "--extra-cells",
            type=click.Choice(["error", "ignore"]),
            help="What to do with rows that have more cells than columns.",
        ),
        click.option(
            "--skip-lines", type=click.IntRange(min=0), metavar="N", help="Lines before the header or the rows."
        ),
        click.option("--pattern", metavar="REGEX", help="For text: named groups that turn each line into columns."),
        click.option("--column-names", metavar="A,B,...", help="Names for the columns of a file without a header."),
        click.option(
            "--quoting", type=click.Choice(["auto", "standard", "none"]), help="How quotes are read in csv and tsv."
        ),
        click.option("--delimiter", help="Column delimiter of csv and tsv."),
        click.option("--encoding", help="Text encoding, by default utf-8."),
        click.option(
            "--format",
            "format_",
            metavar="FORMAT",
            help="csv, tsv, jsonl, parquet, arrow or text; by default by name.",
        ),
        click.option("--text-pair", metavar="COLUMN", help="Column of the second text of a pair, if not the run's."),
        click.option("--text", metavar="COLUMN", help="Text column, if not the run's."),
    ):
        function = decorate(function)
    return function


def read_files(run: str, files: tuple[str, ...], options: dict[str, Any]) -> tuple[FilesSource, str]:
    """Files as a source, read like the run's own except for the options given, and a sentence that says so."""
    from textune.prediction import find_model, read_as_run, read_card

    given = {key: options[key] for key in _READING if options.get(key) is not None}
    if options["format_"] is not None:
        given["format"] = {"txt": "text", "ndjson": "jsonl"}.get(options["format_"], options["format_"])
    if options["column_names"] is not None:
        given["column_names"] = names_in(options["column_names"])
    if options.get("label_files"):
        given["label_files"] = tuple(map(os.path.abspath, options["label_files"]))
    if options.get("where"):
        where: dict[str, list[str]] = {}
        for text in options["where"]:
            column, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(f"--where {text!r} has no =.", hint="Write COLUMN=VALUE.")
            where.setdefault(column, []).append(value)
        given["where"] = where
    return read_as_run(read_card(find_model(run)).sources, files, given, plain=options["reading"] == "plain")


def by_metadata_options(function: Callable[..., None]) -> Callable[..., None]:
    """What metadata is worth to a language model."""
    for decorate in (
        click.option(
            "--out",
            "--output",
            "out",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help="With --by-metadata: where to write the result as well, .json or .md.",
        ),
        click.option("--untrained", metavar="NAME", help="With --by-metadata: a backbone as it came, as well."),
        click.option("--prompt", is_flag=True, help="With --by-metadata: metadata also in plain words."),
        click.option("--dedupe", is_flag=True, help="With --by-metadata: of equal texts only the first."),
        click.option(
            "--chunks",
            type=click.Choice(["all", "first"]),
            default="all",
            show_default=True,
            help="With --by-metadata: what is scored of documents with several chunks.",
        ),
        click.option(
            "--max-documents",
            type=click.IntRange(min=1),
            metavar="NUMBER",
            help="With --by-metadata: most documents of each group, from the start.",
        ),
        click.option("--type", "types", metavar="TYPE", multiple=True, help="With --by-metadata: these types only."),
        click.option(
            "--by-metadata", is_flag=True, help="Of a language model: what each type of metadata is worth to it."
        ),
    ):
        function = decorate(function)
    return function


_COMPARED = ("types", "max_documents", "chunks", "dedupe", "prompt", "untrained", "out")


def comparison_options(options: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments of `evaluate_by_metadata`; None where it is not asked for. UsageError for options that are for
    one of the two alone."""
    given = {name: options[name] for name in _COMPARED}
    if options["by_metadata"]:
        if options["metric"]:
            raise click.UsageError("--metric is not for --by-metadata, which compares bits per character.")
        return given
    unused = [name for name, value in given.items() if value and value != "all"]
    if unused:
        option = {"types": "type"}.get(unused[0], unused[0]).replace("_", "-")
        raise click.UsageError(f"--{option} is for --by-metadata.")
    return None


def evaluation_columns(run: str, options: dict[str, object]) -> Columns:
    """The run's columns with those that the options name."""
    from textune.prediction import find_model, read_card

    columns = predict_columns(read_card(find_model(run)).columns, options)
    return (
        columns if options["label"] is None else columns.model_copy(update={"label": options["label"], "labels": ()})
    )


def predict_columns(columns: Columns, options: dict[str, object]) -> Columns:
    """A model's columns with those that the options name."""
    changed = {key: options[key] for key in ("text", "text_pair") if options[key] is not None}
    if "text" in changed:
        changed["template"] = None
    return columns.model_copy(update=changed)
