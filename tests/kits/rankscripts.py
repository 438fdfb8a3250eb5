"""Several processes that work together, for tests: `python SCRIPT ARGS` once for each rank, with an end and a time
limit."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kits.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def run_ranks(script: Path, *arguments: str, world: int) -> list[str]:
    """What each rank printed; AssertionError with it where one failed or time was up. No process is left behind."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    common = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "training")]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
    }
    command = [sys.executable, "-W", "error", str(script), *arguments]
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(world)]
        processes = []
        for rank, output in enumerate(outputs):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)}
            processes.append(subprocess.Popen(command, env=common | place, stdout=output, stderr=subprocess.STDOUT))
            stack.callback(_end, processes[-1])
        _wait(processes)
        codes = [process.poll() for process in processes]
        for process in processes:
            _end(process)
        said = []
        for output in outputs:
            output.seek(0)
            said.append(output.read())
    assert codes == [0] * world, f"exit codes {codes} (None: did not end)\n" + "\n".join(
        f"--- rank {rank} ---\n{text[-6000:]}" for rank, text in enumerate(said)
    )
    return said


def _wait(processes: list[subprocess.Popen[bytes]]) -> None:
    ends = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in processes) and time.monotonic() < ends:
        if any(process.poll() not in (None, 0) for process in processes):
            ends = min(ends, time.monotonic() + 5)  # the others would wait for it
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
