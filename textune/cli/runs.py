"""Verbs that make a run: train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from textune.cli.options import (
    OWN_RANKS,
    config_options,
    json_option,
    own_ranks_option,
    preset_option,
    processes_option,
    processes_started,
    resume_and_overrides,
    resume_option,
    run_option,
)
from textune.cli.output import print_json, result_console, run_tracker, say
from textune.cli.verbs import Examples, quiet_option
from textune.imports import importing
from textune.ranks import launched

if TYPE_CHECKING:
    from rich.console import Console

    from textune.config import Config, TrainSection
    from textune.pipeline import TrainResult


@click.command(
    cls=Examples,
    short_help="Train, keep the best model, evaluate it, write the run folder.",
    examples="textune train config.toml --run runs/first\n"
    "textune train config.toml --run runs/second train.optimizer.lr=3e-5 'train.duration=2 epochs'\n"
    "textune train config.toml --preset fast\n"
    "textune train config.toml --run runs/first --resume\n"
    "textune train config.toml --run runs/branch --resume runs/first/checkpoints/step-120\n"
    "textune train config.toml --fast-dev-run\n"
    "textune train training-wizard.toml --processes 4",
)
@config_options
@preset_option
@run_option
@resume_option
@click.option("--dry-run", is_flag=True, help="Build and check everything, show what would be trained, write nothing.")
@click.option("--fast-dev-run", is_flag=True, help="One batch of everything, in a folder that is removed again.")
@processes_option
@own_ranks_option
@json_option
@quiet_option
@click.pass_obj
def train(
    words: list[str] | None,
    config: str,
    overrides: tuple[str, ...],
    unset: tuple[str, ...],
    preset: str | None,
    run: str | None,
    resume: str | None,
    dry_run: bool,
    fast_dev_run: bool,
    processes: int | None,
    own_ranks: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train, keep the best model, evaluate it, and write the run folder.

    A run that was stopped resumes with --resume, exactly from its last checkpoint. CONFIG may also be a file of
    training-wizard, torchrecipes or bsmetadata; `textune convert` shows what becomes of it.
    """
    from textune.adapters import load_any

    resume, overrides = resume_and_overrides(resume, overrides)
    loaded = load_any(
        config, overrides, unset, processes=processes_started(processes, own_ranks=own_ranks), preset=preset
    )
    if processes is not None and not loaded.kept:
        raise click.UsageError(
            "--processes is for files of other systems, whose rows of a step depend on it; train.distributed.devices"
            " says how many processes train."
        )
    if not (dry_run or launched()):
        share_among_devices(loaded.experiment.train, words or [])
    train_and_report(
        loaded, dry_run=dry_run, fast_dev_run=fast_dev_run, as_json=as_json, quiet=quiet, run=run, resume=resume
    )


def train_and_report(
    config: Config, *, dry_run: bool = False, fast_dev_run: bool = False, as_json: bool, quiet: bool, **how: Any
) -> None:
    """Train a config, with further arguments of `textune.train`, and print its reports and what comes next."""
    with importing(for_good=True):
        from textune.pipeline import train as run_train

    with run_tracker(quiet=quiet) as tracker:
        result = run_train(config, dry_run=dry_run, fast_dev_run=fast_dev_run, tracker=tracker, **how)
        if dry_run and result.facts is not None:
            tracker.header(result.facts)
    if as_json:
        print_json(result.to_dict())
        return
    console = result_console()
    if dry_run:
        say(console, "Dry run: nothing was trained or written.")
        return
    from textune.evaluation import render

    for report in result.reports.values():
        render.console.render(report, console)
    if fast_dev_run:
        say(console, "Fast development run: one batch of everything works; its folder is removed again.")
        return
    _say_what_comes_next(console, result)


def _say_what_comes_next(console: Console, result: TrainResult) -> None:
    """Where the model is, and the commands that use it."""
    from textune.prediction import find_model, read_card
    from textune.run import closing_words

    words = closing_words(
        result.run,
        read_card(find_model(result.run)),
        steps=result.steps,
        best_step=result.best_step,
        seconds=result.seconds,
        complete_before=result.complete_before,
    )
    say(console, f"\n{words}")


def share_among_devices(section: TrainSection, words: list[str]) -> None:
    """Start a process for each device, if there are several; this process then exits with their code.

    Under `accelerate launch` this process is all that was asked for.
    """
    import torch

    from textune.launch import accelerated, become_processes, num_processes

    if accelerated().precision is not None:
        return
    count = num_processes(section, num_gpus=torch.cuda.device_count())
    if count > 1:
        end = words.index("--") if "--" in words else len(words)  # what follows the dashes is no option
        become_processes(count, [*words[:end], OWN_RANKS, *words[end:]])
