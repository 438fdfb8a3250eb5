"""The batch script of Slurm: one task on each node, a warning before the end, and a requeue that goes on where it stopped.

TorchX's own script is not used: it makes each node a job of its own in a heterogeneous job, knows no `--signal`, hands
`--cpus-per-task` to sbatch alone (since Slurm 22.05 srun must be told again), and takes a pre-emption for a failure.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from textune.errors import LaunchError
from textune.launch.job import PORT, Job

SBATCH_OPTIONS = ("account", "qos", "reservation", "nodelist", "exclude", "dependency", "exclusive", "gres", "licenses")
"""What can be said to sbatch beside TorchX's own options."""


@dataclass
class SlurmRequest:
    """What TorchX's scheduler for Slurm submits, in place of its own request."""

    script: str
    cmd: list[str]
    job_dir: str | None = None

    def materialize(self) -> str:
        """The text of the batch script."""
        return self.script

    def __repr__(self) -> str:
        return self.script


def slurm_request(job: Job, options: Mapping[str, str | None], environment: Mapping[str, str]) -> SlurmRequest:
    """The request of a job; `options` are those of sbatch that TorchX worked out, `environment` is that of its role.

    LaunchError where the job names an option of sbatch that is not passed on.
    """
    _refuse_unknown(job.sbatch)
    return SlurmRequest(_script(job, _directives(job, options), environment), ["sbatch", "--parsable"])


def _refuse_unknown(sbatch: Mapping[str, str]) -> None:
    """LaunchError for an option of sbatch that is not one of ours."""
    for name in sbatch:
        if name not in SBATCH_OPTIONS:
            raise LaunchError(
                f"{name} is no option that is passed on to sbatch.", hint=f"There are: {', '.join(SBATCH_OPTIONS)}."
            )


def _directives(job: Job, options: Mapping[str, str | None]) -> dict[str, str | None]:
    kept = {name: value for name, value in options.items() if name != "gpus-per-task"}
    kept |= {"job-name": f"{job.name}-0", "nodes": str(job.nodes), "ntasks-per-node": "1"}
    if job.gpus:
        kept["gpus-per-node"] = str(job.gpus)
    kept |= {"requeue": None, "open-mode": "append", "signal": f"USR1@{job.grace}"}
    kept |= {name: value or None for name, value in job.sbatch.items()}
    return kept


def _script(job: Job, directives: Mapping[str, str | None], environment: Mapping[str, str]) -> str:
    heads = [f"--{name}" if value is None else f"--{name}={shlex.quote(value)}" for name, value in directives.items()]
    exports = [f"export {name}={_with_job_id(value)}" for name, value in environment.items()]
    command = job.command(endpoint="$TEXTUNE_ENDPOINT", job_id="$SLURM_JOB_ID", signals="everyone")
    logs = f"--output=slurm-%j-{job.name}-%t.out --error=slurm-%j-{job.name}-%t.err --open-mode=append"
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {head}" for head in heads),
        "",
        *exports,
        "# The batch script runs on the first node of the job. Each job has a port of its own, should two share a node.",
        f'export TEXTUNE_ENDPOINT="$(hostname):$(({PORT} - SLURM_JOB_ID % 10000))"',
        "",
        "# A node that ends first leaves the others the same time to save and end.",
        f"srun --cpus-per-task={job.cores} --kill-on-bad-exit=0 --wait={job.grace} {logs} \\",
        f"  bash -c {shlex.quote(command)}",
        "code=$?",
        "",
        "case $code in",
        "  0 | 2 | 130) ;;  # done; a mistake that another start would only repeat; stopped by a person",
        '  138 | 143) echo "Pre-empted: the run is saved and the job requeued."; scontrol requeue "$SLURM_JOB_ID" ;;',
        f'  *) if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {job.max_retries} ]; then scontrol requeue "$SLURM_JOB_ID"; fi ;;',
        "esac",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


def _with_job_id(value: str) -> str:
    """TorchX writes the number of the job, which Slurm gives only later, as a variable of its own."""
    return '"$SLURM_JOB_ID"'.join(shlex.quote(part) if part else "" for part in value.split("${app_id}")) or "''"
