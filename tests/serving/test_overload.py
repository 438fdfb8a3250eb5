"""A server at twice its capacity: it refuses, grows no memory, and gives nobody a wrong answer.

TEXTUNE_OVERLOAD_SECONDS sets how long (600).
"""

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from kits.memory import Sample, growth, sampled
from kits.serving import Running, running, some_texts

from textune.prediction import load

SECONDS = float(os.environ.get("TEXTUNE_OVERLOAD_SECONDS", "600"))
QUICK_SECONDS = 4.0
MOST_GROWTH = 50 << 20
"""Bytes."""
CLIENTS = 24


@dataclass
class Seen:
    """What clients were told."""

    statuses: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    memory: list[Sample] = field(default_factory=list)

    def count(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1


async def press(at: Running, expected: dict[str, str], seconds: float) -> Seen:
    """Clients that ask again as soon as they are answered, with texts of mixed numbers, beside requests that are
    malformed, oversized and slow."""
    seen, until, texts = Seen(), time.monotonic() + seconds, list(expected)

    async def ask(number: int, asking: httpx2.AsyncClient) -> None:
        turn = number
        while time.monotonic() < until:
            turn += CLIENTS
            chosen = [texts[(turn + step) % len(texts)] for step in range(1 + turn % 5 * 20)]
            answer = await asking.post("/predict", json={"inputs": [[text] for text in chosen]})
            seen.count(answer.status_code)
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                await asyncio.sleep(0.05)
            elif answer.status_code == 200:
                got = [row[0]["label"] for row in answer.json()]
                if got != [expected[text] for text in chosen]:
                    seen.wrong.append(f"{number}: {got}")

    async def disturb(asking: httpx2.AsyncClient) -> None:
        async def slowly() -> object:
            for byte in (b'{"inputs"', b': "a"', b"}"):
                yield byte
                await asyncio.sleep(0.3)

        while time.monotonic() < until:
            kind = {"content-type": "application/json"}
            assert (await asking.post("/predict", content=b"[" * 5000, headers=kind)).status_code == 400
            large = b'{"inputs": "' + b"a" * 2_500_000 + b'"}'
            assert (await asking.post("/predict", content=large, headers=kind)).status_code == 413
            slow = await asking.post("/predict", content=slowly(), headers=kind)  # type: ignore[arg-type]
            assert slow.status_code in {200, 429}
            await asyncio.sleep(0.2)

    limits = httpx2.Limits(max_connections=CLIENTS + 4)
    with sampled(at.process.pid, every=0.2) as seen.memory:
        async with httpx2.AsyncClient(base_url=at.url, timeout=120, limits=limits) as asking:
            await asyncio.gather(*(ask(number, asking) for number in range(CLIENTS)), disturb(asking))
    return seen


def overload(folder: Path, seconds: float) -> Seen:
    texts = some_texts(200)
    labels = [str(prediction.label) for prediction in load(folder, device="cpu").predict(texts)]
    # What waits is bounded so tightly that about half of what clients send at once has room.
    options = ("--max-queue-tokens", "6000", "--batch-tokens", "512")
    with running(folder, *options, OMP_NUM_THREADS="1") as at:
        seen = asyncio.run(press(at, dict(zip(texts, labels, strict=True)), seconds))
        assert at.stop() == 0
    assert not seen.wrong
    assert set(seen.statuses) == {200, 429}, seen.statuses
    return seen


@pytest.mark.slow
def test_overload_refuses_and_answers_nothing_wrong(folders: dict[str, Path]) -> None:
    overload(folders["topic"], QUICK_SECONDS)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_overload_for_long_grows_no_memory(folders: dict[str, Path]) -> None:
    seen = overload(folders["topic"], SECONDS)
    assert growth(seen.memory) < MOST_GROWTH  # which tells a leak: tests/serving/test_leaks.py
