"""The verb `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from textune.cli.options import decision_option, device_options, options_in_errors
from textune.cli.output import aside
from textune.cli.verbs import Examples
from textune.imports import importing
from textune.serving import let_threads_sleep, needing_packages


@click.command(
    cls=Examples,
    short_help="Answer requests over HTTP with trained models.",
    examples="textune serve runs/first\n"
    "textune serve tone=runs/first topic=runs/second --port 8000 --token-file token.txt\n"
    "curl localhost:8080/predict -H 'Content-Type: application/json' -d '{\"inputs\": \"a fine film\"}'",
)
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0: all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any that is free.")
@click.option("--token", metavar="TEXT", help="What requests must carry as `Authorization: Bearer TEXT`.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The same from a file, so that it is in no list of processes.",
)
@click.option(
    "--max-queue-tokens",
    type=click.IntRange(min=1),
    default=262_144,
    show_default=True,
    help="Most tokens that wait for a model; a request beyond is refused (429).",
)
@click.option(
    "--max-batch", type=click.IntRange(min=1), default=256, show_default=True, help="Most texts of a request."
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=2_000_000,
    show_default=True,
    help="Most bytes of a request; of /batch, of a line.",
)
@click.option(
    "--max-connections",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Most connections at a time; a request beyond is refused (503).",
)
@click.option(
    "--timeout", type=float, default=60.0, show_default=True, metavar="SECONDS", help="From a request to its answer."
)
@click.option(
    "--drain",
    type=float,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For what is in flight when the server is asked to stop.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Tokens of texts computed together; by default 1024 on a processor.",
)
@click.option(
    "--follow",
    type=float,
    default=0.0,
    metavar="SECONDS",
    help="Look so often whether a model's files changed, and open it again; by default never.",
)
@decision_option
@device_options
def serve(models: tuple[str, ...], token: str | None, token_file: Path | None, **options: Any) -> None:
    """Answer requests over HTTP with the models of runs or model folders, until a signal asks to stop.

    The first model answers at /predict, each at /models/NAME/predict; /docs shows every address. SIGTERM answers what
    is in flight and ends with code 0, SIGHUP opens the models again.
    """
    if token is not None and token_file is not None:
        raise click.UsageError("--token and --token-file are two ways to say the same: give only one of them.")
    let_threads_sleep()
    with importing(for_good=True), needing_packages():
        from textune.serving import LoadOptions, Models, Settings, named_folders, read_token
        from textune.serving import serve as run_server

    loading = {
        name: options.pop(name) for name in ("device", "precision", "max_tokens", "compile", "code", "decision")
    }
    settings = Settings(token=token if token_file is None else read_token(token_file), **options)
    if settings.is_open:
        aside(f"note: everyone who reaches {settings.host} is answered; --token keeps others out")

    def note(sentence: str) -> None:
        aside(f"note: {sentence}")

    with options_in_errors():
        served = Models(named_folders(models), settings, LoadOptions(**loading), on_notice=note)
    names = ", ".join(one.name for one in served)
    run_server(served, settings, on_start=lambda address: aside(f"Serving {names} at {address}"))
