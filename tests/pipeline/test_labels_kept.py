"""R12: the label map is the same however the rows are ordered and split, and is kept with the model."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from kits.runs import Listener, write_csv
from transformers import AutoConfig

import textune


def rows(seed: int | None = None) -> list[dict[str, Any]]:
    """Integer labels 0..11 (as text they would sort 0, 1, 10, 11, 2); shuffled, or one class missing from the last
    fifth."""
    made = [{"text": f"the film {'good ' * (n % 12)}", "label": n % 12} for n in range(96)] + [
        {"text": "a", "label": 3}
    ] * 24
    if seed is not None:
        random.Random(seed).shuffle(made)
    return made


def overrides_for(folder: Path, files: str) -> list[str]:
    """Train on these files of `folder`, with a validation file that lacks a class."""
    write_csv(folder / "validation.csv", [row for row in rows() if row["label"] != 5])
    return [
        f"data.folder={folder}",
        f"data.train.files={files}",
        "data.validation.kind=files",
        "data.validation.files=validation.csv",
        "data.test.kind=none",
        "train.duration=1 steps",
    ]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("seed", [None, 7, 60])
def test_integer_labels_keep_numeric_order_in_every_order_of_rows(
    home: Path, tmp_path: Path, seed: int | None
) -> None:
    write_csv(tmp_path / "train.csv", rows(seed))
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides_for(tmp_path, "train.csv"))
    assert result is not None
    texts = ["the film good good", "a", "bad"]
    before = textune.load(result.run).predict(texts)
    moved = tmp_path / "elsewhere"
    result.run.rename(moved)
    names = tuple(map(str, range(12)))
    loaded = textune.load(moved)
    assert loaded.card.names == names
    assert tuple(AutoConfig.from_pretrained(moved / "best").id2label.values()) == names
    assert [tuple(prediction.scores) for prediction in before] == [names] * 3
    assert loaded.predict(texts) == before


@pytest.mark.every_day(1)
@pytest.mark.parametrize("files", [["a.csv", "b.csv"], ["b.csv", "a.csv"]], ids="-".join)
def test_training_files_in_either_order_give_the_same_map(home: Path, tmp_path: Path, files: list[str]) -> None:
    # Read one after the other, the labels would first be met as 11 ... 6, 5 ... 0 or 5 ... 0, 11 ... 6.
    falling = sorted(rows(), key=lambda row: -row["label"])
    write_csv(tmp_path / "a.csv", [row for row in falling if row["label"] >= 6])
    write_csv(tmp_path / "b.csv", [row for row in falling if row["label"] < 6])
    overrides = overrides_for(tmp_path, json.dumps(files))
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result is not None
    assert textune.load(result.run).card.names == tuple(map(str, range(12)))
    assert json.loads((result.run / "best" / "config.json").read_text())["label2id"] == {str(n): n for n in range(12)}


def test_a_given_order_of_names_is_honoured(home: Path, tmp_path: Path) -> None:
    overrides = ['data.labels.names=["pos", "neg"]', "train.duration=1 steps"]
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result is not None and textune.load(result.run).card.names == ("pos", "neg")


def test_a_label_in_validation_only_gets_an_output_and_is_reported(home: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "validation.csv", [{"text": "a film", "label": "mixed"}, {"text": "good", "label": "pos"}])
    listener = Listener()
    overrides = [
        "data.validation.kind=files",
        f"data.validation.files={tmp_path / 'validation.csv'}",
        "data.test.kind=none",
        "train.duration=1 steps",
    ]
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides, tracker=listener)
    assert result is not None and textune.load(result.run).card.names == ("mixed", "neg", "pos")
    assert any("mixed" in notice for notice in listener.notices)


@pytest.mark.parity("HF-08")
def test_the_label_order_of_a_fine_tuned_backbone_is_kept(home: Path, tmp_path: Path) -> None:
    overrides = ['data.labels.names=["pos", "neg"]', "train.duration=30 steps"]
    first = textune.train(home / "config.toml", run=tmp_path / "first", overrides=overrides)
    assert first is not None
    listener = Listener()
    overrides = [f"model.pretrained={first.run / 'best'}", "train.duration=1 steps"]
    second = textune.train(home / "config.toml", run=tmp_path / "second", overrides=overrides, tracker=listener)
    assert second is not None and textune.load(second.run).card.names == ("pos", "neg")
    assert any("keep the order of the backbone: pos, neg" in notice for notice in listener.notices)
    # One step at the start of the warm-up has learning rate 0: the head is the one that was trained.
    assert second.reports["test"].metrics == first.reports["test"].metrics
    assert textune.evaluate(second.run).metrics == second.reports["test"].metrics
