"""From a job to the scheduler: the known schedulers, what they need, their options, and the exact request."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from textune.errors import LaunchError
from textune.launch.job import Job, checked
from textune.launch.slurm import SBATCH_OPTIONS
from textune.wording import nearest

SCHEDULERS = {
    "local": "",
    "slurm": "",
    "kubernetes": "kubernetes",
    "kubernetes_mcad": "kubernetes",
    "local_docker": "docker",
    "aws_batch": "boto3",
    "aws_sagemaker": "sagemaker",
    "gcp_batch": "google-cloud-batch",
    "ray": "ray",
    "lsf": "",
}
"""Schedulers that TorchX supports, and the additional Python package that each needs."""
_IN_CONTAINERS = ("kubernetes", "kubernetes_mcad", "local_docker", "aws_batch", "gcp_batch", "aws_sagemaker")
_COMMANDS = {
    "slurm": ("sbatch", "Launch from a machine of the cluster, or install Slurm's commands (Debian: slurm-client)."),
    "lsf": ("bsub", "Launch from a machine of the cluster."),
}
_LEFT_OUT = {"job_dir"}  # a copy of the current folder; what runs here is the installed package


@dataclass(frozen=True)
class Request:
    """What would be submitted, and how to submit it."""

    text: str
    """The exact request: a shell command, a batch script or a manifest."""
    submit: Callable[[], str]
    """Submits; returns TorchX's name of the job, such as slurm://textune/12. A local job is run to its end."""


def require_scheduler(name: str) -> None:
    """Raise LaunchError, with the nearest name, for an unknown scheduler."""
    if name not in SCHEDULERS:
        raise LaunchError(f"Unknown scheduler {name}.", hint=_nearest(name, tuple(SCHEDULERS)))


def prepare(job: Job, scheduler: str, options: Sequence[str] = (), *, dry_run: bool = False) -> Request:
    """Check everything and make the request; nothing is submitted yet.

    `options` are `key=value` words for the scheduler. With `dry_run` the scheduler's commands need not be installed.
    Raises LaunchError for problems with the job or the scheduler, ConfigError for problems with the config.
    """
    require_scheduler(scheduler)
    job = checked(job)
    if scheduler == "local" and job.nodes == 1:
        for option in options:
            raise LaunchError(f"--scheduler-option {option}: a single local node takes no options.")
        command = job.command(endpoint="localhost:0", job_id="local")
        return Request(f"{command}\n", lambda: _become(command, job.variables()))
    _require(scheduler, dry_run=dry_run)
    if scheduler in _IN_CONTAINERS and not job.image:
        raise LaunchError(
            f"--scheduler {scheduler} runs containers, but no image is given.",
            hint="Name one that has textune with --image.",
        )
    if job.image and scheduler in ("local", "slurm"):
        message = f"--image {job.image}: {scheduler} runs the installed textune, not a container."
        raise LaunchError(message, hint="Leave --image out.")
    return _through_torchx(job, scheduler, options)


def _through_torchx(job: Job, scheduler: str, options: Sequence[str]) -> Request:
    from torchx.runner import get_runner

    from textune.launch.application import application

    backend = "local_cwd" if scheduler == "local" else scheduler
    with _foreign(scheduler):
        runner = get_runner("textune")
        known = dict(runner.scheduler_run_opts(backend))
    said, sbatch = _options(scheduler, options, known)
    if backend == "local_cwd" and job.gpus:
        said.setdefault("auto_set_cuda_visible_devices", True)  # each local node gets its own GPUs
    job = replace(job, sbatch={**job.sbatch, **sbatch})
    with _foreign(scheduler):
        info = runner.dryrun(application(job), backend, said)

    def submit() -> str:
        with _foreign(scheduler):
            handle = str(runner.schedule(info))
            if backend == "local_cwd":
                _follow(runner, handle)
        return handle

    return Request(f"{info}".rstrip("\n") + "\n", submit)


def _options(scheduler: str, options: Sequence[str], known: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The scheduler's own options, converted to their types, and the options for sbatch."""
    own = tuple(name for name in known if name not in _LEFT_OUT)
    more = SBATCH_OPTIONS if scheduler == "slurm" else ()
    said: dict[str, Any] = {}
    sbatch: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not option.isprintable():
            raise LaunchError(f"--scheduler-option {option!r}: expected key=value.")
        if name in own:
            said[name] = _typed(name, value, known[name].opt_type)
        elif name in more:
            sbatch[name] = value
        else:
            raise LaunchError(
                f"--scheduler-option {name}: {scheduler} has no such option.", hint=_nearest(name, own + more)
            )
    for name in own:
        if known[name].is_required and name not in said:
            raise LaunchError(f"--scheduler {scheduler} needs --scheduler-option {name}=...: {known[name].help}.")
    return said, sbatch


def _typed(name: str, value: str, kind: Any) -> Any:
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind is str:
        return value
    if kind is int and value.isdigit():
        return int(value)
    if kind not in (bool, int):
        return value.split(",")
    raise LaunchError(
        f"--scheduler-option {name}={value}: expected {'true or false' if kind is bool else 'a whole number'}."
    )


def _nearest(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names)
    return f"Did you mean {near}?" if near else f"Known: {', '.join(names)}."


def _require(scheduler: str, *, dry_run: bool) -> None:
    """Raise LaunchError, naming what to install, if something that the scheduler needs is missing."""
    if importlib.util.find_spec("torchx") is None:
        raise LaunchError("TorchX is not installed.", hint='Install it with `pip install "textune[launch]"`.')
    package = SCHEDULERS[scheduler]
    if package and not _importable(package.replace("-", ".")):
        raise LaunchError(
            f"--scheduler {scheduler} needs the Python package {package}.", hint=f"`pip install {package}`"
        )
    command, hint = _COMMANDS.get(scheduler, ("", ""))
    if command and not dry_run and shutil.which(command) is None:
        raise LaunchError(
            f"--scheduler {scheduler} needs the command {command}, which is not installed here.", hint=hint
        )


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent is missing
        return False


@contextmanager
def _foreign(scheduler: str) -> Iterator[None]:
    """Turn whatever a scheduler's client raises into one sentence; hide its warnings, which users cannot act on."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except LaunchError:
        raise
    except Exception as error:
        line = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
        raise LaunchError(
            f"--scheduler {scheduler} did not take the job: {line}.", hint="Nothing was submitted."
        ) from error


def _become(command: str, variables: dict[str, str]) -> NoReturn:
    """Replace this process by torchrun, so that signals and the exit code pass directly."""
    sys.stdout.flush()
    os.environ.update(variables)
    words = shlex.split(command)[1:]  # without `exec`
    os.execvp(words[0], words)


def _follow(runner: Any, handle: str) -> None:
    """Show the output of the nodes of a local job until it ends; LaunchError if it fails."""
    from torchx.cli.cmd_log import get_logs

    words = {"file": sys.stderr, "runner": runner, "identifier": handle, "regex": None, "should_tail": True}
    lines = threading.Thread(target=get_logs, kwargs=words, daemon=True)
    lines.start()
    status = runner.wait(handle, wait_interval=1)
    lines.join(10)
    if status is None or status.state.name != "SUCCEEDED":
        ended = "is unknown" if status is None else status.state.name.lower()
        raise LaunchError(f"the local job {ended}.", hint="See the output of its nodes above.")
