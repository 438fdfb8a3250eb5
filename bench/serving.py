"""`python -m bench.serving --data FOLDER`: `textune serve` beside a plain server of FastAPI and a pipeline.

Both serve the same MiniLM on phrases of SST-2, one phrase a request, and are measured in turns: requests a second with
64 clients that ask again as soon as they are answered, then the time of an answer at half of the plain server's
requests a second, which arrive whatever happens. FOLDER holds `glue/SST-2/dev.tsv`.

Where other programs run, too, rates tell little; the processor time that a server takes for a request is printed as
well (Linux), which depends on them less.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.machine import processor
from bench.speed.backbones import minilm
from bench.worker import ROOT
from textune.pipeline import train

CLIENTS = 64


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="holds glue/SST-2/dev.tsv")
    parser.add_argument("--pairs", type=int, default=5, help="turns of each server")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    options = parser.parse_args(arguments)
    with (options.data / "glue" / "SST-2" / "dev.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    with tempfile.TemporaryDirectory() as folder:
        model = _trained(rows[:64], Path(folder))
        print(
            json.dumps(
                measure(model, [row["sentence"] for row in rows], options.pairs, options.seconds),
                indent=2,
                allow_nan=False,
            )
        )
    return 0


def _trained(rows: list[dict[str, str]], folder: Path) -> Path:
    """A model that says something; how well does not matter here."""
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows), encoding="utf-8"
    )
    config = {
        "data": {
            "train": {"kind": "files", "files": str(folder / "rows.jsonl")},
            "validation": {"kind": "none"},
            "columns": {"text": "sentence", "label": "label"},
        },
        "model": {"pretrained": str(minilm())},
        "tokens": {"max_length": 128, "cache": str(folder / "cache")},
        "train": {"duration": "2 steps", "precision": "fp32", "device": "cpu"},
    }
    train(config, run=folder / "run")
    return folder / "run" / "best"


def measure(model: Path, texts: Sequence[str], num_pairs: int, seconds: float) -> dict[str, object]:
    """Ratios of the pairs, and what they are made of."""
    requests = [_request(text) for text in texts]
    ours_command = [sys.executable, "-m", "textune", "serve", str(model), "--device", "cpu", "--port"]
    theirs_command = [sys.executable, "-m", "bench.sides.plainserver", str(model)]
    with _server(ours_command) as ours, _server(theirs_command) as theirs:
        for server in (ours, theirs):
            asyncio.run(_closed(server.port, requests, seconds / 4))  # warm
        rates = [tuple(_loaded(server, requests, seconds) for server in (ours, theirs)) for _ in range(num_pairs)]
        half = statistics.median(plain.rate for _, plain in rates) / 2
        tails = [
            tuple(asyncio.run(_open(server.port, requests, half, seconds)) for server in (ours, theirs))
            for _ in range(num_pairs)
        ]
    return {
        "processor": processor(),
        "clients": CLIENTS,
        "requests_per_second": [{"textune": round(a.rate, 1), "plain": round(b.rate, 1)} for a, b in rates],
        "ratio": round(statistics.median(a.rate / b.rate for a, b in rates), 2),
        "cpu_ms_per_request": [{"textune": round(a.cpu_ms, 2), "plain": round(b.cpu_ms, 2)} for a, b in rates],
        "cpu_ratio": round(statistics.median(b.cpu_ms / a.cpu_ms for a, b in rates), 2),
        "half_load": round(half, 1),
        "p99_seconds": [{"textune": round(a.p99, 4), "plain": round(b.p99, 4)} for a, b in tails],
        "p50_seconds": [{"textune": round(a.p50, 4), "plain": round(b.p50, 4)} for a, b in tails],
        "p99_ratio": round(statistics.median(a.p99 / b.p99 for a, b in tails), 2),
    }


def _request(text: str) -> bytes:
    body = json.dumps({"inputs": text}, allow_nan=False).encode()
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Server(NamedTuple):
    """A server that answers."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """What its threads have used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _server(command: Sequence[str]) -> Iterator[_Server]:
    """It, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        until = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start: {command}")
            time.sleep(0.2)
        yield _Server(port, process.pid)
    finally:
        process.terminate()
        process.wait(60)


class _Connection:
    """One connection of a client, which costs less than a library's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> None:
        """RuntimeError for anything but an answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await self._reader.readexactly(int(length.partition(b":")[2]))

    def close(self) -> None:
        self._writer.close()


class _Load(NamedTuple):
    """What a server did with clients that ask again at once."""

    rate: float
    """Requests a second."""
    cpu_ms: float
    """Processor time of a request."""


def _loaded(server: _Server, requests: Sequence[bytes], seconds: float) -> _Load:
    before, started = server.cpu_seconds(), time.perf_counter()
    rate = asyncio.run(_closed(server.port, requests, seconds))
    num = rate * (time.perf_counter() - started)
    return _Load(rate, (server.cpu_seconds() - before) / num * 1000)


async def _closed(port: int, requests: Sequence[bytes], seconds: float) -> float:
    """Requests a second that are answered to clients which ask again at once."""
    until, done = time.perf_counter() + seconds, 0

    async def ask(number: int) -> None:
        nonlocal done
        connection = await _Connection.open(port)
        turn = number
        while time.perf_counter() < until:
            await connection.ask(requests[turn % len(requests)])
            turn += CLIENTS
            done += 1
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*map(ask, range(CLIENTS)))
    return done / (time.perf_counter() - started)


@dataclass(frozen=True)
class _Times:
    """Of answers, in seconds, from when a request was due."""

    p50: float
    p99: float


async def _open(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> _Times:
    """Times of answers to requests that arrive at a rate."""
    free: list[_Connection] = []
    times: list[float] = []

    async def ask(request: bytes, due: float) -> None:
        connection = free.pop() if free else await _Connection.open(port)
        try:
            await connection.ask(request)
        except (asyncio.IncompleteReadError, ConnectionError):  # a server closes a connection that was idle
            connection.close()
            connection = await _Connection.open(port)
            await connection.ask(request)
        times.append(time.perf_counter() - due)
        free.append(connection)

    started = time.perf_counter()
    asked = []
    for number in range(int(rate * seconds)):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(ask(requests[number % len(requests)], due)))
    await asyncio.gather(*asked)
    for connection in free:
        connection.close()
    times.sort()
    return _Times(statistics.median(times), times[int(0.99 * (len(times) - 1))])


if __name__ == "__main__":
    sys.exit(main())
