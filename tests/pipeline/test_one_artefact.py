"""One model, one answer: a rule of decision (temperature, threshold, abstention) gives the same labels in Python, in
files, in shards, from a server, and in every export that textune opens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kits.crews import one_process, small_shards
from kits.predictions import predict, read
from kits.runs import reviews

import textune
from textune.prediction.card import read_card, write_card
from textune.prediction.load import load
from textune.prediction.rows import predict_table
from textune.tasks.decision import Decision

__all__ = ["one_process", "small_shards"]
TEXTS = [row["text"] for row in reviews(40)] + ["good", "bad", "film", "a film", "good bad film", "the"]
Labels = list[str | None]


@pytest.fixture(scope="module")
def decided(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of few steps with a rule that changes some answers and withholds others: its temperature makes half of the
    texts more sure than 0.73."""
    run = tmp_path_factory.mktemp("decided") / "run"
    textune.train(home / "config.toml", run=run, overrides=["train.duration=2 epochs"])
    sure = np.asarray(textune.load(run, device="cpu").score(TEXTS))[:, 1]
    temperature = float(np.median(np.abs(np.log(sure) - np.log1p(-sure))))
    rule = Decision(temperature=temperature, thresholds=(0.62,), abstain_below=0.6)
    write_card(read_card(run / "best").with_decisions({"label": rule}), run / "best")
    return run


@pytest.fixture(scope="module")
def expected(decided: Path) -> list[tuple[str | None, float]]:
    """What the run's model says of each text by itself."""
    model, usual = textune.load(decided, device="cpu"), textune.load(decided, device="cpu", decision=False)
    answers = [model.predict([text])[0] for text in TEXTS]
    plain = [usual.predict([text])[0].label for text in TEXTS]
    given = [(one.label, one.score) for one in answers]
    assert {label for label, _ in given} >= {None} and [label for label, _ in given] != plain
    assert any(label is not None for label, _ in given)
    return given


def in_python(model: Path, folder: Path) -> tuple[Labels, list[float]]:
    found = textune.load(model, device="cpu").predict(TEXTS)
    return [one.label for one in found], [one.score for one in found]


def in_a_table(model: Path, folder: Path) -> tuple[Labels, list[float]]:
    table = predict_table(load(model, device="cpu"), {"text": TEXTS})
    return table.column("predicted_label").to_pylist(), table.column("predicted_score").to_pylist()


def _rows(path: Path) -> tuple[Labels, list[float]]:
    rows = read(path)
    return [row["predicted_label"] for row in rows], [row["predicted_score"] for row in rows]


def _source(folder: Path) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return path


def in_a_file(model: Path, folder: Path) -> tuple[Labels, list[float]]:
    predict(load(model, device="cpu"), _source(folder), folder / "out.jsonl")
    return _rows(folder / "out.jsonl")


def in_shards(model: Path, folder: Path) -> tuple[Labels, list[float]]:
    textune.predict_files(model, _source(folder), folder / "shards.jsonl", workers=2, device="cpu")
    return _rows(folder / "shards.jsonl")


def from_a_server(model: Path, folder: Path) -> tuple[Labels, list[float]]:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from kits.serving import client

    with client({"model": model}) as served:
        answer = served.post("/predict", json={"inputs": [[text] for text in TEXTS]})
    assert answer.status_code == 200, answer.text
    labels: Labels = []
    for row in answer.json():
        labels.append(next((item["label"] for item in row if item["answer"]), None))
    return labels, [max(item["score"] for item in row) for row in answer.json()]


WAYS: dict[str, Callable[[Path, Path], tuple[Labels, list[float]]]] = {
    "python": in_python,
    "table": in_a_table,
    "file": in_a_file,
    "shards": in_shards,
    "server": from_a_server,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_decided_label_is_the_same_wherever_it_is_asked(
    decided: Path, expected: list[tuple[str | None, float]], tmp_path: Path, one_process: None, way: str
) -> None:
    labels, scores = WAYS[way](decided, tmp_path)
    assert labels == [label for label, _ in expected]
    if way != "server":  # which gives the probability of every label
        assert np.allclose(scores, [score for _, score in expected], atol=1e-5)
