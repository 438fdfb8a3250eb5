"""`tokens.max_length = "auto"` in whole runs: said, saved with the model, kept by a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.runs import Listener, reviews, write_csv

import textune
from textune.prediction.load import load
from textune.run.manifest import read_manifest
from textune.training.checkpoint import newest

LONG = " ".join(["the film is"] * 60)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Rows of which a third are longer than 128 tokens, the same without them, and a backbone of 512 positions."""
    tiny_backbone("bert", tmp_path / "backbone", max_position_embeddings=512)
    rows = reviews(60)
    write_csv(tmp_path / "short.csv", rows)
    write_csv(
        tmp_path / "long.csv", [row | ({} if row["id"] % 3 else {"text": f"{row['text']} {LONG}"}) for row in rows]
    )
    return tmp_path


def _config(place: Path, rows: str, **more: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "data": {"train": {"files": [str(place / rows)]}},
        "model": {"pretrained": str(place / "backbone")},
        "tokens": {"cache": str(place / "cache"), **more},
        "train": {
            "duration": "2 steps",
            "schedule": {"kind": "constant"},
            "batch_size": 8,
            "device": "cpu",
            "precision": "fp32",
        },
        "evaluate": {"bootstrap": 0},
    }
    return tree


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("rows", "length", "share"), [("short.csv", 128, "0.0%"), ("long.csv", 256, "33.3%")])
@pytest.mark.parity("AZ-27")
def test_the_length_is_said_and_saved(place: Path, rows: str, length: int, share: str) -> None:
    config = _config(place, rows)
    checked = textune.check(config, timing=False)
    assert checked.facts.max_length == length
    reason = f"auto: {share} of 54 training rows are longer than 128"
    assert f"truncated to {length} ({reason})" in checked.words["tokens"]
    run = textune.train(config, run=place / "run").run
    assert f"truncated to {length} ({reason})" in read_manifest(run).resolved["tokens"]
    assert json.loads((run / "best" / "textune.json").read_text())["max_length"] == length
    predictor = load(run, device="cpu")
    assert predictor.encode([LONG * 9]).lengths.tolist() == [length]
    assert predictor.scorer.tokenizer.model_max_length == length
    report = textune.evaluate(run, device="cpu")
    assert report.num_rows == 6


def test_a_run_goes_on_with_the_length_that_it_began_with(place: Path) -> None:
    """Whatever `auto` stood for then: earlier versions had 256 for short rows, too."""
    run = textune.train(_config(place, "short.csv", max_length=256), run=place / "run").run
    checkpoint, _ = newest(run / "checkpoints")
    assert checkpoint is not None and checkpoint.state["content"]["max_length"] == 256
    listener = Listener()
    config = _config(place, "short.csv")
    config["train"]["duration"] = "4 steps"
    again = textune.train(config, run=run, resume="latest", tracker=listener)
    assert again.steps == 4 and again.facts is not None
    assert (again.facts.max_length, again.facts.max_length_reason) == (256, "as before the run stopped")
    assert json.loads((run / "best" / "textune.json").read_text())["max_length"] == 256


def test_a_stream_is_judged_by_its_first_rows(place: Path) -> None:
    for shard in range(3):
        rows = [{"text": LONG if number % 2 else "good", "label": "ab"[number % 2]} for number in range(16)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (place / f"{shard}.jsonl").write_text(lines, encoding="utf-8")
    config = _config(place, "")
    config["data"] = {
        "train": {"kind": "stream", "files": [str(place / "*.jsonl")], "num_rows": 48},
        "validation": {"kind": "none"},
        "test": {"kind": "none"},
        "labels": {"names": ["a", "b"]},
    }
    config["task"] = {"kind": "multiclass"}
    run = textune.train(config, run=place / "run")
    assert run.facts is not None and run.facts.max_length == 256
    assert "50.0% of" in run.facts.max_length_reason
