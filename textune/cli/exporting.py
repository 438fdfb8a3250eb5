"""The verb that writes a trained model for use elsewhere: export."""

from __future__ import annotations

import dataclasses
from typing import Literal

import click

from textune.cli.options import code_option, json_option
from textune.cli.output import aside, print_json
from textune.cli.verbs import Examples
from textune.imports import importing

KINDS_HELP = "What to write: hf (a plain Hugging Face folder)."


@click.command(
    cls=Examples,
    short_help="Write a model for use elsewhere, if it answers as here.",
    examples="textune export runs/first --out model\ntextune export runs/first/checkpoints/step-120 --out model-120\n"
    "textune export runs/lora --merge --out model\ntextune export runs/first --to hf --out model --json",
)
@click.argument("run", metavar="RUN")
@code_option
@click.option(
    "--out",
    "--output",
    "out",
    required=True,
    metavar="FOLDER",
    help="The folder to write; an existing one is refused.",
)
@click.option("--to", metavar="KIND", default="hf", show_default=True, help=KINDS_HELP)
@click.option("--merge", is_flag=True, help="Whole weights, adapters put into them.")
@click.option("--adapter", is_flag=True, help="Adapters by themselves, as peft opens them beside their backbone.")
@json_option
def export(run: str, out: str, to: str, code: tuple[str, ...], merge: bool, adapter: bool, as_json: bool) -> None:
    """Write a run's best model (before its first evaluation the newest checkpoint's), or that of one checkpoint, as
    something else can use it: by default a plain Hugging Face folder.

    What was written is opened in a new process and asked rows that the run kept; where it does not answer as the model
    does, it is refused and nothing is left. A model with adapters is merged unless model.lora.merge is "off".
    """
    if merge and adapter:
        raise click.UsageError("--merge and --adapter are two forms of the same model: give only one of them.")
    with importing(for_good=True):
        from textune.exports import export as run_export
        from textune.model import change_in_words
        from textune.run import stopping_at_once

    form: Literal["merged", "adapter"] | None = "merged" if merge else "adapter" if adapter else None
    with stopping_at_once("nothing was written; the same command starts again"):
        done = run_export(run, out, to=to, code=code, form=form, on_notice=_note)
    if as_json:
        facts: dict[str, object] = {
            "folder": str(done.folder),
            "step": done.step,
            "source": str(done.source),
            "form": done.form,
        }
        facts |= {"kind": done.kind, "parity": dataclasses.asdict(done.parity)}
        print_json(facts if done.change is None else facts | {"change": done.change})
        return
    step = "" if done.step is None else f" (step {done.step:,})"
    what = "the adapters" if done.form == "adapter" else "the model"
    aside(f"Wrote {done.folder}: {what} of {done.source}{step}.")
    aside(done.parity.in_words())
    if done.change is not None:
        aside(change_in_words(done.change))


def _note(message: str) -> None:
    aside(f"note: {message}")
