"""The commands of bsmetadata: its configuration converted, and its two scripts."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from textune.adapters import FLAGS, named_config, read_flags
from textune.adapters import convert_bsmetadata as convert_files
from textune.cli.models import evaluate
from textune.cli.options import json_option, resume_and_overrides
from textune.cli.output import aside
from textune.cli.systems.shared import Training, converting, print_converted, train_foreign, training
from textune.cli.verbs import Examples, quiet_option
from textune.launch import accelerated


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


@click.command(
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
@converting
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
    foreign = convert_files(
        None if config is None else Path(config),
        words,
        deepspeed=None if deepspeed is None else Path(deepspeed),
        **_choices(settled),
    )
    print_converted(foreign, out=out, as_json=as_json)


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
@training
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.pass_context
def train_as_bsmetadata(
    context: click.Context,
    /,
    config_name: str | None,
    config_path: str | None,
    deepspeed: str | None,
    local_rank: int | None,
    how: Training,
    words: tuple[str, ...],
    **settled: Any,
) -> None:
    """Train what bsmetadata's script of this name trains with these words; out_dir becomes the run folder.

    The config of the run folder has every value with the key of bsmetadata that it comes from, and names what was left
    out and what is done otherwise. A run that was stopped resumes with --resume.
    """
    resume, words = resume_and_overrides(how.resume, words)
    told = accelerated()
    file = deepspeed or told.deepspeed
    choices = _choices(settled)
    choices["processes"] = how.num_processes(choices["processes"])
    foreign = convert_files(
        named_config(context.info_name or "", config_name, path=config_path),
        words,
        deepspeed=None if file is None else Path(file),
        precision=told.precision,
        **choices,
    )
    train_foreign(foreign, context, replace(how, resume=resume))


def _flags(function: Callable[..., None]) -> Callable[..., None]:
    """An option for each flag of the script, by the adapter's table."""
    for name, flag in reversed(FLAGS.items()):
        option = click.option(f"--{name}", help=flag.help, is_flag=flag.default is False, type=type(flag.default))
        function = option(function)
    return function


@click.command(
    "bsmetadata/evaluation.py",
    cls=Examples,
    hidden=True,
    examples="textune bsmetadata/evaluation.py --repo_id metadata_outputs --metadata_to_test html,title --no_cuda",
)
@_flags
@click.option("--data", metavar="FILE", multiple=True, help="Documents; by default the run's own.")
@json_option
@quiet_option
def evaluate_as_bsmetadata(data: tuple[str, ...], as_json: bool, quiet: bool, **flags: Any) -> None:
    """Evaluate as bsmetadata's script of this name: what each type of metadata is worth to a language model.

    It is a call of `textune evaluate RUN --by-metadata`, which is shown.
    """
    call = read_flags({name: value for name, value in flags.items() if value})
    words = [*call.words, *(word for file in data for word in ("--data", file))]
    if not quiet:
        aside(f"note: as {shlex.join(['textune', 'evaluate', *words])}")
        for note in (*call.notes, *(f"{one.key}: {one.reason}" for one in call.left_out)):
            aside(f"note: {note}")
    words += ["--json"] * as_json + ["--quiet"] * quiet
    evaluate.main(words, prog_name="textune evaluate", standalone_mode=False)
