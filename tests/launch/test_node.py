"""torchrun on a node: exit codes and signals, with real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
Path("ready").write_text(str(os.getpid()))
if sys.argv[1] == "wait":
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


def start(folder: Path, signals: str, argument: str) -> subprocess.Popen[str]:
    (folder / "worker.py").write_text(WORKER, encoding="utf-8")
    words = ["-m", "textune.launch.node", f"--signals={signals}", "--nnodes=1", "--nproc-per-node=1", "--max-restarts=0"]
    words += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "worker.py", argument]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, *words], cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)


def test_the_exit_code_is_the_workers(tmp_path: Path) -> None:
    process = start(tmp_path, "agent", "138")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 138, errors
    assert "rank 0 stopped with exit code 138" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ({0: 2, 1: -9}, (1, 137)),
        ({0: 2, 1: 1}, (1, 1)),
        ({0: 138, 1: 2, 2: -15}, (2, 143)),
        ({0: 2, 1: 2}, (0, 2)),
    ],
)
def test_the_rank_that_explains_the_others(codes: dict[int, int], expected: tuple[int, int]) -> None:
    assert telling(codes) == expected


@pytest.mark.parametrize(
    ("signals", "receivers", "number"),
    [("agent", ("agent",), signal.SIGTERM), ("everyone", ("agent", "worker"), signal.SIGUSR1)],
)
def test_a_warning_reaches_the_worker_once(tmp_path: Path, signals: str, receivers: tuple[str, ...], number: int) -> None:
    process = start(tmp_path, signals, "wait")
    ready = tmp_path / "ready"
    while not (ready.exists() and ready.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)  # torchrun watches its workers by now
    for receiver in receivers:
        os.kill(process.pid if receiver == "agent" else int(ready.read_text()), number)
    _, errors = process.communicate(timeout=60)
    assert (tmp_path / "signals").read_text() == f"{int(number)}\n"
    assert process.returncode == 128 + number, errors
