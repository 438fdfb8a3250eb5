"""torchrun on a node: exit codes and signals, with real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kits.forking import Module
from kits.patience import PATIENCE

from textune.launch.node import telling

WORKER = """
import os, signal, sys, time
from pathlib import Path
def stop(number, frame):
    with open("signals", "a") as file:
        file.write(f"{number}\\n")
    time.sleep(0.3)
    sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, stop)
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "mistake" and os.environ["RANK"] == "1":  # loses rank 0, which takes longer to end
    while not Path("ready").exists():
        time.sleep(0.01)
    sys.exit(75)
if sys.argv[1] == "mistake":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(2))
Path("ready").write_text(str(os.getpid()))
if not sys.argv[1].isdigit():
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


def arguments(folder: Path, signals: str, argument: str, processes: int = 1) -> list[str]:
    (folder / "worker.py").write_text(WORKER, encoding="utf-8")
    words = [f"--signals={signals}", "--nnodes=1", f"--nproc-per-node={processes}"]
    return [*words, "--max-restarts=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "worker.py", argument]


def start(folder: Path, signals: str, argument: str, *, processes: int = 1, **variables: str) -> Module:
    return Module(
        "textune.launch.node", arguments(folder, signals, argument, processes), folder, os.environ | variables
    )


def test_the_exit_code_is_the_workers(tmp_path: Path) -> None:
    """From the command on; the other tests fork their agents."""
    command = [sys.executable, "-m", "textune.launch.node", *arguments(tmp_path, "agent", "138")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    errors = done.stderr
    assert done.returncode == 138, errors
    assert "rank 0 stopped with exit code 138" in errors
    assert "Traceback" not in errors


def test_a_mistake_is_the_highest_of_all_nodes(tmp_path: Path) -> None:
    code, errors = start(tmp_path, "everyone", "2").wait()
    assert code == 200, errors


def test_a_mistake_counts_though_the_others_end_first(tmp_path: Path) -> None:
    code, errors = start(tmp_path, "agent", "mistake", processes=2).wait()
    assert code == 2, errors
    assert "rank 0 stopped with exit code 2" in errors


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ({0: 2, 1: -9}, (1, 137)),
        ({0: 2, 1: 1}, (1, 1)),
        ({0: 2, 1: 2}, (0, 2)),
        ({0: 2, 1: 75}, (0, 2)),  # 75: lost another
        ({0: 75, 1: -15}, (1, 143)),
        ({0: 138, 1: 2, 2: -15}, (1, 2)),
        ({0: 143, 1: 1}, (1, 1)),
        ({0: 143, 1: 143, 2: 0}, (0, 143)),
        ({0: 138, 1: -10}, (0, 138)),
        ({0: 130, 1: -9}, (1, 137)),  # killed while it saved
    ],
)
def test_the_rank_that_explains_the_others(codes: dict[int, int], expected: tuple[int, int]) -> None:
    assert telling(codes) == expected


@pytest.mark.parametrize(
    ("codes", "closed", "expected"),
    [
        ({0: 75, 1: -15}, [1], (0, 75)),
        ({0: 75, 1: 2}, [1], (1, 2)),  # slower to end than the one that lost it
        ({0: 2, 1: -9}, [1], (0, 2)),
        ({0: 1, 1: 143}, [1], (0, 1)),
        ({0: 138, 1: 143}, [1], (0, 138)),
        ({0: 138, 1: -9}, [1], (1, 137)),
    ],
)
def test_who_was_ended_by_torchrun_explains_nothing(
    codes: dict[int, int], closed: list[int], expected: tuple[int, int]
) -> None:
    assert telling(codes, closed) == expected


def wait_for_worker(process: Module, folder: Path) -> int:
    """The number of the worker's process, once torchrun watches it."""
    ready = folder / "ready"
    while not (ready.exists() and ready.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    return int(ready.read_text())


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("signals", "receivers", "number"),
    [("agent", ("agent",), signal.SIGTERM), ("everyone", ("agent", "worker"), signal.SIGUSR1)],
)
def test_a_warning_reaches_the_worker_once(
    tmp_path: Path, signals: str, receivers: tuple[str, ...], number: int
) -> None:
    process = start(tmp_path, signals, "wait")
    worker = wait_for_worker(process, tmp_path)
    for receiver in receivers:
        os.kill(process.pid if receiver == "agent" else worker, number)
    code, errors = process.wait()
    assert (tmp_path / "signals").read_text() == f"{int(number)}\n"
    assert code == 128 + number, errors


def test_a_worker_that_is_killed_while_it_saves_has_not_saved(tmp_path: Path) -> None:
    process = start(tmp_path, "agent", "deaf", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="1")
    wait_for_worker(process, tmp_path)
    os.kill(process.pid, signal.SIGTERM)
    code, errors = process.wait()
    assert code == 137, errors
    assert "stopped with exit code 137" in errors
