"""The verb `push`: a model on the Hugging Face hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from textune.cli.options import code_option, json_option
from textune.cli.output import aside, print_json, result_console, say
from textune.cli.verbs import Examples
from textune.imports import importing
from textune.wording import count

if TYPE_CHECKING:
    from textune.exports import Pushed


@click.command(
    cls=Examples,
    short_help="Put a run's best model and its card on the hub.",
    examples="textune push runs/first ada/reviews --dry-run\ntextune push runs/first ada/reviews --private\n"
    'textune push runs/first/checkpoints/step-120 ada/reviews --revision early --message "After 120 steps"',
)
@click.argument("run", metavar="RUN")
@click.argument("name", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Seen by its owner alone; a public repository of that name is refused.")
@click.option("--revision", metavar="BRANCH", help="A branch that exists there; by default main.")
@click.option("--message", metavar="TEXT", help="Of the commit; by default the run's name and the model's step.")
@click.option("--with-probe", is_flag=True, help="Push probe.jsonl as well, which holds texts of the validation rows.")
@code_option
@click.option("--merge", is_flag=True, help="Whole weights, adapters put into them.")
@click.option("--adapter", is_flag=True, help="Adapters by themselves, beside a backbone that is on the hub.")
@click.option("--dry-run", is_flag=True, help="Show files, sizes and card; nothing is sent, and no network is needed.")
@json_option
def push(
    run: str,
    name: str,
    private: bool,
    revision: str | None,
    message: str | None,
    with_probe: bool,
    code: tuple[str, ...],
    merge: bool,
    adapter: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put a run's best model on the Hugging Face hub in one commit: what `textune export` writes, with its model card
    as README.md. Nothing else of the run is sent, no rows, reports or logs.

    The token is that of `hf auth login`, or HF_TOKEN.
    """
    if merge and adapter:
        raise click.UsageError("--merge and --adapter are two forms of the same model: give only one of them.")
    with importing(for_good=True):
        from textune.exports import push as run_push

    done = run_push(
        run,
        name,
        private=True if private else None,
        revision=revision,
        message=message,
        with_probe=with_probe,
        form="merged" if merge else "adapter" if adapter else None,
        code=code,
        dry_run=dry_run,
        on_notice=lambda said: aside(f"note: {said}"),
    )
    if as_json:
        print_json(done.to_dict())
        return
    if dry_run:
        _show(done)
        return
    files, size = count(len(done.files), "file"), _in_units(sum(done.files.values()))
    seen = "" if done.private is None else " (private)" if done.private else " (public)"
    aside(f"Pushed {files} ({size}) to {done.url}{seen}, branch {done.revision}, commit {done.commit}.")


def _show(done: Pushed) -> None:
    console = result_console()
    say(console, f"{done.name}, branch {done.revision}: {count(len(done.files), 'file')}")
    width = max(map(len, done.files))
    for path, size in done.files.items():
        say(console, f"  {path:<{width}}  {_in_units(size):>9}")
    say(console, f"\nREADME.md\n\n{done.card}")
    aside("Nothing was sent; leave --dry-run out to push.")


def _in_units(size: int) -> str:
    """Bytes, for people."""
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= of:
            return f"{size / of:.1f} {unit}"
    return f"{size} B"
