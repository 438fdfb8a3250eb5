"""Ranks share a run: the same rows and the same mathematics (R3), on however many of them it stops and goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.flash import GPU
from kits.ranking import Ended, Watch, textune_ranks
from kits.runs import reviews, signal_after, write_csv
from safetensors.torch import load_file

import textune
import textune.training.loop as loop
from textune.errors import Preempted
from textune.prediction.usual import read_usual
from textune.run.manifest import read_manifest
from textune.training.checkpoint import newest

CONFIG = """
[data.train]
files = "rows.csv"
take = 121
[data.validation]
count = 24
[tokens]
cache = "cache"
max_length = 24
[model]
pretrained = "backbone"
compile = "off"
config = { hidden_dropout_prob = 0.0, attention_probs_dropout_prob = 0.0 }
[train]
duration = "2 epochs"
batch_size = 12
max_tokens = 30
precision = "fp32"
device = "cpu"
log_every = "1 steps"
evaluate_every = "4 steps"
[train.optimizer]
lr = 1e-3
eps = 1e-4
[train.checkpoint]
every = "4 steps"
[evaluate]
bootstrap = 0
"""
"""97 training rows: the ninth and last batch of an epoch has one row, fewer than there are ranks. The large eps keeps
Adam from making steps of pure rounding where a gradient is zero, as that of the keys' biases is."""
STEPS = 18
KINDS: dict[str, list[str]] = {
    "plain": [],
    "class weights": ["task.class_weights.pos=3", "task.class_weights.neg=0.5", "data.columns.weight=weight"],
    "multilabel": ["data.columns.label=labels", "data.labels.delimiter=;", "task.kind=multilabel"],
    "several tasks": [
        "task.kind=multitask",
        'task.groups={ label = ["neg", "pos"], third = ["a", "b", "c"] }',
        'data.columns.labels=["label", "third"]',
        "data.columns.weight=weights",
    ],
    "bucket": ["train.order=bucket"],
    "sgd": ["train.optimizer.kind=sgd", "train.optimizer.lr=0.1"],
    "schedule free": [
        "train.optimizer.kind=schedule_free",
        "train.schedule.kind=constant",
        "train.optimizer.eps=1e-4",
    ],
    "rates": ["train.optimizer.layer_decay=0.6", "train.optimizer.head_lr=2e-3"],
    "weighted": ["train.order=weighted", "data.columns.weight=weight"],
    "adapters": ["model.lora.r=4", "model.lora.bias=lora_only"],
    "few bits": ["model.lora.r=4", "model.quantize.bits=4"],
    "adapters with magnitudes": ["model.lora.r=4", "model.lora.options.use_dora=true"],
    "prefix": [
        'data.metadata.columns=["number", "id"]',
        "data.metadata.dropout=0.4",
        "tokens.max_length=60",
        "train.max_tokens=80",
    ],
    "frozen": ["model.freeze=embeddings"],
    "same shapes": [
        "tokens.pad=max_length",
        'tokens.max_length="auto"',
        "train.max_tokens=256",
        "train.deterministic=true",
    ],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    tiny_backbone("bert", folder / "backbone")
    rows = [
        {
            **row,
            "weight": 0.25 + (row["id"] % 5) / 2,
            "labels": f"{row['label']};x" if row["id"] % 3 else row["label"],
            "third": "" if row["id"] % 4 == 3 else "abc"[row["id"] % 3],
            "weights": [0.25 + (row["id"] % 5) / 2, 1 + row["id"] % 2],
        }
        for row in reviews(140)
    ]
    write_csv(folder / "rows.csv", rows)
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def undelayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@dataclass
class Whole:
    """A run of one process."""

    run: Path
    chosen: dict[int, list[int]]


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs of one process, by kind; each is made once."""
    made: dict[str, Whole] = {}
    real = loop.gradients_in_memory

    def of(kind: str) -> Whole:
        if kind in made:
            return made[kind]
        chosen: dict[int, list[int]] = {}

        def recorded(learner: Any, task: Any, loader: Any, batch: Any, *, seed: int) -> Any:
            chosen[batch.step] = batch.chosen.tolist()
            return real(learner, task, loader, batch, seed=seed)

        run = tmp_path_factory.mktemp("whole") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "gradients_in_memory", recorded)
            textune.train(place / "config.toml", run=run, overrides=KINDS[kind])
        made[kind] = Whole(run, chosen)
        return made[kind]

    yield of


def train_on(world: int, place: Path, run: Path, *words: str, watch: Watch | None = None) -> Ended:
    arguments = ["train", str(place / "config.toml"), "--run", str(run), *words]
    return textune_ranks(world, arguments, run.parent / f"{run.name}-logs", watch)


def lines_of(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def require_same(run: Path, whole: Path) -> None:
    """The losses and gradient norms of every step within 1e-5, metrics, the same best model and usual rows."""
    mine, theirs = lines_of(run, "step"), lines_of(whole, "step")
    assert [line["step"] for line in mine] == list(range(1, STEPS + 1))
    for one, other in zip(mine, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5, rel=1e-5), one["step"]
        assert one["lr"] == other["lr"] and one["epoch"] == other["epoch"]
    evaluations = [[(e["step"], e["metrics"]) for e in lines_of(folder, "evaluation")] for folder in (run, whole)]
    assert [step for step, _ in evaluations[0]] == [step for step, _ in evaluations[1]]
    for (_, one), (_, other) in zip(*evaluations, strict=True):
        assert one == pytest.approx(other, abs=1e-5, nan_ok=True)
    assert read_manifest(run).best_step == read_manifest(whole).best_step
    weights = [load_file(folder / "best" / "model.safetensors") for folder in (run, whole)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(
            tensor, weights[1][name], atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    usual, alone = (read_usual(folder / "best") for folder in (run, whole))
    assert usual is not None and alone is not None
    assert (usual.rows, usual.lengths) == (alone.rows, alone.lengths)
    assert [(head.labels, head.none) for head in usual.heads] == [(head.labels, head.none) for head in alone.heads]


def require_rows(ended: Ended, whole: Whole, *, first: int = 0) -> None:
    """Every rank sees the batches that one process sees."""
    for record in ended.records:
        assert {line["step"]: line["chosen"] for line in record} == {
            step: rows for step, rows in whole.chosen.items() if first <= step < (record[-1]["step"] + 1)
        }


def require_one_exchange(ended: Ended) -> None:
    """The gradients of a step are exchanged once, however many micro-batches it has."""
    for record in ended.records:
        assert max(line["parts"] for line in record) > 1
        steps = [after["exchanges"] - before["exchanges"] for before, after in pairwise(record)]
        assert len(set(steps)) == 1 and steps[0] >= 1, steps


def fsdp() -> list[str]:
    return ["train.distributed.kind=fsdp"]


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("world", "kind", "way"),
    [
        pytest.param(world, kind, way, marks=[] if (world, kind, way) in fast else pytest.mark.slow)
        for fast in [
            {
                *((2, "class weights", "ddp"), (2, "multilabel", "fsdp"), (2, "several tasks", "ddp")),
                *((2, "adapters", "ddp"), (2, "adapters", "fsdp"), (2, "few bits", "ddp"), (2, "prefix", "ddp")),
            }
        ]
        for world in (2, 4)
        for kind in KINDS
        for way in ("ddp", "fsdp")
        if (kind, way) != ("few bits", "fsdp")  # which is refused
    ],
)
@pytest.mark.parity("TR-13", "HF-16", "multi-gpu")
def test_ranks_train_as_one_process_does(
    place: Path, tmp_path: Path, whole: Any, world: int, kind: str, way: str
) -> None:
    alone = whole(kind)
    words = [*KINDS[kind], f"train.distributed.kind={way}"]
    ended = train_on(world, place, tmp_path / "run", *words, watch=Watch(record=tmp_path / "record"))
    assert ended.codes == [0] * world, ended.said
    require_rows(ended, alone)
    require_same(tmp_path / "run", alone.run)
    require_one_exchange(ended)
    assert "Traceback" not in "".join(ended.said)
    # One rank speaks for all, and keeps the log.
    assert ended.said[0] and not any(ended.said[1:]), ended.said
    assert (tmp_path / "run" / "run.log").read_text().count("  $ ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rule", [["kind=lion"], ["kind=sgd"], ["kind=schedule_free"], ["layer_decay=0.5"]])
@pytest.mark.parity("TR-13")
def test_weights_that_are_cut_are_updated_as_whole_ones_are(place: Path, tmp_path: Path, rule: list[str]) -> None:
    """One process that holds them in pieces; unclipped, since Lion's sign turns with the last bit of the norm."""
    words = [f"train.optimizer.{word}" for word in rule] + ["train.max_grad_norm=0", "train.schedule.kind=constant"]
    found = {}
    for way in ("ddp", "fsdp"):
        run = tmp_path / way
        textune.train(place / "config.toml", run=run, overrides=[*words, f"train.distributed.kind={way}"])
        found[way] = load_file(run / "best" / "model.safetensors"), lines_of(run, "evaluation")
    (weights, told), (others, other_told) = found["ddp"], found["fsdp"]
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert [line["metrics"] for line in told] == [line["metrics"] for line in other_told]


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_adapters_beside_cut_weights_go_on_beside_whole_ones(place: Path, tmp_path: Path, device: str) -> None:
    """FSDP2 in one process, stopped, then no FSDP."""
    run, words = tmp_path / "run", [*KINDS["adapters"], f"train.device={device}"]
    with pytest.raises(Preempted):
        after_step = signal_after({5: [signal.SIGTERM]})
        textune.train(place / "config.toml", run=run, overrides=[*words, *fsdp()], after_step=after_step)
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is not None and not any(name.endswith(".base_layer.weight") for name in checkpoint.names)
    textune.train(place / "config.toml", run=run, overrides=words)
    textune.train(place / "config.toml", run=tmp_path / "whole", overrides=words)
    require_same(run, tmp_path / "whole")


@pytest.mark.slow
def test_an_adapter_folder_is_that_of_whole_weights(place: Path, tmp_path: Path) -> None:
    """FSDP2 in one process gathers them to save what is trained."""
    words = [*KINDS["adapters"], "model.lora.merge=off", "train.duration=4 steps"]
    for way in ("ddp", "fsdp"):
        overrides = [*words, f"train.distributed.kind={way}"]
        textune.train(place / "config.toml", run=tmp_path / way, overrides=overrides)
    whole, cut = (load_file(tmp_path / way / "best" / "adapter_model.safetensors") for way in ("ddp", "fsdp"))
    assert whole.keys() == cut.keys() and any(".lora_B." in name for name in whole)
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, atol=1e-6, rtol=1e-5)
    rows = ["a good film", "dull"]
    scores = [textune.load(tmp_path / way).score(rows) for way in ("ddp", "fsdp")]
    assert abs(scores[0] - scores[1]).max() < 1e-5


