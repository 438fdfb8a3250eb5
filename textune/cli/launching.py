"""The verb `launch`, registered in `cli/__init__.py`: a config, a scheduler and a number of machines to a job."""

from __future__ import annotations

from typing import Any

import click

from textune.cli.options import config_options, json_option
from textune.cli.output import print_json
from textune.cli.verbs import Examples
from textune.errors import LaunchError


def _pairs(option: str, words: tuple[str, ...]) -> dict[str, str]:
    for word in words:
        if "=" not in word:
            raise LaunchError(f"{option} {word}: expected NAME=VALUE.")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


@click.command(
    cls=Examples,
    short_help="Train on one or many machines, through a scheduler.",
    examples="textune launch config.toml --scheduler slurm --nodes 2 --gpus 8 --scheduler-option time=4:00:00\n"
    "textune launch config.toml --scheduler slurm --gpus 0 --processes 4 --dry-run train.optimizer.lr=3e-5\n"
    "textune launch config.toml --scheduler kubernetes --gpus 1 --image registry/textune:1 \\\n"
    "    --mount type=volume,src=work,dst=/work --scheduler-option queue=default",
)
@config_options
@click.option(
    "--scheduler",
    default="local",
    show_default=True,
    metavar="NAME",
    help="local, slurm, kubernetes, local_docker, ray, lsf, aws_batch, aws_sagemaker, gcp_batch or kubernetes_mcad.",
)
@click.option(
    "--run",
    default="",
    metavar="FOLDER",
    help="The run folder, on storage that all machines share; by default runs/NAME-OF-CONFIG.",
)
@click.option("--nodes", type=int, default=1, show_default=True, help="Machines.")
@click.option(
    "--gpus",
    type=int,
    help="GPUs per machine, one process for each; 0 for machines without. Required unless it runs on this machine.",
)
@click.option("--processes", type=int, default=0, help="Processes per machine if it has no GPUs; by default one.")
@click.option("--cpus", type=int, default=0, help="Processor cores per machine; by default four per process.")
@click.option(
    "--memory-mb", type=int, default=0, help="Memory per machine in MB; by default what the scheduler gives."
)
@click.option("--image", default="", help="Container image, if the scheduler runs containers.")
@click.option(
    "--mount", multiple=True, metavar="SPEC", help="Storage for containers, such as type=volume,src=CLAIM,dst=/data."
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment variable of every process.")
@click.option(
    "--scheduler-option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option for the scheduler: time, partition, account, queue, ...",
)
@click.option(
    "--grace",
    type=int,
    default=120,
    show_default=True,
    help="Seconds to save in, between the scheduler's warning and the end.",
)
@click.option("--max-retries", type=int, default=3, show_default=True, help="How often a failed job is restarted.")
@click.option("--dry-run", is_flag=True, help="Print the exact request and submit nothing.")
@json_option
def launch(
    config: str,
    scheduler: str,
    options: tuple[str, ...],
    gpus: int | None,
    dry_run: bool,
    as_json: bool,
    **words: Any,
) -> None:
    """Train on one or many machines: hand the run to a scheduler, which restarts it after a pre-emption.

    Each start resumes from the last checkpoint (`textune train --resume auto`). The config is checked first.
    """
    from textune.launch import Job, prepare, require_scheduler

    require_scheduler(scheduler)
    if gpus is None and scheduler != "local":
        raise LaunchError(
            "--gpus is missing: how many GPUs does each machine have?", hint="Set --gpus 0 for machines without."
        )
    job = Job(
        config,
        gpus=gpus or 0,
        mounts=words.pop("mount"),
        env=_pairs("--env", words.pop("env")),
        **words,
    )
    request = prepare(job, scheduler, options, dry_run=dry_run)
    if dry_run:
        if as_json:
            print_json({"request": request.text})
        else:
            click.echo(request.text, nl=False)
        return
    handle = request.submit()
    if as_json:
        print_json({"job": handle})
    else:
        click.echo(f"{'Done' if scheduler == 'local' else 'Submitted'}: {handle}")
