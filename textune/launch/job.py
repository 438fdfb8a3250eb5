"""A job: what to run and with how many processes, checked, and the command of one node; imports no torch or TorchX."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from textune.config import load_config, require_runnable
from textune.errors import LaunchError

PORT = 29500
"""The port where the nodes of a job meet, unless the scheduler's script sets another: torchrun's default."""
MISTAKE = 200
"""Replaces a node's exit code 2 where srun passes on the highest code of all nodes: more than 128 + any signal."""
_CPUS_PER_PROCESS = 4


@dataclass(frozen=True)
class Job:
    """One training run on `nodes` machines. `checked` makes paths absolute and fills in counts."""

    config: str
    """The config file; every node reads it."""
    run: str = ""
    """The run folder; by default `runs/NAME-OF-CONFIG` in the current folder. Every node must be able to reach it."""
    overrides: tuple[str, ...] = ()
    """`key=value` words over the config."""
    unset: tuple[str, ...] = ()
    """Keys of the config that are reset to their defaults."""
    nodes: int = 1
    """Machines."""
    gpus: int = 0
    """GPUs per machine, with one process each; 0: none are requested."""
    processes: int = 0
    """Processes per machine, if no GPUs are requested; 0: one."""
    cpus: int = 0
    """CPU cores per machine; 0: four per process."""
    memory_mb: int = 0
    """Memory per machine in MB; 0: what the scheduler gives."""
    image: str = ""
    """Container image, if the scheduler runs containers."""
    mounts: tuple[str, ...] = ()
    """Mounts of the containers, in TorchX's notation: `type=volume,src=claim,dst=/data`."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every process."""
    sbatch: Mapping[str, str] = field(default_factory=dict)
    """Further options of sbatch, such as account."""
    grace: int = 120
    """Seconds between the scheduler's warning and the end: time to save a checkpoint."""
    max_retries: int = 3
    """How often a failed job is restarted; every start resumes from the last checkpoint."""

    @property
    def name(self) -> str:
        """The name of the run folder, in characters that every scheduler accepts."""
        text = "".join(
            letter if letter.isascii() and letter.isalnum() else "-" for letter in Path(self.run).name.lower()
        )
        return text.strip("-")[:40].strip("-") or "textune"

    def command(self, *, endpoint: str, job_id: str, signals: Literal["agent", "everyone"] = "agent") -> str:
        """The shell command of one node: torchrun with the job's processes per node.

        `endpoint` (host and port where the nodes meet) and `job_id` may hold shell variables; all else is quoted.
        `signals`: which processes receive the scheduler's signals (see node.py).
        """
        python = "python" if self.image else sys.executable  # an image has its own Python
        before = [python, "-m", "textune.launch.node", f"--signals={signals}"]
        before += [
            f"--nnodes={self.nodes}",
            f"--nproc-per-node={self.processes}",
            "--max-restarts=0",
            "--rdzv-backend=c10d",
        ]
        # torchrun would take --run for an abbreviation of its own --run-path.
        after = ["-m", "textune", "train", self.config, "--run-folder", self.run, "--resume", "auto"]
        after += [word for key in self.unset for word in ("--unset", key)] + list(self.overrides)
        meeting = f'--rdzv-endpoint="{endpoint}" --rdzv-id="{job_id}"'
        return f"exec {shlex.join(before)} {meeting} {shlex.join(after)}"

    def variables(self) -> dict[str, str]:
        """Environment variables of every process: the user's, and those that follow from the job."""
        found = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(self.grace)}  # otherwise torchrun kills workers after 30 s
        if self.cpus and "OMP_NUM_THREADS" not in os.environ:
            found["OMP_NUM_THREADS"] = str(max(1, self.cpus // self.processes))
        return found | dict(self.env)

    @property
    def cores(self) -> int:
        """CPU cores to request per machine."""
        return self.cpus or _CPUS_PER_PROCESS * self.processes


def checked(job: Job) -> Job:
    """The job with absolute paths and all counts; LaunchError or ConfigError if it could not run.

    The config is loaded with its overrides, so that a mistake is found here and not on the cluster an hour later.
    """
    limits = {"nodes": 1, "gpus": 0, "processes": 0, "cpus": 0, "memory_mb": 0, "grace": 1, "max_retries": 0}
    for name, least in limits.items():
        value = getattr(job, name)
        if value < least:
            raise LaunchError(f"{name} = {value}: expected at least {least}.")
    if job.gpus and job.processes not in (0, job.gpus):
        raise LaunchError(
            f"{job.gpus} GPUs but {job.processes} processes on each node.",
            hint="Each process uses one GPU: leave the processes out, or request 0 GPUs.",
        )
    loaded = load_config(job.config, job.overrides, job.unset)
    require_runnable(loaded.experiment)
    run = job.run or os.path.join("runs", loaded.name)
    job = replace(
        job,
        config=str(loaded.path or job.config),
        run=os.path.abspath(os.path.expanduser(run)),
        processes=job.gpus or job.processes or 1,
    )
    for name in job.env:
        if not (name.isascii() and name.isidentifier()):
            raise LaunchError(f"{name!r} cannot be the name of an environment variable.")
    for word in (job.config, job.run, *job.overrides, *job.unset, *job.env.values(), *job.sbatch.values()):
        if not word.isprintable():
            raise LaunchError(
                f"{word!r} contains a line break or another control character; job scripts cannot hold those."
            )
    return job
