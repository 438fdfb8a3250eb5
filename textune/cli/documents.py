"""Verbs about language models: render, generate; registered in `cli/__init__.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from textune.cli.options import config_options, json_option
from textune.cli.output import aside, print_json, result_console, run_tracker
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing
from textune.wording import escaped

if TYPE_CHECKING:
    from textune.config import DeviceName, PredictionPrecision

PLAIN_COLUMNS = 120
"""Width of the text in a file or a pipe."""


@click.command(
    cls=Examples,
    short_help="Show what a language model will read of documents with metadata.",
    examples="textune render documents.toml\n"
    "textune render documents.toml --rows 5 --epoch 3\n"
    "textune render documents.toml --set validation --output validation.html\n"
    "textune render documents.toml tokens.max_length=512 metadata.reopen_tags=true",
)
@config_options
@click.option(
    "--rows", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Most documents to show."
)
@click.option(
    "--set",
    "--part",
    "part",
    default="train",
    show_default=True,
    metavar="NAME",
    help="train, validation, or another set.",
)
@click.option(
    "--epoch",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Epoch whose draws of types are shown, counted from 0; for train.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "html"]),
    help="By default html if --output ends with .html or .htm, text if with .txt.",
)
@click.option("--output", "--out", "target", metavar="FILE", help="A file to write instead of printing.")
@click.option("--force", is_flag=True, help="Replace an --output that exists.")
@json_option
@quiet_option
def render(
    config: str,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    rows: int,
    part: str,
    epoch: int,
    format_: str | None,
    target: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show documents as a language model will read them: chunk after chunk, metadata in colour, the mask beneath.

    Of the training rows, types are drawn as in training, for the seed and epoch. Held-out sets have all their
    metadata. Only a tokenizer is loaded (model.tokenizer, or that of model.pretrained).
    """
    with importing(for_good=True):
        from textune.atomic import write_text
        from textune.pipeline import html_page, plain_text, require_folder, require_target, text_lines
        from textune.pipeline import render as run_render

    if as_json and (target is not None or format_ is not None):
        raise click.UsageError("--json prints to standard output: it goes with neither --output nor --format.")
    is_page = _is_page(target, format_)
    if target is not None:
        require_target(config, target, force=force)
        require_folder(target)
    with run_tracker(quiet=quiet) as tracker:
        rendered = run_render(
            config, num_rows=rows, part=part, epoch=epoch, overrides=overrides, unset=unset, tracker=tracker
        )
    if as_json:
        print_json(rendered.to_dict())
        return
    console = result_console()
    if target is not None:
        text = html_page(rendered) if is_page else plain_text(rendered, width=PLAIN_COLUMNS)
        write_text(Path(target), text)
        aside(f"Wrote {target}.")
    elif is_page:
        click.echo(html_page(rendered), nl=False)
    elif console.is_terminal:
        from textune.console import print_parts

        for line in text_lines(rendered, width=console.width):
            print_parts(console, line)
    else:
        sys.stdout.write(plain_text(rendered, width=PLAIN_COLUMNS))


def _is_page(target: str | None, format_: str | None) -> bool:
    """Whether `render` writes HTML; UsageError for a file whose name says neither that nor text."""
    if format_ is not None or target is None:
        return format_ == "html"
    suffix = Path(target).suffix
    if suffix.lower() in (".html", ".htm"):
        return True
    if suffix.lower() != ".txt":
        what = f"textune does not write {suffix} here" if suffix else "its name does not say what to write"
        raise click.UsageError(
            f"--output {escaped(target)}: {what}. End it in .html or .txt, or add --format html or --format text."
        )
    return False


@click.command(
    cls=Examples,
    short_help="Show what a language model writes, given metadata.",
    examples="textune generate runs/first --metadata url=https://example.org --metadata title='A day at sea'\n"
    "textune generate runs/first --prompt 'The harbour' --temperature 1 --top-p 0.9 --num 4 --seed 7",
)
@click.argument("run", metavar="RUN")
@click.option(
    "--metadata",
    multiple=True,
    metavar="TYPE=VALUE",
    help="A type that the model was trained with, such as url, title or timestamp; may be repeated.",
)
@click.option("--prompt", default="", metavar="TEXT", help="How the text begins.")
@click.option("--num", type=int, default=1, show_default=True, metavar="NUMBER", help="How many texts to write.")
@click.option(
    "--max-new-tokens",
    "max_tokens",
    type=int,
    metavar="NUMBER",
    help="Most tokens of a text; by default 100, or what there is room for.",
)
@click.option(
    "--temperature",
    type=float,
    default=0.0,
    show_default=True,
    metavar="NUMBER",
    help="0: the likeliest token each time. Above: tokens are drawn; logits are divided by it.",
)
@click.option(
    "--top-p",
    type=float,
    default=1.0,
    show_default=True,
    metavar="SHARE",
    help="Draw from the likeliest tokens that have this share of the probability together.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="NUMBER", help="Of the draws.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
    default="auto",
    show_default=True,
    help="Precision; auto is that of the model's run.",
)
@json_option
def generate(
    run: str,
    metadata: tuple[str, ...],
    prompt: str,
    num: int,
    max_tokens: int | None,
    temperature: float,
    top_p: float,
    seed: int,
    device: DeviceName,
    precision: PredictionPrecision,
    as_json: bool,
) -> None:
    """Write texts with a language model, each behind its prompt: a look at what it has learned."""
    given = _given_metadata(metadata)
    with importing(for_good=True):
        from textune.pipeline import load

    model = load(run, device=device, precision=precision)
    texts = model.generate(
        prompt,
        metadata=given,
        num=num,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    if as_json:
        written = [{"text": one.text, "tokens": one.tokens, "ended": one.ended} for one in texts]
        print_json({"metadata": given, "prompt": prompt, "texts": written})
        return
    for number, one in enumerate(texts):
        if num > 1:
            click.echo(f"{'' if number == 0 else chr(10)}--- {number + 1} of {num}")
        click.echo(escaped(prompt + one.text))


def _given_metadata(options: tuple[str, ...]) -> dict[str, str]:
    """Values by type; UsageError for what is no such pair, and for a type that is given twice."""
    given: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--metadata {option}: write TYPE=VALUE, such as title='A day at sea'.")
        if name in given:
            raise click.UsageError(f"--metadata {name} is given twice: a prefix has one value of each type.")
        given[name] = value
    return given
