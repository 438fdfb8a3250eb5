"""The batch script of Slurm: one task on each node, a warning before the end, and a requeue that resumes where it stopped.

TorchX's own script is not used: it makes each node a job of its own in a heterogeneous job, knows no `--signal`, hands
`--cpus-per-task` to sbatch alone (since Slurm 22.05 srun must be told again), and takes a pre-emption for a failure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from textune.errors import LaunchError
from textune.launch.job import MISTAKE, PORT, Job

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

    LaunchError where the job names an option of sbatch that is not passed on, or has no time but the warning.
    """
    _refuse_unknown(job.sbatch)
    _refuse_short(options.get("time"), job.grace)
    return SlurmRequest(_script(job, _directives(job, options), environment), ["sbatch", "--parsable"])


def _refuse_unknown(sbatch: Mapping[str, str]) -> None:
    """LaunchError for an option of sbatch that is not one of ours."""
    for name in sbatch:
        if name not in SBATCH_OPTIONS:
            raise LaunchError(
                f"{name} is no option that is passed on to sbatch.", hint=f"There are: {', '.join(SBATCH_OPTIONS)}."
            )


def seconds(time: str) -> float:
    """A time limit in any of Slurm's notations (`man sbatch`, --time) in seconds; infinity for none. LaunchError otherwise."""
    if time.lower() in ("0", "-1", "unlimited", "infinite"):
        return float("inf")
    days, dash, clock = time.rpartition("-")
    parts = clock.split(":")
    if len(parts) > 3 or not all(re.fullmatch("[0-9]+", part) for part in ([days] if dash else []) + parts):
        raise LaunchError(
            f"--scheduler-option time={time} is no time that Slurm knows.",
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
    """LaunchError where a job would be warned of its end as soon as it starts, and requeued for ever."""
    if time and seconds(time) <= grace:
        raise LaunchError(
            f"--scheduler-option time={time} is {seconds(time):.0f} s, and --grace {grace} warns the job {grace} s before its "
            "end: it would stop as soon as it starts.",
            hint="Ask for more time, or for less grace.",
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
        "# The batch script runs on the first node of the job. Each job has a port of its own, should two share a node.",
        f'export TEXTUNE_ENDPOINT="$(hostname):$(({PORT} - SLURM_JOB_ID % 10000))"',
        "",
        f"newest() {{ {newest}; }}  # step of the newest checkpoint",
        "before=$(newest)",
        "# How often the job has failed: Slurm's own count of restarts has the pre-emptions in it.",
        f'failures="slurm-$SLURM_JOB_ID-{job.name}.failures"',
        "",
        "# A node that ends first leaves the others the same time to save and end.",
        f"srun --cpus-per-task={job.cores} --kill-on-bad-exit=0 --wait={job.grace} {logs} \\",
        f"  bash -c {shlex.quote(command)}",
        "code=$?",
        f"if [ $code -eq {MISTAKE} ]; then code=2; fi  # the highest of all nodes, and a mistake",
        "",
        *_ENDING.format(retries=job.max_retries).splitlines(),
    ]
    return "\n".join(lines) + "\n"


# A signal that comes before anything new is saved (at the start, in the reports at the end) would do so at every start:
# such an end is counted. Where the count cannot be written there is no end to it either, and no requeue.
_ENDING = """\
case $code in
  0 | 2 | 130) rm -f "$failures"; exit $code ;;  # done; a mistake that a new start would repeat; stopped by a person
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
    """TorchX writes the number of the job, which Slurm gives only later, as a variable of its own."""
    return '"$SLURM_JOB_ID"'.join(shlex.quote(part) if part else "" for part in value.split("${app_id}")) or "''"
