"""The verb `chaos`, registered in `cli/__init__.py`: a config to a proof that its run survives being killed."""

from __future__ import annotations

import click

from textune.cli.options import config_options, json_option
from textune.cli.output import aside, failure_if, print_json
from textune.cli.verbs import Examples, quiet_option
from textune.errors import FAULT
from textune.imports import importing


@click.command(
    cls=Examples,
    short_help="Kill and resume a run at random; prove that it ends the same.",
    examples="textune chaos config.toml\n"
    "textune chaos config.toml --kills 200 'train.checkpoint.every=5 steps'\n"
    "textune chaos config.toml --reference runs/first --run /scratch/chaos",
)
@config_options
@click.option("--kills", type=click.IntRange(min=1), default=20, show_default=True, help="How often to kill.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the moments.")
@click.option(
    "--run", "folder", metavar="FOLDER", help="Where everything is written; by default a new folder runs/NAME-chaos."
)
@click.option("--reference", metavar="RUN", help="A complete run of the same config, instead of training it first.")
@json_option
@quiet_option
def chaos(
    config: str,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    kills: int,
    seed: int,
    folder: str | None,
    reference: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Kill the run of a config at random moments, resume it, and prove that it ends as one that nobody killed.

    Compared bit for bit: the last checkpoint, the best model, metrics.jsonl (but for times) and the reports. Exits
    with 1 if anything differs.
    """
    with importing(for_good=True):
        from textune.chaos import chaos as run_chaos
        from textune.wording import count

    result = run_chaos(
        config,
        kills=kills,
        seed=seed,
        folder=folder,
        reference=reference,
        overrides=overrides,
        unset=unset,
        say=lambda line: None if quiet else aside(line),
    )
    if as_json:
        failed = failure_if(FAULT if result.difference else 0, f"Not the same: {result.difference}")
        print_json(result.to_dict(), failure=failed)
    elif result.difference:
        click.echo(f"Not the same: {result.difference}")
    else:
        during = ", ".join(f"{num} during {phase}" for phase, num in sorted(result.during.items()))
        click.echo(
            f"{count(len(result.kills), 'kill')} ({during}) in {count(result.runs, 'run')}: every run resumed, and"
            f" every end is"
            " bit-equal to that of the uninterrupted run."
        )
    if result.difference:
        raise click.exceptions.Exit(FAULT)
