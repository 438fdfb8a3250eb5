"""A job of a real Slurm on this machine: warned, pre-empted, requeued each time, and in the end the same model bit for
bit."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kits import slurm as slurmkit
from kits.backbones import tiny_backbone
from kits.patience import PATIENCE
from kits.runs import reviews, write_csv

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(slurmkit.missing()), reason=slurmkit.missing())]

CONFIG = """
[data.train]
files = "reviews.csv"
[data.validation]
ratio = 0.1
[tokens]
max_length = 24
cache = "tokens"
[model]
pretrained = "backbone"
compile = "off"
[train]
duration = "2500 steps"
batch_size = 8
precision = "fp32"
device = "cpu"
log_every = "20 steps"
evaluate_every = "500 steps"
[train.checkpoint]
every = "never"
[evaluate]
bootstrap = 0
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny_backbone("bert", folder / "backbone")
    write_csv(folder / "reviews.csv", reviews(200))
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurmkit.Cluster]:
    with slurmkit.cluster(tmp_path_factory.mktemp("slurm") / "cluster") as made:
        yield made


def launch(home: Path, *words: str, **variables: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "textune", "launch", "config.toml", *words]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def last_step(run: Path) -> int:
    """The last step that a run has logged."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return max((json.loads(line).get("step", 0) for line in lines if line.endswith("}")), default=0)


@pytest.mark.parametrize(("nodes", "processes"), [(1, 1), (2, 1)])
@pytest.mark.parity("TR-12")
def test_a_job_that_is_warned_and_preempted_ends_as_if_it_had_not_been(
    home: Path, slurm: slurmkit.Cluster, nodes: int, processes: int
) -> None:
    run, calm = (home / "runs" / f"{name}-{nodes}x{processes}" for name in ("disturbed", "calm"))
    size = ("--nodes", str(nodes), "--processes", str(processes))
    options = ("--gpus", "0", "--cpus", "1", "--grace", "60", "--scheduler-option", "time=20")
    submitted = launch(home, "--scheduler", "slurm", *size, *options, "--run", str(run), **slurm.environment)
    job = submitted.rpartition("/")[2]

    def trains_after(step: int) -> bool:
        assert slurm.fact(job, "JobState") not in ("FAILED", "CANCELLED", "COMPLETED"), outputs(home, job)
        return last_step(run) > step

    slurm.wait_for("the first steps", lambda: trains_after(0))
    slurm.command("scancel", "--signal=USR1", job)  # what --signal sends before the time limit
    slurm.wait_for("the requeue", lambda: slurm.fact(job, "Restarts") == "1", 60)
    assert json.loads((run / "manifest.json").read_text())["status"] == "preempted"
    at_warning = last_step(run)

    slurm.wait_for("steps after the warning", lambda: trains_after(at_warning))
    script = home / "urgent.sh"
    script.write_text("#!/bin/bash\nsleep 3\n", encoding="utf-8")
    wish = ("--partition=high", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=4", f"--output={home}/urgent.out")
    slurm.command("sbatch", *wish, str(script))  # takes every processor: Slurm pre-empts our job
    slurm.wait_for("the second requeue", lambda: slurm.fact(job, "Restarts") == "2", 90)
    at_preemption = last_step(run)
    assert at_warning < at_preemption < 2500

    slurm.wait_for("the end", lambda: slurm.fact(job, "JobState") in ("COMPLETED", "FAILED"), 400)
    assert slurm.fact(job, "JobState") == "COMPLETED", outputs(home, job)
    assert outputs(home, job).count("Pre-empted: the run is saved and the job requeued.") == 2
    assert json.loads((run / "manifest.json").read_text())["status"] == "complete"

    launch(home, "--processes", str(nodes * processes), "--run", str(calm))
    assert last_step(run) == last_step(calm) == 2500
    assert (run / "best" / "model.safetensors").read_bytes() == (calm / "best" / "model.safetensors").read_bytes()


def test_a_cancelled_job_stays_cancelled_and_goes_on_when_launched_again(home: Path, slurm: slurmkit.Cluster) -> None:
    run = home / "runs" / "cancelled"
    words = ("--scheduler", "slurm", "--gpus", "0", "--cpus", "1", "--run", str(run))
    job = launch(home, *words, **slurm.environment).rpartition("/")[2]
    slurm.wait_for("the first steps", lambda: last_step(run) > 0)
    slurm.command("scancel", job)
    slurm.wait_for("the end", lambda: slurm.fact(job, "JobState") == "CANCELLED", 60)
    stopped_at = last_step(run)
    again = launch(home, *words, **slurm.environment).rpartition("/")[2]
    slurm.wait_for("further steps", lambda: last_step(run) > stopped_at)
    assert slurm.fact(job, "JobState") == "CANCELLED"
    slurm.command("scancel", again)
    assert "resumes from step-" in (home / f"slurm-{again}-cancelled-0.err").read_text()


def outputs(home: Path, job: str) -> str:
    """What a job has said."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(home.glob(f"slurm-{job}*")))
