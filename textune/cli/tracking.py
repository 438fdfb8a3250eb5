"""The verb `tracking`, registered in `cli/__init__.py`: what was not sent to a tracker while a run trained."""

from __future__ import annotations

import click

from textune.cli.options import json_option
from textune.cli.output import print_json, result_console, say
from textune.cli.verbs import Examples, GroupExamples, quiet_option
from textune.imports import importing

_EXAMPLES = (
    "textune tracking replay runs/first\n"
    "textune tracking replay runs/first --only mlflow\n"
    "textune tracking replay runs/first 'track=[{kind = \"tensorboard\"}]'"
)


@click.group(cls=GroupExamples, short_help="Send a run to its trackers afterwards.", examples=_EXAMPLES)
def tracking() -> None:
    """What concerns the trackers of a run, its `[[track]]` tables."""


@tracking.command(cls=Examples, short_help="Send what the trackers of a run have missed.", examples=_EXAMPLES)
@click.argument("run", metavar="RUN")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--only", multiple=True, metavar="NAME", help="This tracker alone, such as mlflow; may be repeated.")
@json_option
@quiet_option
def replay(run: str, overrides: tuple[str, ...], only: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Send what the trackers of a run have not received, into the same run of each; nothing is sent twice.

    Of a run that is going on, its own process does that.
    """
    with importing(for_good=True):
        from textune.pipeline import replay as run_replay

    console = result_console()
    found = run_replay(
        run, only=only, overrides=overrides, say=lambda one: None if as_json or quiet else say(console, str(one))
    )
    if as_json:
        print_json({"run": run, "trackers": [one.to_dict() for one in found]})
