"""What every verb has: examples at the end of its help, `~` in paths, `--quiet`, and words that a shell completes;
below options.py."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

_QUIET = "textune.cli.quiet"
_OF_FILES = re.compile(r"FILE|FOLDER|PATH|RUN|CONFIG|REFERENCE|SWEEP")
"""Names of parameters that are files or folders, as help shows them."""
OVERRIDES = "overrides"
"""The parameter of `KEY=VALUE`."""


class Examples(click.Command):
    """A command whose help ends with examples, printed verbatim."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        _equip(self)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, one per line."""
        _write_examples(formatter, self.examples)


class GroupExamples(click.Group):
    """The same for a verb with commands of its own."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, one per line."""
        _write_examples(formatter, self.examples)


def _write_examples(formatter: click.HelpFormatter, examples: str) -> None:
    with formatter.section("Examples"):
        for line in examples.splitlines():
            formatter.write(f"{' ' * formatter.current_indent}{line}\n")


class UserPath(click.ParamType):  # type: ignore[type-arg]  # only later versions of click take one
    """A path as a word of the command: `~` is the user's folder, which a shell leaves alone in `--run=~/x`."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path with `~` expanded; that of an unknown user stays, and is refused where it is opened."""
        return os.path.expanduser(value) if isinstance(value, str) else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of files and folders, by the shell itself."""
        return [CompletionItem(incomplete, type="file")]


def _remember_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.meta[_QUIET] = ctx.meta.get(_QUIET, False) or value
    return value


def is_quiet() -> bool:
    """Whether the command that runs was given `--quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET))


QUIET_HELP = "Print only errors on standard error."
quiet_option = click.option("--quiet", is_flag=True, callback=_remember_quiet, help=QUIET_HELP)


def _equip(command: click.Command) -> None:
    """Give a command what every one has, unless its own options say otherwise."""
    if not any("--quiet" in parameter.opts for parameter in command.params):
        command.params.append(
            click.Option(["--quiet"], is_flag=True, callback=_remember_quiet, expose_value=False, help=QUIET_HELP)
        )
    for parameter in command.params:
        if isinstance(parameter.type, click.types.StringParamType) and _OF_FILES.search(parameter.metavar or ""):
            parameter.type = UserPath()
        if parameter.name == OVERRIDES:
            parameter.shell_complete = _complete_setting  # type: ignore[method-assign]


def _complete_setting(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Settings that begin like this: the next part of each dotted key, and `=` behind a whole one."""
    from textune.config import setting_names

    return [CompletionItem(word) for word in continued(incomplete, setting_names())]


@add_completion_class
class _Bash(BashComplete):
    """No blank behind a word that goes on: `train.optimizer.` and `train.optimizer.lr=`."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *[.=] ]] && compopt -o nospace"
    )


def continued(incomplete: str, keys: Sequence[str]) -> list[str]:
    """The words that a dotted key may go on with: up to its next dot, or whole and with `=` behind it."""
    words: dict[str, None] = {}
    for key in keys:
        if key.startswith(incomplete):
            rest = key[len(incomplete) :]
            part, dot, _ = rest.partition(".")
            words[incomplete + part + (dot or "=")] = None
    return list(words)
