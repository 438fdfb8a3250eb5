"""Options of the command line that several verbs share, and what becomes of them; used by `cli` alone."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from textune.errors import ConfigError, DataError

if TYPE_CHECKING:
    from textune.data.stream import StreamOptions


class Examples(click.Command):
    """A command whose help ends with examples, printed as they stand."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, one a line."""
        with formatter.section("Examples"):
            for line in self.examples.splitlines():
                formatter.write(f"{' ' * formatter.current_indent}{line}\n")


def config_options(function: Callable[..., None]) -> Callable[..., None]:
    """The config and what changes it."""
    function = click.option(
        "--unset", multiple=True, metavar="KEY", help="Take an optional key back, such as data.columns.weight."
    )(function)
    function = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")(function)
    return click.argument("config", metavar="CONFIG.toml")(function)


# torchrun takes `--run` for the start of an option of its own, wherever it stands; there the longer name serves.
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
    help="Resume the run folder; `auto`: start it where there is nothing to resume. PATH: a run or a checkpoint"
    " (runs/x/checkpoints/step-120) to start from.",
)


def resume_and_overrides(resume: str | None, overrides: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The two apart: in `--resume key=value` the parser takes the first override for the option's own value."""
    if resume is not None and "=" in resume and not os.path.exists(resume):
        return "latest", (resume, *overrides)
    return resume, overrides


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, or the error: error, hint, exit_code."
)
quiet_option = click.option("--quiet", is_flag=True, help="Say nothing on standard error but errors.")


def as_setting(error: click.NoSuchOption, words: list[str]) -> str:
    """How to write as a setting what was written as an option, such as `--lr 3e-5`; empty where no key has that name."""
    if error.ctx is None or not any(parameter.name == "overrides" for parameter in error.ctx.command.params):
        return ""
    from textune.config.problems import keys_called

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
        value = "VALUE"  # another tool's name, whose values may have another form
    settings = [shlex.quote(f"{key}={value}") for key in keys]
    return f"Settings are written KEY=VALUE: {' or '.join(settings)}." if settings else ""


def device_options(function: Callable[..., None]) -> Callable[..., None]:
    """Where and how a trained model computes."""
    for decorate in (
        click.option(
            "--max-tokens",
            type=click.IntRange(min=1),
            metavar="NUMBER",
            help="Most tokens computed at once; by default as in the run. Lower it where memory does not suffice.",
        ),
        click.option(
            "--compile",
            type=click.Choice(["auto", "on", "off"]),
            default="auto",
            show_default=True,
            help="Kernels compiled for the processor; auto takes them where the model's own run did.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
            default="auto",
            show_default=True,
            help="Arithmetic; auto is that of the model's own run. int8: faster than fp32 on a processor, less exact.",
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


@contextlib.contextmanager
def hints_of_options(*, active: bool) -> Iterator[None]:
    """Hints that name a key of the config name the option of the command instead."""
    try:
        yield
    except DataError as error:
        key = 'set data.on_bad_row = "skip"'
        if not active or key not in error.hint:
            raise
        raise DataError(error.message, hint=error.hint.replace(key, "add --skip-bad-rows")) from error


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def evaluation_source(data: tuple[str, ...], options: dict[str, Any]) -> Any:
    """The files of `--data` as a source; ConfigError names the option that is wrong."""
    from pydantic import ValidationError

    from textune.config.schema import FilesSource

    try:
        return FilesSource(
            files=tuple(os.path.abspath(path) for path in data),
            format=options["format_"],
            encoding=options["encoding"],
            delimiter=options["delimiter"],
            quoting=options["quoting"],
            column_names=_names(options["column_names"]),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--{str(first['loc'][0]).replace('_', '-')} {first['input']!r}: {first['msg']}.") from None


def evaluation_columns(run: str, options: dict[str, Any]) -> Any:
    """The run's columns with those that the options name."""
    from textune.prediction import find_model, read_card

    columns = predict_columns(read_card(find_model(run)).columns, options)
    return columns if options["label"] is None else columns.model_copy(update={"label": options["label"], "labels": ()})


def predict_columns(columns: Any, options: dict[str, Any]) -> Any:
    """A model's columns with those that the options name."""
    changed = {key: options[key] for key in ("text", "text_pair") if options[key] is not None}
    if "text" in changed:
        changed["template"] = None
    return columns.model_copy(update=changed)


def stream_options(source: str, target: str, options: dict[str, Any]) -> tuple[StreamOptions, StreamOptions]:
    """How the input of predict is read and its output written."""
    from dataclasses import replace

    from textune.data.stream import StreamOptions, stream_format

    source_format = stream_format(source, options["format_"], default="text" if source == "-" else None)
    reading = StreamOptions(
        format=source_format,
        encoding=options["encoding"],
        delimiter=options["delimiter"],
        quoting=options["quoting"],
        column_names=_names(options["column_names"]),
    )
    same = "jsonl" if source_format == "text" else source_format
    if target == "-" and options["output_format"] is None:
        return reading, replace(reading, format=same if same != "parquet" else "jsonl")
    target_format = stream_format(target, options["output_format"], default=same)
    if target_format == "text":
        target_format = "jsonl"
    if target_format != source_format:  # options of the input's form say nothing about another form
        return reading, StreamOptions(format=target_format)
    return reading, replace(reading, format=target_format)
