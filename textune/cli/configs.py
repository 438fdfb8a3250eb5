"""Verbs about a config: init, check, show, presets, models, schema."""

from __future__ import annotations

import shlex

import click

from textune.cli.options import config_options, json_option, preset_option
from textune.cli.output import aside, failure, print_json, print_json_value, result_console, run_tracker, say
from textune.cli.verbs import Examples, quiet_option
from textune.errors import MEND
from textune.imports import importing


@click.command(
    cls=Examples,
    short_help="Inspect labelled text and write a commented config for it.",
    examples="textune init reviews.csv --out config.toml\n"
    "textune init train.tsv --out config.toml --pretrained path/to/backbone",
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--out",
    "--output",
    "out",
    required=True,
    metavar="CONFIG.toml",
    help="The file to write; an existing one is refused.",
)
@click.option(
    "--pretrained", metavar="BACKBONE", help="The backbone: a name of `textune models`, a folder, or a hub name."
)
@click.option("--preset", metavar="NAME", help="How to train: fast, balanced or best.")
@json_option
def init(files: tuple[str, ...], out: str, pretrained: str | None, preset: str | None, as_json: bool) -> None:
    """Inspect a file of labelled text and write a commented config for it.

    Exits with 2, and says why, if you have to set something before the config can train.
    """
    with importing(for_good=True):
        from textune.console import print_facts
        from textune.pipeline import init as write_config

    started = write_config(list(files), out, pretrained=pretrained, preset=preset)
    if as_json:
        unready = failure("The config is not ready.", MEND, hint=" ".join(started.unsettled))
        print_json(started.to_dict(), failure=None if started.ok else unready)
    else:
        print_facts(result_console(), started.chosen)
        for note in started.notes:
            aside(f"note: {note}")
        for what in started.unsettled:
            aside(f"to set: {what}")
        then = f"textune check {shlex.quote(out)}"
        ending = f"Next: {then}" if started.ok else f"It is not ready: set what is listed above, then {then}"
        click.echo(f"Wrote {out}. {ending}")
    if not started.ok:
        raise click.exceptions.Exit(2)


@click.command(
    cls=Examples,
    short_help="Check a config and its data, and predict what training costs.",
    examples="textune check config.toml\n"
    "textune check config.toml data.on_bad_row=skip --json\n"
    "textune check config.toml --no-timing",
)
@config_options
@preset_option
@click.option(
    "--no-timing", is_flag=True, help="Do not measure a few batches to predict the time, which can take minutes."
)
@json_option
@quiet_option
def check(
    config: str,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    preset: str | None,
    no_timing: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check a config and its data, and predict tokens, padding, memory and time; trains nothing.

    Exits with 2 if training is not possible, or metadata of documents cannot be rendered.
    """
    with importing(for_good=True):
        from textune.console import print_facts, print_findings
        from textune.pipeline import CheckResult, DocumentsCheck
        from textune.pipeline import check as run_check
        from textune.wording import count

    console, shown = result_console(), set[str]()

    def show_audit(result: CheckResult | DocumentsCheck) -> None:
        print_findings(console, result.findings)
        print_facts(console, result.words)
        shown.update(result.words)

    with run_tracker(quiet=quiet) as tracker:
        result = run_check(
            config,
            preset=preset,
            overrides=overrides,
            unset=unset,
            timing=not no_timing,
            tracker=tracker,
            audited=None if as_json else show_audit,
        )
    if as_json:
        num = sum(finding.level == "error" for finding in result.findings)
        unready = failure(f"Not ready: {count(num, 'error')}.", MEND, hint="Mend what `findings` calls an error.")
        print_json(result.to_dict(), failure=None if result.ok else unready)
    else:
        print_facts(console, {name: fact for name, fact in result.words.items() if name not in shown})
        counts = {level: sum(f.level == level for f in result.findings) for level in ("error", "warning")}
        verb = "render" if isinstance(result, DocumentsCheck) and not result.training else "train"
        laid = ["--preset", preset] if preset is not None else []
        then = shlex.join(
            ["textune", verb, config, *laid, *overrides, *(word for key in unset for word in ("--unset", key))]
        )
        verdict = f"ready: {then}" if result.ok else "not ready: fix the errors first"
        say(console, f"{count(counts['error'], 'error')}, {count(counts['warning'], 'warning')}; {verdict}")
    if not result.ok:
        raise click.exceptions.Exit(2)


@click.command(
    cls=Examples,
    short_help="Print the resolved config, with the origin of every value.",
    examples="textune show config.toml\ntextune show config.toml train.optimizer.lr=3e-5 --diff",
)
@config_options
@click.option("--diff", is_flag=True, help="Show only what differs from the defaults.")
@json_option
def show(config: str, overrides: tuple[str, ...], unset: tuple[str, ...], diff: bool, as_json: bool) -> None:
    """Print the resolved config, with the origin of every value."""
    from textune.adapters import load_any
    from textune.config import show as show_config

    loaded = load_any(config, overrides, unset)
    if as_json:
        print_json({"config": loaded.experiment.model_dump(mode="json"), "origins": loaded.origins})
    else:
        click.echo(show_config(loaded, diff=diff), nl=False)


@click.command(
    cls=Examples,
    short_help="List the configurations that come with textune.",
    examples="textune presets\n"
    "textune show preset:tiny --diff\n"
    "textune train preset:tiny --run runs/tiny\n"
    "textune train config.toml extends=preset:gpus",
)
@json_option
def presets(as_json: bool) -> None:
    """List the configurations that come with textune, each with what it is for.

    preset:NAME can stand wherever a config file can: after a verb, in `extends` of a file, and after extends= on the
    command line, which lays it over the config.
    """
    from textune.config import described_presets

    if as_json:
        print_json({"presets": described_presets()})
    else:
        from textune.console import print_facts

        print_facts(result_console(), {f"preset:{name}": line for name, line in described_presets().items()})


@click.command(
    "models",
    cls=Examples,
    short_help="List the backbones that have a short name.",
    examples="textune models\n"
    "textune models --json\n"
    "textune init reviews.csv --out config.toml --pretrained multilingual-minilm",
)
@json_option
def list_backbones(as_json: bool) -> None:
    """List the backbones that model.pretrained can name: what they read, their size, their licence, what was measured.

    `here` says where this machine has one: an installed package, or the cache of the Hugging Face hub; a minus: it is
    downloaded at first use. A folder of the same name, next to the config, goes before the table.
    """
    with importing(for_good=True):
        from textune.pipeline import models

    listed = models()
    if as_json:
        print_json({"models": [one.to_dict() for one in listed]})
        return
    from textune.console import print_table

    head = ("name", "languages", "M parameters", "MB", "licence", "context", "here")
    console = result_console()
    print_table(console, head, *(one.row for one in listed))
    for one in listed:
        say(console, f"{one.backbone.name}: {one.in_words}")


@click.command(
    cls=Examples,
    short_help="Print the JSON Schema of the config, for editors.",
    examples="textune schema > textune.schema.json\ntextune schema --markdown > docs/configuration.md",
)
@click.option("--markdown", is_flag=True, help="Print a reference page instead of JSON Schema.")
def schema(markdown: bool) -> None:
    """Print the JSON Schema of the config, for editors that complete and check TOML."""
    from textune.config import json_schema, reference_markdown

    if markdown:
        click.echo(reference_markdown(), nl=False)
    else:
        print_json_value(json_schema())
