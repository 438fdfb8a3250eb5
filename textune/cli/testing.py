"""The verb `test`, registered in `cli/__init__.py`: a machine to a proof that it trains."""

from __future__ import annotations

import click

from textune.cli.options import json_option
from textune.cli.output import failure_if, print_json
from textune.cli.verbs import Examples, quiet_option
from textune.errors import FAULT
from textune.imports import importing
from textune.ranks import launched_rank


@click.command(
    "test",
    cls=Examples,
    short_help="Prove that this machine and its launcher train.",
    examples="textune test\n"
    "textune test --processes 4 --json\n"
    "accelerate launch --config_file accelerate.yaml -m textune test",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="How many are started; under a launcher, those that it started count.",
)
@click.option("--folder", metavar="FOLDER", help="Where it works; of several machines, one that all of them reach.")
@json_option
@quiet_option
def test_machine(processes: int, folder: str | None, as_json: bool, quiet: bool) -> None:
    """Ask devices, compilers and the launcher, and train one step of a toy together and alone.

    Two processes must come to the same bits as one. Under `accelerate launch` the step is trained as its own
    configuration says. Takes half a minute; exits with 1 if anything is wrong.
    """
    with importing(for_good=True):
        from textune.chaos import prove_machine

    shown = not (as_json or quiet or launched_rank())
    proof = prove_machine(
        processes=processes,
        folder=folder,
        say=lambda answer: (
            click.echo(f"{'ok' if answer.ok else 'WRONG':<6}{answer.name}: {answer.said}") if shown else None
        ),
    )
    if proof is None:
        return
    if as_json:
        failed = failure_if(FAULT * (not proof.ok), "This machine is not ready to train: see `answers`.")
        print_json(proof.to_dict(), failure=failed)
    elif shown:
        click.echo("This machine is ready to train." if proof.ok else "This machine is not ready to train.")
    if not proof.ok:
        raise click.exceptions.Exit(FAULT)
