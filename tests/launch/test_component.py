"""TorchX finds the component, by file and by name, and the verb prints requests; each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "textune" / "launch" / "component.py"


def run(folder: Path, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(path for path in (before, str(ROOT)) if path)
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def torchx(folder: Path, *words: str, before: str = "") -> subprocess.CompletedProcess[str]:
    return run(folder, "-c", "from torchx.cli.main import main; main()", *words, before=before)


@pytest.mark.parity("TR-12")
def test_the_component_by_its_file_with_overrides_at_the_end(config: Path) -> None:
    words = (
        "--config",
        config.name,
        "--processes",
        "2",
        "--env",
        "A=1,B=2",
        "--",
        "train.optimizer.lr=3e-5",
        "train.seed=4",
    )
    done = torchx(config.parent, "run", "-s", "local_cwd", "--dryrun", f"{COMPONENT}:train", *words)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.replace("'\n", "").replace("'", "").split())
    assert "--nproc-per-node=2" in text and "train.optimizer.lr=3e-5 train.seed=4" in text and "A: 1" in text


def test_the_component_by_its_name_and_torchx_keeps_its_own(config: Path) -> None:
    installed = config.parent / "installed" / "textune-0.1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: textune\nVersion: 0.1.0\n")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    points = project.partition('[project.entry-points."torchx.components"]')[2].partition("\n\n")[0].replace('"', "")
    (installed / "entry_points.txt").write_text(f"[torchx.components]{points}\n")
    names = torchx(config.parent, "builtins", before=str(installed.parent)).stdout
    assert " textune.train" in names and " dist.ddp" in names and " utils.python" in names
    words = ("run", "-s", "slurm", "--dryrun", "textune.train", "--config", config.name, "--sbatch", "account=a")
    done = torchx(config.parent, *words, "train.seed=4", before=str(installed.parent))
    assert "#SBATCH --signal=USR1@120" in done.stdout, done.stderr
    assert "#SBATCH --account=a" in done.stdout and "--resume auto train.seed=4" in done.stdout


def test_a_mistake_is_a_sentence_through_torchx_too(config: Path) -> None:
    done = torchx(
        config.parent, "run", "-s", "local_cwd", f"{COMPONENT}:train", "--config", config.name, "train.sed=4"
    )
    assert done.returncode == 1
    assert done.stderr == "Error: Unknown key train.sed (command line). Did you mean train.seed?\n"


def test_the_verb_shows_the_request_and_refuses_in_sentences(config: Path) -> None:
    words = ("-m", "textune", "launch", config.name, "--scheduler", "slurm", "--dry-run")
    done = run(config.parent, *words, "--gpus", "2", "--scheduler-option", "time=10", "train.seed=4")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith("#!/bin/bash\n")
        and "#SBATCH --time=10\n" in done.stdout
        and "train.seed=4" in done.stdout
    )
    asked = run(config.parent, *words, "--gpus", "2", "--json", "--scheduler-option", "time=10", "train.seed=4")
    assert json.loads(asked.stdout) == {"ok": True, "request": done.stdout}
    for more, message in (
        ((), "Error: --gpus is missing: how many GPUs does each machine have? Set --gpus 0 for machines without.\n"),
        (("--gpus", "1", "--nodes", "0"), "Error: nodes = 0: expected at least 1.\n"),
        (("--gpus", "1", "--env", "A"), "Error: --env A: expected NAME=VALUE.\n"),
    ):
        refused = run(config.parent, *words, *more)
        assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", message)
