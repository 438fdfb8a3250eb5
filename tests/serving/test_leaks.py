"""The measure of a server's memory tells a leak from what fills at first, from peaks and from noise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kits.memory import Sample, growth, sampled
from kits.serving import client, some_texts

from textune.prediction import Predictor, Scores

MB = 1 << 20
WORK = """
import time
kind, kept = {kind!r}, []
until = time.monotonic() + 2.5
cache = bytearray(60 << 20)
while time.monotonic() < until:
    block = bytearray(300_000)
    block[::4096] = b"x" * len(block[::4096])
    if kind == "leaking":
        kept.append(block)
    elif kind == "peaks" and int(time.monotonic() * 7) % 5 == 0:
        kept = [bytearray(20 << 20)]
    elif kind == "peaks":
        kept = []
    time.sleep(0.01)
"""
"""A process that fills a cache and then works without keeping anything, keeps everything, or has peaks."""


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("kind", "leaks"), [("steady", False), ("leaking", True), ("peaks", False)])
def test_a_process_that_leaks_is_told_from_others(kind: str, leaks: bool) -> None:
    process = subprocess.Popen([sys.executable, "-c", WORK.format(kind=kind)])
    with sampled(process.pid, every=0.02) as samples:
        assert process.wait() == 0
    samples = [sample for sample in samples if sample.bytes]  # it is gone before its number is
    assert (growth(samples) > 20 * MB) == leaks


def test_the_line_is_that_of_the_rows_after_the_warm_up() -> None:
    random = np.random.default_rng(0)
    seconds = np.arange(0, 600, 1.0)
    noise = random.normal(0, 3 * MB, len(seconds)) + 200 * MB * (random.random(len(seconds)) < 0.05)
    filling = np.minimum(seconds, 100) * MB

    def samples(held: np.ndarray) -> list[Sample]:
        return [Sample(*pair) for pair in zip(seconds.tolist(), held.astype(int).tolist(), strict=True)]

    assert abs(growth(samples(300 * MB + filling + noise))) < 5 * MB
    leaking = 300 * MB + filling + noise + seconds * 0.2 * MB
    assert growth(samples(leaking)) == pytest.approx(0.2 * MB * 450, rel=0.1)


class Hoarder:
    """A planted leak: a watcher that keeps something of every answer."""

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def answered(self, model: str, predictor: Predictor, num_tokens: np.ndarray, scores: Scores) -> None:
        self.kept.append(np.ones(100_000))

    def computed(self, model: str, num_tokens: int, seconds: float) -> None: ...

    def refused(self, reason: str) -> None: ...


@pytest.mark.every_day(1)
@pytest.mark.parametrize("planted", [False, True], ids=["as it is", "with a planted leak"])
def test_a_leak_planted_in_a_server_is_detected(folders: dict[str, Path], planted: bool) -> None:
    with client({"topic": folders["topic"]}) as served:
        if planted:
            served.models.watchers.append(Hoarder())  # type: ignore[attr-defined]
        texts = some_texts(20)
        with sampled(os.getpid(), every=0.01) as samples:
            for number in range(200):
                assert served.post("/predict", json={"inputs": texts[number % 20]}).is_success
    assert (growth(samples) > 50 * MB) == planted  # of 160 MB that are kept, a quarter in the warm-up
