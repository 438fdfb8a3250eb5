"""What is to be run and on how many processes, checked, and the command of one node; free of torch and TorchX."""

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
"""Where the nodes of a job meet, unless the scheduler's script says otherwise: torchrun's own default."""
MISTAKE = 200
"""What exit code 2 of a node becomes where srun passes on the highest of all nodes: more than 128 + any signal."""
_CPUS_PER_PROCESS = 4


@dataclass(frozen=True)
class Job:
    """One training run on `nodes` machines; as `checked` returns it, paths are absolute and counts filled in."""

    config: str
    """The config file; every node reads it."""
    run: str = ""
    """The run folder; by default `runs/NAME-OF-CONFIG` in the current folder. Every node must reach it."""
    overrides: tuple[str, ...] = ()
    """`key=value` words over the config."""
    unset: tuple[str, ...] = ()
    """Keys of the config that are taken back."""
    nodes: int = 1
    """Machines."""
    gpus: int = 0
    """GPUs of each machine, one process for each; 0: none are asked for."""
    processes: int = 0
    """Processes of each machine where no GPUs are asked for; 0: one."""
    cpus: int = 0
    """Processor cores of each machine; 0: four for each process."""
    memory_mb: int = 0
    """Memory of each machine in MB; 0: what the scheduler gives."""
    image: str = ""
    """Container image, where the scheduler runs containers."""
    mounts: tuple[str, ...] = ()
    """What containers see of the outside, in TorchX's notation: `type=volume,src=claim,dst=/data`."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of every process."""
    sbatch: Mapping[str, str] = field(default_factory=dict)
    """Further options of sbatch, such as account."""
    grace: int = 120
    """Seconds between the scheduler's warning and the end: time to save a checkpoint."""
    max_retries: int = 3
    """How often a job that failed is started again; every start resumes from the last checkpoint."""

    @property
    def name(self) -> str:
        """The name of the run folder, in letters that every scheduler takes."""
        text = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in Path(self.run).name.lower())
        return text.strip("-")[:40].strip("-") or "textune"

    def command(self, *, endpoint: str, job_id: str, signals: Literal["agent", "everyone"] = "agent") -> str:
        """The shell command of one node: torchrun with as many processes as the job has on each.

        `endpoint` (host and port where the nodes meet) and `job_id` may hold variables of the shell; all else is quoted.
        `signals` says whom the scheduler sends its signals to (see node.py).
        """
        python = "python" if self.image else sys.executable  # an image has its own
        before = [python, "-m", "textune.launch.node", f"--signals={signals}"]
        before += [f"--nnodes={self.nodes}", f"--nproc-per-node={self.processes}", "--max-restarts=0", "--rdzv-backend=c10d"]
        # torchrun would take --run for its own --run-path, shortened.
        after = ["-m", "textune", "train", self.config, "--run-folder", self.run, "--resume", "auto"]
        after += [word for key in self.unset for word in ("--unset", key)] + list(self.overrides)
        meeting = f'--rdzv-endpoint="{endpoint}" --rdzv-id="{job_id}"'
        return f"exec {shlex.join(before)} {meeting} {shlex.join(after)}"

    def variables(self) -> dict[str, str]:
        """Environment of every process: the user's, and what follows from the job."""
        found = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(self.grace)}  # torchrun kills workers after 30 s otherwise
        if self.cpus and "OMP_NUM_THREADS" not in os.environ:
            found["OMP_NUM_THREADS"] = str(max(1, self.cpus // self.processes))
        return found | dict(self.env)

    @property
    def cores(self) -> int:
        """Processor cores to ask for on each machine."""
        return self.cpus or _CPUS_PER_PROCESS * self.processes


def checked(job: Job) -> Job:
    """The job with absolute paths and all counts; LaunchError or ConfigError where it could not run.

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
            hint="One process computes on one GPU: leave the processes out, or ask for 0 GPUs.",
        )
    loaded = load_config(job.config, job.overrides, job.unset)
    require_runnable(loaded.experiment)
    run = job.run or os.path.join("runs", Path(job.config).stem)
    job = replace(
        job,
        config=str(loaded.path),
        run=os.path.abspath(os.path.expanduser(run)),
        processes=job.gpus or job.processes or 1,
    )
    for name in job.env:
        if not (name.isascii() and name.isidentifier()):
            raise LaunchError(f"{name!r} cannot be the name of an environment variable.")
    for word in (job.config, job.run, *job.overrides, *job.unset, *job.env.values(), *job.sbatch.values()):
        if not word.isprintable():
            raise LaunchError(f"{word!r} holds a line break or another control character, which no job script can carry.")
    return job
