"""Runs whose frozen token embeddings stand in a file: the same run, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kits.resume import end_of, same_end
from kits.runs import Listener, signal_after

import textune
from textune.errors import Preempted
from textune.model import ondisk

SMALL = [
    "train.duration=6 steps",
    "train.batch_size=32",
    "train.evaluate_every=3 steps",
    "train.checkpoint.every=1 step",
    "train.checkpoint.background=false",
    "data.test.kind=none",
    "evaluate.bootstrap=0",
]
WAYS = {
    "adapters": ["model.lora.r=4"],
    "adapter folder": ["model.lora.r=4", "model.lora.merge=off"],
    "few bits": ["model.lora.r=4", "model.quantize.bits=4"],
    "frozen": ["model.freeze=embeddings"],
}
STOPPED = 4


def train(home: Path, run: Path, *words: str, stop: int = 0) -> str:
    """Returns what the run says of its token embeddings."""
    listener = Listener()
    options = {"run": run, "overrides": [*SMALL, *words], "tracker": listener}
    if not stop:
        textune.train(home / "config.toml", **options)
        return listener.words["vocabulary"]
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", **options, after_step=signal_after({stop: [signal.SIGTERM]}))
    return listener.words["vocabulary"]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_same_run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Beside the table in memory: at its end, and when it stops on one way and goes on the other."""
    if way != "frozen":
        pytest.importorskip("peft", reason="the extra `lora` is not installed")
    if way == "few bits":
        pytest.importorskip("bitsandbytes", reason="the extra `qlora` is not installed")
    assert train(home, tmp_path / "memory", *WAYS[way]) == "full table: the token embeddings are frozen"
    train(home, tmp_path / "to disk", *WAYS[way], stop=STOPPED)
    monkeypatch.setattr(ondisk, "LARGE", 1)
    for name in ("to disk", "disk"):
        said = train(home, tmp_path / name, *WAYS[way])
        assert said.startswith("full table: the token embeddings are frozen; it stands in a file of")
        same_end(end_of(tmp_path / name), end_of(tmp_path / "memory"))
        ours, theirs = (sorted((tmp_path / run / "best").glob("*model.safetensors")) for run in (name, "memory"))
        assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
    cache = home / "cache"
    assert all(path.is_dir() for path in cache.iterdir())


def test_it_has_nothing_to_do_with_which_rows_are_trained(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ondisk, "LARGE", 1)
    said = train(home, tmp_path / "off", "model.freeze=embeddings", "train.compact_vocabulary=off")
    assert said.startswith('full table: train.compact_vocabulary = "off"; it stands in a file of')
    assert "in a file" not in train(home, tmp_path / "trained", "train.compact_vocabulary=off")


def test_ranks_that_share_weights_have_them_in_memory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ondisk, "LARGE", 1)
    said = train(home, tmp_path / "cut", "model.freeze=embeddings", "train.distributed.kind=fsdp")
    assert said == "full table: the token embeddings are frozen"
