"""The verb `convert`, registered in `cli/__init__.py`: configurations of other systems."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from textune.cli.options import Examples, json_option
from textune.cli.output import print_json


@click.group(short_help="Turn another system's configuration into one of textune.")
def convert() -> None:
    """Turn another system's configuration into one of textune, every line with what it was made of."""


def _settled(function: Callable[..., None]) -> Callable[..., None]:
    """Options for what the files of bsmetadata leave open."""
    function = click.option(
        "--processes",
        type=click.IntRange(min=1),
        metavar="N",
        help="How many processes train there, one for each GPU; by default as many as train_batch_size of the"
        " DeepSpeed file needs, or one.",
    )(function)
    function = click.option(
        "--mended", is_flag=True, help="Render by textune's own rules, instead of exactly what bsmetadata renders."
    )(function)
    return click.option(
        "--prefer",
        type=click.Choice(["config", "deepspeed"]),
        help="Which file counts where the two disagree; without it, that is an error.",
    )(function)


@convert.command(
    "bsmetadata",
    cls=Examples,
    short_help="bsmetadata's Hydra and DeepSpeed files.",
    examples="textune convert bsmetadata --config bsmetadata/hydra_configs/v2.yaml \\\n"
    "    --deepspeed bsmetadata/deepspeed_configs/v2.json --prefer deepspeed --out v2.toml\n"
    "textune convert bsmetadata --config v2.yaml model_name=gpt2-xl 'extra_steps_to_eval_save_at=[2,100]'",
)
@click.option("--config", metavar="FILE", help="The Hydra configuration; without one, its defaults.")
@click.option("--deepspeed", metavar="FILE", help="The DeepSpeed configuration.")
@_settled
@click.option(
    "--out", metavar="CONFIG.toml", help="The file to write; by default standard output. An existing one is refused."
)
@json_option
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
def convert_bsmetadata(
    config: str | None,
    deepspeed: str | None,
    out: str | None,
    as_json: bool,
    words: tuple[str, ...],
    **settled: Any,
) -> None:
    """Turn a run of bsmetadata into a config of textune.

    KEY=VALUE overrides keys of the Hydra configuration, in Hydra's words. Every key is turned into one of textune, or
    named as one that changes nothing. Numbers that the two files have and do not agree on are refused.
    """
    from textune.adapters import convert_bsmetadata as convert_files
    from textune.pipeline import convert as write_converted

    foreign = convert_files(
        None if config is None else Path(config),
        words,
        deepspeed=None if deepspeed is None else Path(deepspeed),
        **_choices(settled),
    )
    text = write_converted(foreign, out)
    if as_json:
        print_json(foreign.to_dict())
    elif out is None:
        click.echo(text, nl=False)
    else:
        for note in foreign.notes:
            click.echo(f"note: {note}", err=True)
        click.echo(f"Wrote {out}. Next: {shlex.join(['textune', 'train', out, '--run', foreign.run])}")


def _choices(settled: dict[str, Any]) -> dict[str, Any]:
    """What the options say of the two files, as `convert_bsmetadata` takes it."""
    return {
        "prefer": settled["prefer"] or "none",
        "processes": settled["processes"],
        "compat": "none" if settled["mended"] else "bsmetadata",
    }
