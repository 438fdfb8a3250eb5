"""One model, one answer: a rule of decision (temperature, threshold, abstention) gives the same labels in Python, in
files, in shards, from a server, and in every export in which no label may change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from kits.crews import one_process, small_shards
from kits.predictions import predict, read
from kits.runs import reviews

import textune
from textune.exports import export
from textune.exports.table import KINDS
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


@pytest.mark.every_day(2)
@pytest.mark.parametrize("way", WAYS)
def test_a_decided_label_is_the_same_wherever_it_is_asked(
    decided: Path, expected: list[tuple[str | None, float]], tmp_path: Path, one_process: None, way: str
) -> None:
    labels, scores = WAYS[way](decided, tmp_path)
    assert labels == [label for label, _ in expected]
    if way != "server":  # which gives the probability of every label
        assert np.allclose(scores, [score for _, score in expected], atol=1e-5)


def exact_kinds() -> list[str]:
    """Kinds of export in which no label may change."""
    return [name for name, kind in KINDS.items() if kind.tolerance.labels == 0]


def exported(decided: Path, kind: str, folder: Path) -> Path:
    for package in KINDS[kind].packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    export(decided, folder, to=kind)
    return folder


def by_mlflow(folder: Path) -> tuple[Labels, list[float]]:
    """As whoever has MLflow opens it: in a process that has nothing of this one."""
    code = (
        "import json, sys; from mlflow.pyfunc import load_model\n"
        "print(load_model(sys.argv[1]).predict(json.loads(sys.argv[2])).to_json(orient='records'))"
    )
    command = [sys.executable, "-c", code, str(folder), json.dumps(TEXTS)]
    environment = os.environ | {"PYTHONPATH": str(Path(textune.__file__).parents[1])}
    said = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True, check=True)
    rows = json.loads(said.stdout.splitlines()[-1])
    return [row["predicted_label"] for row in rows], [row["predicted_score"] for row in rows]


def by_onnxruntime(folder: Path) -> tuple[Labels, None]:
    """As whoever has ONNX Runtime opens it: strings in, labels out; a withheld one is empty. Scores are those of every
    label, as from the server."""
    from textune.exports.text import FILE, TEXT, open_session

    session = open_session(str(folder / FILE))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {TEXT: np.array(TEXTS, dtype=object)}), strict=True))
    return [label or None for label in found["label"].tolist()], None


OTHERS: dict[str, Callable[[Path], tuple[Labels, list[float] | None]]] = {"mlflow": by_mlflow, "text": by_onnxruntime}
"""What opens the kinds that textune does not."""


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", [name for name in exact_kinds() if name not in OTHERS])
def test_an_export_gives_the_decided_labels_wherever_it_is_asked(
    decided: Path, expected: list[tuple[str | None, float]], tmp_path: Path, one_process: None, kind: str
) -> None:
    folder = exported(decided, kind, tmp_path / kind)
    for way, ask in WAYS.items():
        labels, scores = ask(folder, tmp_path)
        assert labels == [label for label, _ in expected], way
        if way != "server":
            assert np.allclose(scores, [score for _, score in expected], atol=1e-4), way


@pytest.mark.slow
@pytest.mark.parametrize("kind", [name for name in exact_kinds() if name in OTHERS])
def test_an_export_that_others_open_gives_the_decided_labels(
    decided: Path, expected: list[tuple[str | None, float]], tmp_path: Path, kind: str
) -> None:
    labels, scores = OTHERS[kind](exported(decided, kind, tmp_path / kind))
    assert labels == [label for label, _ in expected]
    assert scores is None or np.allclose(scores, [score for _, score in expected], atol=1e-4)
