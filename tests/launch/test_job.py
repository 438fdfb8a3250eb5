"""What a job is checked for, and the command of a node."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from textune.errors import ConfigError, LaunchError
from textune.launch.job import Job, checked


def test_paths_become_absolute_and_counts_are_filled_in(config: Path) -> None:
    job = checked(Job(config.name, gpus=0))
    assert (job.config, job.run) == (str(config), str(config.parent / "runs" / "My first"))
    assert (job.name, job.processes, job.cores) == ("my-first", 1, 4)
    assert checked(Job(config.name, run="elsewhere", gpus=2)).processes == 2
    assert checked(Job(config.name, run="elsewhere", gpus=2)).run == str(config.parent / "elsewhere")
    assert checked(Job(config.name, processes=3, cpus=6)).cores == 6


def test_a_preset_is_named_to_every_node(config: Path) -> None:
    job = checked(Job("preset:tiny", overrides=("extends=preset:cpu",)))
    assert (job.config, job.run, job.name) == ("preset:tiny", str(config.parent / "runs" / "tiny"), "tiny")
    words = shlex.split(job.command(endpoint="$HOST:1", job_id="$ID"))
    assert words[words.index("train") + 1] == "preset:tiny" and words[-1] == "extends=preset:cpu"


def test_every_word_reaches_the_node_as_it_was_written(config: Path) -> None:
    overrides = ("train.optimizer.lr=3e-5", 'data.train.files=["a $HOME `b`.csv", "it\'s.csv"]')
    job = checked(Job(config.name, overrides=overrides, unset=("train.seed",), nodes=2, processes=3))
    words = shlex.split(job.command(endpoint="$HOST:1", job_id="$ID", signals="everyone"))
    start = [
        "exec",
        sys.executable,
        "-m",
        "textune.launch.node",
        "--signals=everyone",
        "--nnodes=2",
        "--nproc-per-node=3",
    ]
    assert words[:7] == start
    assert {"--max-restarts=0", "--rdzv-endpoint=$HOST:1", "--rdzv-id=$ID"} < set(words)
    train = [
        "-m",
        "textune",
        "train",
        str(config),
        "--run-folder",
        job.run,
        "--resume",
        "auto",
        "--unset",
        "train.seed",
    ]
    train += overrides
    assert words[-len(train) :] == train


@pytest.mark.parity("AZ-24")
def test_torchrun_understands_the_command(config: Path) -> None:
    from torch.distributed.run import parse_args

    job = checked(Job(config.name, overrides=("train.seed=1",), processes=2))
    parsed = parse_args(shlex.split(job.command(endpoint="localhost:0", job_id="x"))[5:])
    assert (parsed.module, parsed.training_script, parsed.nproc_per_node) == (True, "textune", "2")
    assert parsed.training_script_args == [
        "train",
        str(config),
        "--run-folder",
        job.run,
        "--resume",
        "auto",
        "train.seed=1",
    ]


def test_an_image_has_its_own_python(config: Path) -> None:
    assert checked(Job(config.name, image="a:1")).command(endpoint="h:1", job_id="i").startswith("exec python -m")


def test_processes_share_the_cores(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = checked(Job(config.name, processes=2, cpus=8, grace=40, env={"A": "1"}))
    assert job.variables() == {"OMP_NUM_THREADS": "4", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "40", "A": "1"}
    assert "OMP_NUM_THREADS" not in replace(job, cpus=0).variables()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in job.variables()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": 0}, "nodes = 0: expected at least 1"),
        ({"gpus": -1}, "gpus = -1: expected at least 0"),
        ({"processes": -2}, "processes = -2"),
        ({"grace": 0}, "grace = 0"),
        ({"max_retries": -1}, "max_retries = -1"),
        ({"gpus": 2, "processes": 3}, "2 GPUs but 3 processes"),
        ({"env": {"A B": "1"}}, "'A B' cannot be the name of an environment variable"),
        ({"env": {"A": "1\n#SBATCH --uid=0"}}, "control character"),
        ({"run": "a\nb"}, "control character"),
    ],
)
def test_a_job_that_cannot_be_is_refused(config: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        checked(replace(Job(config.name), **change))  # type: ignore[arg-type]


def test_a_mistake_in_the_config_is_found_before_anything_is_submitted(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"Unknown key train\.optimizr.*Did you mean train\.optimizer"):
        checked(Job(config.name, overrides=("train.optimizr.lr=1",)))
    with pytest.raises(ConfigError, match=r"no rows to read"):
        checked(Job(config.name, unset=("data.train.files",)))
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        checked(Job("missing.toml"))
