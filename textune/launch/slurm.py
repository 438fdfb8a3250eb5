"""The batch script for Slurm: one task per node, a warning before the end, and a requeue that resumes the run.

TorchX's own script is not used: it makes each node a separate part of a heterogeneous job, has no `--signal`, gives
`--cpus-per-task` only to sbatch (since Slurm 22.05 srun needs it, too), and treats a pre-emption as a failure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from textune.errors import LaunchError
from textune.launch.job import MISTAKE, PORT, Job

SBATCH_OPTIONS = (
    "account",
    "qos",
    "reservation",
    "nodelist",
    "exclude",
    "dependency",
    "exclusive",
    "gres",
    "licenses",
)
"""Options of sbatch that are passed on besides TorchX's own."""


@dataclass
class SlurmRequest:
    """What TorchX's Slurm scheduler submits instead of its own request."""

    script: str
    cmd: list[str]
    job_dir: str | None = None

    def materialize(self) -> str:
        """The text of the batch script."""
        return self.script

    def __repr__(self) -> str:
        return self.script


def slurm_request(job: Job, options: Mapping[str, str | None], environment: Mapping[str, str]) -> SlurmRequest:
    """The request of a job; `options` are the sbatch options computed by TorchX, `environment` is that of its role.

    LaunchError if the job names an option of sbatch that is not passed on, or if its time limit is within the grace
    time.
    """
    _refuse_unknown(job.sbatch)
    _refuse_short(options.get("time"), job.grace)
    return SlurmRequest(_script(job, _directives(job, options), environment), ["sbatch", "--parsable"])


def _refuse_unknown(sbatch: Mapping[str, str]) -> None:
    """Raise LaunchError for an option of sbatch that is not passed on."""
    for name in sbatch:
        if name not in SBATCH_OPTIONS:
            raise LaunchError(
                f"{name} is not an option that is passed on to sbatch.", hint=f"Known: {', '.join(SBATCH_OPTIONS)}."
            )


def seconds(time: str) -> float:
    """A time limit in any of Slurm's notations (`man sbatch`, --time), in seconds; infinity for no limit.

    LaunchError for anything else.
    """
    if time.lower() in ("0", "-1", "unlimited", "infinite"):
        return float("inf")
    days, dash, clock = time.rpartition("-")
    parts = clock.split(":")
    if len(parts) > 3 or not all(re.fullmatch("[0-9]+", part) for part in ([days] if dash else []) + parts):
        raise LaunchError(
            f"--scheduler-option time={time} is not a time limit in Slurm's notation.",
            hint="Write minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes or "
            "days-hours:minutes:seconds.",
        )
    numbers = [int(part) for part in parts]
    if dash:
        hours, minutes, rest = [*numbers, 0, 0][:3]
    else:
        hours, minutes, rest = {1: [0, *numbers, 0], 2: [0, *numbers], 3: numbers}[len(numbers)]
    return int(days or 0) * 86400 + hours * 3600 + minutes * 60 + rest


def _refuse_short(time: str | None, grace: int) -> None:
    """Raise LaunchError if a job would be warned of its end as soon as it starts, and requeued forever."""
    if time and seconds(time) <= grace:
        raise LaunchError(
            f"--scheduler-option time={time} is {seconds(time):.0f} s, and --grace {grace} warns the job {grace} s"
            f" before its "
            "end: it would stop as soon as it starts.",
            hint="Request more time, or less grace.",
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
    checkpoints = shlex.quote(f"{job.run}/checkpoints")
    newest = rf"ls {checkpoints} 2>/dev/null | sed -n 's/^step-\([0-9]*\)$/\1/p' | sort -n | tail -n 1"
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {head}" for head in heads),
        "",
        *exports,
        "# The batch script runs on the first node of the job. Each job has its own port, in case two share a node.",
        f'export TEXTUNE_ENDPOINT="$(hostname):$(({PORT} - SLURM_JOB_ID % 10000))"',
        "",
        f"newest() {{ {newest}; }}  # step of the newest checkpoint",
        "before=$(newest)",
        "# How often the job has failed: Slurm's own count of restarts includes pre-emptions.",
        f'failures="slurm-$SLURM_JOB_ID-{job.name}.failures"',
        "",
        "# When one node ends, the others get the grace time to save and end.",
        f"srun --cpus-per-task={job.cores} --kill-on-bad-exit=0 --wait={job.grace} {logs} \\",
        f"  bash -c {shlex.quote(command)}",
        "code=$?",
        f"if [ $code -eq {MISTAKE} ]; then code=2; fi  # the highest code of all nodes: a mistake",
        "",
        *_ENDING.format(retries=job.max_retries).splitlines(),
    ]
    return "\n".join(lines) + "\n"


# A signal that arrives before anything new is saved (at the start, or in the reports at the end) would do so at every
# start, so such an end counts as a failure. If the count cannot be written, the job is not requeued: it might never
# end.
_ENDING = """\
case $code in
  0 | 2 | 130) rm -f "$failures"; exit $code ;;  # done; a mistake that a restart would repeat; stopped by a person
  138 | 143)
    after=$(newest)
    if [ "${{after:--1}}" -gt "${{before:--1}}" ]; then
      echo "Pre-empted: the run is saved and the job requeued."
      scontrol requeue "$SLURM_JOB_ID"
      exit $code
    fi
    echo "Stopped by a signal before anything new was saved: this counts as a failure."
    ;;
esac
count=$(($(cat "$failures" 2>/dev/null || echo 0) + 1))
if [ "$count" -le {retries} ] && echo "$count" >"$failures"; then
  echo "Exit code $code: the job is requeued (failure $count, {retries} retries)."
  scontrol requeue "$SLURM_JOB_ID"
else
  rm -f "$failures"
fi
exit $code
"""


def _with_job_id(value: str) -> str:
    """The value with TorchX's placeholder for the job's number replaced by Slurm's variable, which is
    set only later.
    """
    return '"$SLURM_JOB_ID"'.join(shlex.quote(part) if part else "" for part in value.split("${app_id}")) or "''"
