"""Ranks share the run of a language model: the mean is over the scored tokens of all of them, however their masks
fall."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.languageruns import CONFIG, metrics_of, write_language_home
from kits.ranking import Ended, Watch, textune_ranks
from kits.runs import signal_after
from safetensors.torch import load_file

import textune
from textune.errors import Preempted
from textune.run.manifest import read_manifest

WORDS = [
    "train.duration=10 steps",
    "train.max_tokens=60",
    "train.log_every=1 step",
    "train.evaluate_every=5 steps",
    "train.checkpoint.every=5 steps",
    "train.optimizer.lr=1e-3",
    "train.optimizer.eps=1e-4",
    "model.compile=off",
    "model.config={ resid_pdrop = 0.0, embd_pdrop = 0.0, attn_pdrop = 0.0 }",
    "metadata.sampling.kind=independent",
]
"""A large eps keeps Adam from making steps of pure rounding where a gradient is zero. Half of the metadata is drawn,
so that a row may be all but masked and the next one not at all."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language_home(tmp_path_factory.mktemp("home"), config=CONFIG)


@pytest.fixture(autouse=True)
def undelayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The run of one process with this configuration and these words; each is made once."""
    made: dict[tuple[str, ...], Path] = {}

    def of(config: str, *words: str) -> Path:
        if (config, *words) not in made:
            run = tmp_path_factory.mktemp("whole") / "run"
            textune.train(home / config, run=run, overrides=[*WORDS, *words])
            made[config, *words] = run
        return made[config, *words]

    return of


def train_on(world: int, config: Path, run: Path, *words: str, watch: Watch | None = None) -> Ended:
    arguments = ["train", str(config), "--run", str(run), *WORDS, *words]
    ended = textune_ranks(world, arguments, run.parent / f"{run.name}-logs-{world}", watch)
    assert "Traceback" not in "".join(ended.said), ended.said
    return ended


def require_same(run: Path, other: Path) -> None:
    """Losses, metrics and the weights of the best model within 1e-5."""
    lines = [[line for line in metrics_of(folder) if line["kind"] == "step"] for folder in (run, other)]
    assert [line["step"] for line in lines[0]] == list(range(1, 11))
    for mine, theirs in zip(*lines, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5), mine["step"]
    told: list[list[Any]] = [
        [(line["set"], line["step"], line["metrics"]) for line in metrics_of(folder) if line["kind"] == "evaluation"]
        for folder in (run, other)
    ]
    for (set_, step, metrics), theirs in zip(*told, strict=True):
        assert (set_, step) == theirs[:2]
        assert metrics == pytest.approx(theirs[2], rel=1e-5)
    weights = [load_file(folder / "best" / "model.safetensors") for folder in (run, other)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(
            tensor, weights[1][name], atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert read_manifest(run).best_step == read_manifest(other).best_step


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "way", "config", "words"),
    [
        (2, "ddp", "stream.toml", []),
        (2, "ddp", "config.toml", []),
        (4, "ddp", "stream.toml", []),
        (2, "fsdp", "config.toml", []),
        (4, "fsdp", "stream.toml", []),
        (4, "ddp", "config.toml", ["task.metadata_loss=true"]),
    ],
)
def test_ranks_train_as_one_process_does(
    home: Path, tmp_path: Path, whole: Any, world: int, way: str, config: str, words: list[str]
) -> None:
    run = tmp_path / "run"
    ended = train_on(world, home / config, run, *words, f"train.distributed.kind={way}")
    assert ended.codes == [0] * world, ended.said
    assert ended.said[0] and not any(ended.said[1:]), "one rank speaks for all"
    require_same(run, whole(config, *words))


@pytest.mark.parametrize(
    "worlds", [(1, 2), pytest.param((2, 1), marks=pytest.mark.slow), pytest.param((4, 2), marks=pytest.mark.slow)]
)
def test_a_run_stops_on_some_ranks_and_goes_on_with_others(
    home: Path, tmp_path: Path, whole: Any, worlds: tuple[int, int]
) -> None:
    run, (first, then) = tmp_path / "run", worlds
    if first == 1:
        with pytest.raises(Preempted):
            after_step = signal_after({4: [signal.SIGTERM]})
            textune.train(home / "stream.toml", run=run, overrides=WORDS, after_step=after_step)
    else:
        ended = train_on(first, home / "stream.toml", run, watch=Watch(act="SIGTERM", act_rank=first - 1, act_step=4))
        assert ended.codes == [143] * first, ended.said
    assert read_manifest(run).status == "preempted"
    ended = train_on(then, home / "stream.toml", run, "--resume")
    assert ended.codes == [0] * then, ended.said
    require_same(run, whole("stream.toml"))


def test_training_texts_that_are_evaluated_on_are_refused_on_every_rank(home: Path, tmp_path: Path) -> None:
    """The first rank alone compares them."""
    ended = train_on(2, home / "config.toml", tmp_path / "run", f"data.evaluations.news.files={home / 'b.jsonl'}")
    assert ended.codes[0] == 2 and 0 not in ended.codes, ended.said
    assert "data.on_shared_text" in ended.said[0]
    assert not (tmp_path / "run").exists()
