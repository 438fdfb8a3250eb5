"""Configurations and commands of other systems: the verb `convert`, and their scripts as words of `textune`.

To add a script, write its command here, and a row in `SCRIPTS`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from textune.cli.models import evaluate
from textune.cli.options import Examples, GroupExamples, json_option, quiet_option, resume_and_overrides, resume_option
from textune.cli.output import print_json
from textune.cli.runs import share_among_devices, train_and_report
from textune.ranks import launched, launched_world


@click.group(
    cls=GroupExamples,
    short_help="Turn another system's configuration into one of textune.",
    examples="textune convert bsmetadata --config v2.yaml --deepspeed v2.json --prefer deepspeed --out v2.toml",
)
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


@click.command(
    "bsmetadata/train.py",
    cls=Examples,
    hidden=True,
    examples="textune bsmetadata/train.py --config-name v2 --deepspeed bsmetadata/deepspeed_configs/v2.json\n"
    "accelerate launch --config_file accelerate_config.yaml -m textune bsmetadata/train.py --config-name v2 \\\n"
    "    model_name=gpt2-xl data_config.train_file='*.jsonl.gz'",
)
@click.option("--config-name", "-cn", metavar="NAME", help="A YAML file of hydra_configs, without its ending.")
@click.option("--config-path", "-cp", "--config-dir", metavar="FOLDER", help="Where that file is.")
@click.option("--deepspeed", metavar="FILE", help="The DeepSpeed file; by default that of accelerate's configuration.")
@_settled
@click.option("--local_rank", "--local-rank", type=int, hidden=True)
@resume_option
@click.option("--dry-run", is_flag=True, help="Build and check everything, show what would be trained, write nothing.")
@json_option
@quiet_option
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.pass_context
def train_as_bsmetadata(
    context: click.Context,
    /,
    config_name: str | None,
    config_path: str | None,
    deepspeed: str | None,
    local_rank: int | None,
    resume: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    words: tuple[str, ...],
    **settled: Any,
) -> None:
    """Train what bsmetadata's script of this name trains with these words; out_dir becomes the run folder.

    The config of the run folder has every value with the key of bsmetadata that it comes from, and names what was left
    out and what is done otherwise. A run that was stopped resumes with --resume.
    """
    from textune.adapters import convert_bsmetadata as convert_files
    from textune.adapters import load_foreign, named_config
    from textune.launch import accelerated

    resume, words = resume_and_overrides(resume, words)
    told = accelerated()
    file = deepspeed or told.deepspeed
    choices = _choices(settled)
    if launched() and choices["processes"] is None:
        choices["processes"] = launched_world()
    foreign = convert_files(
        named_config(context.info_name or "", config_name, path=config_path),
        words,
        deepspeed=None if file is None else Path(file),
        precision=told.precision,
        **choices,
    )
    loaded = load_foreign(foreign)
    if not (dry_run or launched() or told.precision):
        share_among_devices(loaded.experiment.train, context.obj or [])
    train_and_report(loaded, dry_run=dry_run, as_json=as_json, quiet=quiet, run=foreign.run, resume=resume)


def evaluation_of_bsmetadata() -> click.Command:
    """The command that stands for bsmetadata's `evaluation.py`; made where it is used, since its flags are a table of
    the adapter."""
    from textune.adapters import FLAGS

    command = evaluate_as_bsmetadata
    flags = [
        click.Option([f"--{name}"], help=flag.help, is_flag=flag.default is False, type=type(flag.default))
        for name, flag in FLAGS.items()
    ]
    known = {parameter.name for parameter in command.params}
    command.params = [*(flag for flag in flags if flag.name not in known), *command.params]
    return command


@click.command(
    "bsmetadata/evaluation.py",
    cls=Examples,
    hidden=True,
    examples="textune bsmetadata/evaluation.py --repo_id metadata_outputs --metadata_to_test html,title --no_cuda",
)
@click.option("--data", metavar="FILE", multiple=True, help="Documents; by default the run's own.")
@json_option
@quiet_option
def evaluate_as_bsmetadata(data: tuple[str, ...], as_json: bool, quiet: bool, **flags: Any) -> None:
    """Evaluate as bsmetadata's script of this name: what each type of metadata is worth to a language model.

    It is a call of `textune evaluate RUN --by-metadata`, which is shown.
    """
    from textune.adapters import read_flags

    call = read_flags({name: value for name, value in flags.items() if value})
    words = [*call.words, *(word for file in data for word in ("--data", file))]
    if not quiet:
        click.echo(f"note: as {shlex.join(['textune', 'evaluate', *words])}", err=True)
        for note in (*call.notes, *(f"{one.key}: {one.reason}" for one in call.left_out)):
            click.echo(f"note: {note}", err=True)
    words += ["--json"] * as_json + ["--quiet"] * quiet
    evaluate.main(words, prog_name="textune evaluate", standalone_mode=False)


SCRIPTS: dict[tuple[str, str], Callable[[], click.Command]] = {
    ("bsmetadata", "train"): lambda: train_as_bsmetadata,
    ("bsmetadata", "evaluation"): evaluation_of_bsmetadata,
}
"""Commands by the folder and the name of the script that they stand for."""


def script_called(word: str) -> click.Command | None:
    """The command that stands for a script, such as `bsmetadata/train.py`; None for any other word."""
    *folders, name = word.replace("\\", "/").split("/")
    found = SCRIPTS.get((folders[-1] if folders else "", name.removesuffix(".py")))
    return None if found is None else found()
