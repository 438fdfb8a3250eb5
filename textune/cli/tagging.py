"""The verb `tag`, registered in `cli/__init__.py`: web pages to text with metadata."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from textune.cli.options import json_option
from textune.cli.output import print_json, result_console, run_tracker, say
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing

if TYPE_CHECKING:
    from textune.pipeline import TagResult


@click.command(
    cls=Examples,
    short_help="Find text and metadata in files of web pages.",
    examples="textune tag --input pages.jsonl.gz --output tagged.jsonl.gz\n"
    "textune tag --input 'crawl/*.jsonl.gz' --output tagged/ --workers 8\n"
    "textune tag --input pages.parquet --output tagged.parquet --html page --url address\n"
    "textune tag --input pages.jsonl --output tagged.jsonl --gazetteer names.csv --descriptions sites.csv\n"
    "textune tag --input texts.jsonl --output tagged.jsonl --without html --without title",
)
@click.option(
    "--data",
    "--input",
    "sources",
    multiple=True,
    required=True,
    metavar="FILE",
    help="jsonl or parquet, or a pattern.",
)
@click.option(
    "--output", "--out", "target", required=True, metavar="PATH", help="A file; a folder for several inputs."
)
@click.option("--html", default="html", show_default=True, metavar="COLUMN", help="The HTML of the pages.")
@click.option("--url", default="url", show_default=True, metavar="COLUMN", help="Their addresses.")
@click.option(
    "--text", default="text", show_default=True, metavar="COLUMN", help="Their texts, where there is no HTML."
)
@click.option("--tagger", "only", multiple=True, metavar="NAME", help="Use only this one, and others that are named.")
@click.option("--without", multiple=True, metavar="NAME", help="Leave this tagger out.")
@click.option("--gazetteer", metavar="FILE", help="Entities: columns name, aliases, description.")
@click.option("--descriptions", metavar="FILE", help="Descriptions of websites: columns domain, description.")
@click.option("--own-tagger", "own", multiple=True, metavar="MODULE:CLASS", help="A tagger of your own.")
@click.option("--legacy", is_flag=True, help="Find what bsmetadata finds, with its faults.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that tag; by default one for each processor core.",
)
@click.option("--skip-bad-rows", is_flag=True, help="Leave out lines that are no rows, and report how many.")
@click.option("--force", is_flag=True, help="Replace an --output that exists.")
@json_option
@quiet_option
def tag(
    sources: tuple[str, ...],
    target: str,
    html: str,
    url: str,
    text: str,
    only: tuple[str, ...],
    without: tuple[str, ...],
    gazetteer: str | None,
    descriptions: str | None,
    own: tuple[str, ...],
    legacy: bool,
    workers: int | None,
    skip_bad_rows: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Find the text of web pages and what is known of it: url, date, title, HTML structure, paragraphs, entities.

    Each row keeps its columns and gets `text` and a column metadata_NAME for each tagger. A page that a tagger cannot
    read has 1 in NAME_error and the reason in NAME_error_comment. The same command again continues where one was
    stopped. docs/metadata.md says what each tagger finds.
    """
    with importing():
        from textune.metadata import PageColumns, TagSettings
        from textune.pipeline import tag as run_tag

    settings = TagSettings(PageColumns(html, url, text), only, without, legacy, gazetteer, descriptions, own)
    with run_tracker(quiet=quiet) as tracker:
        result = run_tag(
            sources,
            target,
            settings=settings,
            workers=workers or os.cpu_count() or 1,
            force=force,
            on_bad_row="skip" if skip_bad_rows else "error",
            tracker=tracker,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        _show(result)


def _show(result: TagResult) -> None:
    from textune.console import print_table
    from textune.wording import count, listing

    console, counts = result_console(), result.counts
    print_table(
        console,
        ["tagger", "pages", "entries", "errors"],
        *([name, f"{one.pages:,}", f"{one.entries:,}", f"{one.errors:,}"] for name, one in counts.types.items()),
    )
    for name, one in counts.types.items():
        if one.errors:
            say(console, f"{name}: {one.first_error}")
    if result.num_skipped:
        say(console, f"{count(result.num_skipped, 'row')} left out; the first: {result.skipped[0]}")
    before = f" ({count(result.kept, 'file')} complete before)" if result.kept else ""
    say(console, f"Wrote {count(counts.pages, 'page')} to {listing(result.outputs, 3)}{before}.")
