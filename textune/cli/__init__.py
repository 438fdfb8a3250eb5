"""The command line: each verb is a thin wrapper around an importable function. Only this room prints.

The exit codes are those of textune/exitcodes.py, which `textune --help` shows. With `--json` a command prints one
object on standard output: `{"ok": true, ...}` with its result, or `{"ok": false, "error": {...}}`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import click

from textune.atomic import WRITING
from textune.cli.chaos import chaos
from textune.cli.comparing import compare
from textune.cli.configs import check, init, list_backbones, presets, schema, show
from textune.cli.deciding import decide
from textune.cli.doctoring import doctor
from textune.cli.documents import generate, render
from textune.cli.exporting import export
from textune.cli.glue import glue
from textune.cli.launching import launch
from textune.cli.listing import list_runs
from textune.cli.models import evaluate, info, report
from textune.cli.options import as_setting
from textune.cli.output import failure, print_any_character, print_json
from textune.cli.predicting import predict
from textune.cli.pushing import push
from textune.cli.repeat import repeat
from textune.cli.runs import train
from textune.cli.serving import serve
from textune.cli.sweeping import sweep
from textune.cli.systems import command_called, convert, with_its_word, words_of_systems
from textune.cli.tagging import tag
from textune.cli.testing import test_machine
from textune.cli.tracking import tracking
from textune.errors import NO_MEMORY, ConfigError, Preempted, TextuneError
from textune.exitcodes import TABLE, code_of_error, is_out_of_memory
from textune.ranks import launched_rank
from textune.version import __version__
from textune.wording import escaped, nearest

__all__ = ["commands", "main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; every error becomes a sentence (a traceback with `--debug`)."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    print_any_character()
    try:
        # Outside click's standalone mode, the code of `Exit` is returned as the result.
        code = commands(words, prog_name="textune", standalone_mode=False, obj=words) or 0
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): say nothing more, not even when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        ending = _ending(error, words)
        if debug and not isinstance(error, click.ClickException | KeyboardInterrupt | click.Abort | Preempted):
            traceback.print_exception(error)
        _tell(ending, error, as_json="--json" in words)
        code = ending.code
    sys.exit(code)


@dataclass(frozen=True)
class _Ending:
    """How a command ended that failed or was stopped."""

    message: str
    hint: str
    code: int
    is_error: bool = True


def _ending(error: BaseException, words: list[str]) -> _Ending:
    if isinstance(error, KeyboardInterrupt | click.Abort):
        said = str(error.__cause__ or "")  # click wraps it in its own error
        return _Ending(said or "Interrupted; everything saved so far is kept.", "", 130, is_error=False)
    if isinstance(error, TextuneError):
        return _Ending(error.message, error.hint, code_of_error(error), is_error=not isinstance(error, Preempted))
    if isinstance(error, click.NoSuchOption) and (setting := as_setting(error, words)):
        return _Ending(f"There is no option {error.option_name}.", setting, error.exit_code)
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option) and error.param.metavar:
        return _Ending(error.format_message(), f"Add {error.param.opts[0]} {error.param.metavar}.", error.exit_code)
    if isinstance(error, click.ClickException):
        return _Ending(error.format_message(), "", error.exit_code)
    if isinstance(error, OSError):
        return _Ending(f"{_where(error)}{error.strerror or error}.", "", code_of_error(error))
    if is_out_of_memory(error):
        hint = "Use a smaller backbone or fewer rows, or a machine with more memory."
        return _Ending("out of memory.", hint, NO_MEMORY)
    # the last resort: even our own bugs end in a sentence
    message = f"internal error in textune: {type(error).__name__}: {error}"
    return _Ending(message, "Run it again with --debug and report what it prints.", 1)


def _where(error: OSError) -> str:
    """The file of the error; of one that is written aside, the file that it would become."""
    name = str(error.filename or "")
    if name.endswith(WRITING):
        return f"{name.removesuffix(WRITING)} cannot be written: "
    return f"{name}: " if name else ""


def _tell(ending: _Ending, error: BaseException, *, as_json: bool) -> None:
    """The sentence on standard error; with `--json`, its fields on standard output."""
    rank = launched_rank()
    if rank and (not ending.is_error or isinstance(error, ConfigError)):
        return  # every rank finds the same: the first one reports it
    if as_json:
        with contextlib.suppress(OSError):  # on a full disk the sentence is still printed
            print_json({}, failure=failure(ending.message, ending.code, hint=ending.hint, **_fields(error)))
    if isinstance(error, click.UsageError) and not ending.hint:
        error.show()  # with the usage of the command
        return
    text = (
        f"{ending.message}\n{ending.hint}"
        if ending.code == 1 and ending.hint
        else f"{ending.message} {ending.hint}".strip()
    )
    start = "" if not ending.is_error else f"Error on rank {rank}: " if rank else "Error: "
    click.echo(start + escaped(text), err=True)


def _fields(error: BaseException) -> dict[str, str]:
    """The fields that one of our errors has, as text, for a program."""
    if not isinstance(error, TextuneError):
        return {}
    value = "" if error.value is None else str(error.value)
    found = {"key": error.key, "value": value, "place": error.place, "reason": error.reason}
    return {name: text for name, text in found.items() if text}


_CONFIGS = (".toml", ".json", ".yaml", ".yml")
"""How config files end."""


class _Verbs(click.Group):
    """Lists its commands in the order of the work, and knows config files, and scripts of other systems."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb, or the script of another system."""
        return super().get_command(ctx, cmd_name) or command_called(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first word names; the name of a config file means `train`, that of a file of flags the
        script of transformers that has them. Click itself names the verb that is nearest to another word."""
        if args[0].lower().endswith(_CONFIGS) and self.get_command(ctx, args[0]) is None:
            script = _script_of(args[0]) if args[0].lower().endswith(".json") else None
            args = ["train" if script is None else f"{script}.py", *args]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if "/" in args[0] or args[0].endswith(".py") or not getattr(error, "possibilities", None):
                _name_nearest_script(ctx, args[0])
                _name_nearest_config(ctx, args[0])
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, which a scheduler acts on."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(row.code), row.meaning) for row in TABLE])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The words, of which the first may be an option of a program without a name."""
        return super().parse_args(ctx, with_its_word(args))


def _script_of(word: str) -> str | None:
    """The script whose flags a file has; None for any other file."""
    from textune.adapters import script_of

    return script_of(Path(os.path.expanduser(word)))


def _name_nearest_script(ctx: click.Context, word: str) -> None:
    """UsageError with the script or program of another system that is nearest to a word, if one is near."""
    known = words_of_systems()
    names = {name.rpartition("/")[2]: name for name in known} | {name: name for name in known}
    bare = word.removesuffix(".py")
    if near := nearest(bare, names) or nearest(bare.rpartition("/")[2], names):
        ctx.fail(f"No such command {word!r}. Did you mean {names[near]}?")


def _name_nearest_config(ctx: click.Context, word: str) -> None:
    """UsageError with the config file whose name is nearest to a word that may be one, misspelt."""
    path = Path(os.path.expanduser(word))
    try:
        configs = [file.name for file in path.parent.iterdir() if file.suffix.lower() in _CONFIGS]
    except OSError:
        return
    if near := nearest(path.name, configs):
        ctx.fail(f"No such command {word!r}. Did you mean the config {path.with_name(near)}?")


@click.group(
    cls=_Verbs,
    commands=[
        init,
        check,
        train,
        repeat,
        doctor,
        sweep,
        evaluate,
        decide,
        compare,
        report,
        predict,
        info,
        list_runs,
        export,
        push,
        serve,
        launch,
        show,
        presets,
        list_backbones,
        schema,
        tag,
        render,
        generate,
        convert,
        glue,
        tracking,
        chaos,
        test_machine,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="textune")
def commands() -> None:
    """A file of labelled text and one TOML config in; a fine-tuned, evaluated, reusable text model out.

    Start with `textune init reviews.csv --out config.toml`. Any verb takes --debug, which shows the traceback of an
    error.
    """
