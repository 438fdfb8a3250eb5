"""The verb `render`, registered in `cli/__init__.py`: what a language model will read of documents."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from textune.cli.options import Examples, config_options, json_option, quiet_option
from textune.cli.output import print_json, result_console, run_tracker
from textune.imports import importing

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
    "--set", "part", default="train", show_default=True, metavar="NAME", help="train, validation, or another set."
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
    help="By default html where --output ends with .html, else text.",
)
@click.option("--output", "target", metavar="FILE", help="A file to write instead of printing.")
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
    is_page = format_ == "html" if format_ else target is not None and target.lower().endswith((".html", ".htm"))
    console = result_console()
    if target is not None:
        text = html_page(rendered) if is_page else plain_text(rendered, width=PLAIN_COLUMNS)
        write_text(Path(target), text)
        click.echo(f"Wrote {target}.", err=True)
    elif is_page:
        click.echo(html_page(rendered), nl=False)
    elif console.is_terminal:
        from textune.console import print_parts

        for line in text_lines(rendered, width=console.width):
            print_parts(console, line)
    else:
        sys.stdout.write(plain_text(rendered, width=PLAIN_COLUMNS))
