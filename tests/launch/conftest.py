"""A config that loads; its data need not exist, since launching reads none."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """TorchX's local scheduler takes over signals for good; the other tests send some."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = tmp_path / "My first.toml"
    path.write_text('[data.train]\nfiles = "reviews.csv"\n[model]\npretrained = "backbone"\n', encoding="utf-8")
    return path
