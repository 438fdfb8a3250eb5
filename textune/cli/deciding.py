"""The verb that sets thresholds with a guarantee: decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from textune.cli.options import code_option, json_option, options_in_errors
from textune.cli.output import failure_if, print_json, result_console, run_tracker, say
from textune.cli.verbs import Examples, quiet_option
from textune.errors import FAULT
from textune.imports import importing

if TYPE_CHECKING:
    from textune.evaluation import AimName, Measured, Verdict
    from textune.pipeline import Checked, Guarantee

_AIMS: tuple[AimName, ...] = ("precision", "recall", "coverage", "cost")


@click.command(
    cls=Examples,
    short_help="Set a threshold that keeps a promise, and check it later.",
    examples="textune decide runs/spam --target-precision 0.98\n"
    "textune decide runs/emotions --target-recall 0.9 --label fear --label anger\n"
    "textune decide runs/intents --target-precision 0.95    # of what is answered; the rest is withheld\n"
    "textune decide runs/spam --check labelled-this-week.csv",
)
@click.argument("run", metavar="RUN")
@click.option("--target-precision", type=float, metavar="P", help="At least this share of what is answered is right.")
@click.option("--target-recall", type=float, metavar="P", help="At least this share of a label's rows are found.")
@click.option("--target-coverage", type=float, metavar="P", help="At least this share of rows are answered.")
@click.option("--target-cost", type=float, metavar="C", help="A row costs at most this, on average.")
@click.option("--wrong-cost", type=float, default=1.0, show_default=True, help="What a wrong answer costs.")
@click.option(
    "--missed-cost", type=float, default=1.0, show_default=True, help="What an answer that is missing costs."
)
@click.option("--label", multiple=True, help="The label that the promise is about; may be repeated.")
@click.option("--task", help="Which task of a model of several.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="How sure the promise is.")
@click.option(
    "--set", "--part", "part", metavar="SET", help="Which of the run's own rows prove it: test, or else validation."
)
@click.option("--data", metavar="FILE", multiple=True, help="Labelled rows that prove it instead.")
@click.option("--check", metavar="FILE", multiple=True, help="Say whether the promises hold on these labelled rows.")
@click.option("--force", is_flag=True, help="Replace a threshold that an earlier promise locks.")
@code_option
@json_option
@quiet_option
def decide(run: str, check: tuple[str, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Set a threshold that keeps a promise, proved on labelled rows, and keep the proof beside the model.

    With --check: exit code 1 where new rows break a promise.
    """
    targets = [name for name in _AIMS if options[f"target_{name}"] is not None]
    if bool(check) == bool(targets) or len(targets) > 1:
        raise click.UsageError(f"give one of {', '.join(f'--target-{name}' for name in _AIMS)}, or --check FILE.")
    with importing(for_good=True):
        from textune.evaluation import Aim
        from textune.pipeline import check_guarantees
        from textune.pipeline import decide as run_decide
    with run_tracker(quiet=quiet) as tracker, options_in_errors(files=True):
        common: dict[str, Any] = {"code": options["code"], "tracker": tracker}
        if check:
            checked = check_guarantees(run, list(check), **common)
        else:
            aim = Aim(
                targets[0],
                options[f"target_{targets[0]}"],
                options["confidence"],
                options["wrong_cost"],
                options["missed_cost"],
            )
            common |= {name: options[name] for name in ("label", "task", "part", "force")}
            found = run_decide(run, aim, data=list(options["data"]) or None, **common)
    if check:
        _show_checked(checked, as_json=as_json)
    else:
        _show(found, as_json=as_json)


def _show(found: list[Guarantee], *, as_json: bool) -> None:
    if as_json:
        print_json({"guarantees": [one.model_dump(mode="json") for one in found]})
        return
    console = result_console()
    for one in found:
        measured = f"{one.value:.4f} on {one.counted:,} of {one.rows:,} rows of {one.proved_on}"
        side = "at most" if one.aim == "cost" else "at least"
        say(
            console,
            f"{_gate_in_words(one)}\n"
            f"  {one.for_whom}: {measured}; {side} {one.limit:.4f} with {one.confidence:.0%} confidence"
            f" (target {one.level:g})\n"
            f"  answered: {one.given:,} of {one.rows:,} rows ({one.given / one.rows:.1%})",
        )


def _gate_in_words(one: Guarantee) -> str:
    if one.label is None:
        return f"an answer is withheld where its probability is below {one.threshold:.4f}"
    if one.threshold < 0:
        return f'"{one.label}" is given where the other class has a probability of at most {-one.threshold:.4f}'
    return f'"{one.label}" is given where its probability is at least {one.threshold:.4f}'


_VERDICTS: dict[Verdict, str] = {
    "holds": "holds: these rows prove it by themselves",
    "open": "not contradicted: these rows are too few to prove or to break it",
    "broken": "BROKEN: if it held, rows as bad as these would be too rare",
}


def _show_checked(checked: list[Checked], *, as_json: bool) -> None:
    broken = any(one.verdict == "broken" for one in checked)
    if as_json:
        failed = failure_if(FAULT * broken, "A guarantee is broken: see `guarantees`.")
        print_json({"holds": not broken, "guarantees": [one.to_dict() for one in checked]}, failure=failed)
    else:
        console = result_console()
        for one in checked:
            say(
                console,
                f"{one.guarantee.for_whom}: {_VERDICTS[one.verdict]}\n  {_measured(one.measured, one.guarantee)}",
            )
    if broken:
        raise click.exceptions.Exit(FAULT)


def _measured(measured: Measured, guarantee: Guarantee) -> str:
    if measured.counted == 0:
        return f"no row of {measured.rows:,} says anything about it (target {guarantee.level:g})"
    return f"{measured.value:.4f} on {measured.counted:,} of {measured.rows:,} rows (target {guarantee.level:g})"
