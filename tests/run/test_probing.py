"""Rows that a run keeps beside its model: which ones, what of them, and that they are read back as they were."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.backbones import tiny_backbone
from kits.errors import refused

import textune
from textune.batches import TokenRows, TokenStore
from textune.errors import RunError
from textune.prediction import load_scorer, read_probe
from textune.run.probing import spread_rows

LENGTHS = np.random.default_rng(0).integers(3, 200, 1000)


def rows_of(lengths: np.ndarray) -> TokenRows:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    store = TokenStore({"ids": np.zeros(offsets[-1], np.int32)}, offsets, lengths, np.arange(len(lengths)))
    return TokenRows(store, np.arange(len(lengths)), {}, None)


def test_rows_are_spread_over_labels_and_lengths() -> None:
    """A label of 5 rows in 1,000 has all of them, the others share what is left, short and long ones."""
    label = np.zeros(len(LENGTHS), np.int64)
    label[::3], label[::200] = 1, 2
    chosen = spread_rows(rows_of(LENGTHS), {"label": label}, 105)
    assert np.bincount(label[chosen]).tolist() == [50, 50, 5]
    for one in range(3):
        of_label, kept = LENGTHS[label == one], LENGTHS[chosen][label[chosen] == one]
        assert kept.min() == of_label.min() and kept.max() == of_label.max()
        assert one == 2 or abs(np.median(kept) - np.median(of_label)) < 15
    assert (np.diff(chosen) > 0).all() and (chosen == spread_rows(rows_of(LENGTHS), {"label": label}, 105)).all()


@pytest.mark.parametrize("kind", ["numbers", "labels", "tasks", "many"])
def test_targets_of_every_form_are_spread(kind: str) -> None:
    draw = np.random.default_rng(1)
    numbers, labels = draw.normal(size=1000), (draw.random((1000, 4)) < [0.9, 0.5, 0.1, 0.005]).astype(np.float32)
    labels[0, 3] = 1
    targets: dict[str, dict[str, np.ndarray]] = {
        "numbers": {"label": np.where(numbers > 2.5, np.nan, numbers)},
        "labels": {"label": labels},
        "tasks": {"one": draw.integers(-1, 2, 1000), "other": numbers},
        "many": {"label": np.arange(1000)},
    }
    chosen = spread_rows(rows_of(LENGTHS), targets[kind], 60)
    assert len(np.unique(chosen)) == len(chosen) == 60
    if kind == "labels":
        assert labels[chosen, 3].sum() == labels[:, 3].sum()
    if kind == "many":
        assert LENGTHS[chosen].min() < 30 and LENGTHS[chosen].max() > 170


def test_fewer_rows_than_are_wanted_are_all_kept() -> None:
    assert spread_rows(rows_of(LENGTHS[:7]), {"label": np.zeros(7, np.int64)}, 200).tolist() == list(range(7))


ROWS = [
    {"title": f"film {number}", "body": "good" if number % 2 else "bad", "year": 1990 + number, "rate": number / 4,
     "made": f"2020-01-{number % 28 + 1:02}T00:00:00", "label": "pos" if number % 2 else "neg"}
    for number in range(60)
]  # fmt: skip
READ: dict[str, dict[str, Any]] = {
    "template": {"columns": {"template": "{title} of {year}: {body}, {rate}"}},
    "pair": {"columns": {"text": "title", "text_pair": "body"}},
    "prefix": {"columns": {"text": "body"}, "metadata": {"columns": ["year", "rate", "made", "title"]}},
}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("form", READ)
def test_rows_come_back_as_they_were(form: str, tmp_path: Path) -> None:
    """The model says of the rows of the file what it says of those of the data."""
    backbone = tiny_backbone("bert", tmp_path / "backbone")
    config = {
        "data": {"validation": {"ratio": 0.5}, **READ[form]},
        "tokens": {"max_length": 96, "cache": str(tmp_path / "cache")},
        "model": {"pretrained": str(backbone)},
        "train": {"duration": "1 steps", "precision": "fp32", "device": "cpu"},
        "evaluate": {"bootstrap": 0, "probe": 20},
    }
    if form == "prefix":
        config["data"]["metadata"]["dropout"] = 0.1
    textune.train(config, train=ROWS, run=tmp_path / "run")
    probe = read_probe(tmp_path / "run" / "best")
    assert probe is not None and len(probe) == 20
    scorer = load_scorer(tmp_path / "run", device="cpu", precision="fp32")
    given = probe.given(scorer.card)
    titles = {row["title"]: row for row in ROWS}
    for number, cells in enumerate(probe.rows):
        row = titles[cells["title"]]
        assert cells["year" if form != "pair" else "title"] == row["year" if form != "pair" else "title"]
        assert probe.targets["label"][number] == (row["label"] == "pos")
        if form == "template":
            assert given.texts[number] == f"{row['title']} of {row['year']}: {row['body']}, {row['rate']:g}"
        if form == "prefix":
            said = [field[number].as_py() for field in given.fields]
            assert said[0] == f"year: {row['year']}" and said[3] == f"title: {row['title']}"
    again = probe.scored_by(scorer)
    assert all(np.abs(again.scores[name] - probe.scores[name]).max() < 1e-6 for name in probe.scores)


def test_a_run_may_keep_none(home: Path, tmp_path: Path) -> None:
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=["train.duration=1 steps", "evaluate.probe=0"])
    assert read_probe(tmp_path / "run" / "best") is None


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    for line, reason in {
        "{": "Expecting",
        '{"scores": {"label": [1.0]}}': "neither columns nor tokens",
        '{"columns": {"text": "a"}}': "not an object with scores",
        '{"columns": {"text": "a"}, "targets": [1], "scores": {"label": [0.5, 0.5]}}': "no object by the names",
        '{"tokens": {"ids": [1.5]}, "scores": {"label": 1.0}}': "no list of whole numbers",
        '{"tokens": {"ids": [1], "types": []}, "scores": {"label": 1.0}}': "differ in length",
    }.items():
        good = {"columns": {"text": "a"}, "scores": {"label": [0.5, 0.5]}}
        (tmp_path / "probe.jsonl").write_text(json.dumps(good) + "\n" + line + "\n")
        with refused(RunError, place="line 2", reason=reason):
            read_probe(tmp_path)