CHAINS = {
    "2 fsdp, 1": [(2, "fsdp"), (1, "ddp")],
    "1, 2 fsdp": [(1, "ddp"), (2, "fsdp")],
    "2 ddp, 2 fsdp, 2 ddp": [(2, "ddp"), (2, "fsdp"), (2, "ddp")],
    "4 ddp, 2 ddp, 1": [(4, "ddp"), (2, "ddp"), (1, "ddp")],
    "4 fsdp, 2 ddp, 3 fsdp, 1": [(4, "fsdp"), (2, "ddp"), (3, "fsdp"), (1, "ddp")],
    "1, 4 ddp, 2 fsdp": [(1, "ddp"), (4, "ddp"), (2, "fsdp")],
}
STOPS = (5, 9, 14)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("chain", "kind"),
    [
        pytest.param(name, kind, marks=[] if (name, kind) in fast else pytest.mark.slow)
        for fast in [{("2 fsdp, 1", "class weights"), ("1, 2 fsdp", "class weights"), ("2 fsdp, 1", "adapters")}]
        for name in CHAINS
        for kind in ("class weights", "adapters", "frozen")
    ],
)
def test_a_run_stops_on_some_ranks_and_goes_on_with_others(
    place: Path, tmp_path: Path, whole: Any, chain: str, kind: str
) -> None:
    """The signal comes to one rank alone; all stop behind the same step."""
    alone, run, first = whole(kind), tmp_path / "run", 0
    stages = CHAINS[chain]
    for number, (world, way) in enumerate(stages):
        stop = STOPS[number] if number < len(stages) - 1 else 0
        watch = Watch(record=tmp_path / f"record-{number}", act="SIGTERM", act_rank=world - 1, act_step=stop)
        words = [*KINDS[kind], f"train.distributed.kind={way}", *(["--resume"] if number else [])]
        ended = train_on(world, place, run, *words, watch=watch)
        assert ended.codes == [143 if stop else 0] * world, ended.said
        require_rows(ended, alone, first=first)
        if stop:
            checkpoint, passed = newest(run / "checkpoints")
            assert checkpoint is not None and (checkpoint.step, passed) == (stop, [])
            files = {found.path for found in checkpoint.places.values()}
            assert len([path for path in files if path.name.startswith("state-")]) == world
            assert read_manifest(run).status == "preempted"
            assert f"stopped by SIGTERM after step {stop}; everything is saved" in ended.said[0]
            first = stop
    require_same(run, alone.run)


@pytest.mark.parametrize(("act", "way"), [("exit", "ddp"), pytest.param("SIGKILL", "fsdp", marks=pytest.mark.slow)])
def test_ranks_stop_by_themselves_when_one_dies(place: Path, tmp_path: Path, whole: Any, act: str, way: str) -> None:
    alone, run = whole("plain"), tmp_path / "run"
    # A checkpoint in the background may not be complete yet when the rank dies.
    words = [f"train.distributed.kind={way}", "train.checkpoint.background=false"]
    ended = train_on(2, place, run, *words, watch=Watch(act=act, act_rank=1, act_step=7))
    assert ended.codes == [75, 7 if act == "exit" else -9], ended.said
    assert "Error: " in ended.said[0] and "another rank" in ended.said[0] and "--resume" in ended.said[0], ended.said
    assert "Traceback" not in ended.said[0]
    assert read_manifest(run).status == "failed"
    again = train_on(2, place, run, *words, "--resume", watch=Watch(record=tmp_path / "record"))
    assert again.codes == [0, 0], again.said
    require_rows(again, alone, first=4)
    require_same(run, alone.run)
