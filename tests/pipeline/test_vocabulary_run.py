"""Whole runs with the compact vocabulary: what they save and say, and what the live model refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.runs import Listener, reviews, write_csv
from safetensors.torch import load_file

import textune
from textune.config.load import load_config
from textune.errors import ConfigError
from textune.pipeline.build import build_parts
from textune.prediction.predictor import Predictor
from textune.run.parts import scorer_of
from textune.run.tracking.tracker import SilentTracker


def run(home: Path, folder: Path, *overrides: str) -> tuple[Any, Listener]:
    listener = Listener()
    # Compiled kernels are used once they are built: runs that are compared should not differ in that.
    options = ["train.duration=12 steps", "train.optimizer.weight_decay=0.1", "model.compile=off", *overrides]
    return textune.train(home / "config.toml", run=folder, overrides=options, tracker=listener), listener


def test_a_run_saves_the_same_with_and_without_it(home: Path, tmp_path: Path) -> None:
    """Dropout, clipping and weight decay as they are by default; the folders differ in nothing else either."""
    (compact, facts), (full, full_facts) = (
        run(home, tmp_path / mode, f"train.compact_vocabulary={mode}", "train.optimizer.eps=1e-4")
        for mode in ("on", "off")
    )
    ours, theirs = (load_file(result.run / "best" / "model.safetensors") for result in (compact, full))
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).abs().max() <= 1e-6, name
    for name in ("config.json", "textune.json", "tokenizer.json"):
        assert (compact.run / "best" / name).read_bytes() == (full.run / "best" / name).read_bytes(), name
    assert compact.reports["test"].value == full.reports["test"].value

    assert "token embeddings trained: the others do not occur in the data" in facts.words["vocabulary"]
    assert full_facts.words["vocabulary"] == 'full table: train.compact_vocabulary = "off"'
    parameters = full_facts.words["model"]
    assert "trained" not in parameters and facts.words["model"].startswith(parameters)


def test_words_of_the_held_out_rows_alone_are_kept(home: Path, tmp_path: Path) -> None:
    """Rows of validation and test hold words that no training row has: evaluated while training as they are
    afterwards."""
    held_out = [{**row, "text": f"{row['text']} plot scene poor"} for row in reviews(30, seed=3)]
    files = {"validation": write_csv(tmp_path / "validation.csv", held_out)}
    files["test"] = write_csv(
        tmp_path / "test.csv", [{**row, "text": row["text"] + " not without"} for row in held_out]
    )
    overrides = ["train.compact_vocabulary=on"]
    for part, path in files.items():
        overrides += [f"data.{part}.kind=files", f"data.{part}.files={path}"]
    result, listener = run(home, tmp_path / "run", *overrides)
    best = max(entry["metrics"]["accuracy"] for entry in listener.evaluations)
    assert result.reports["validation"].value == pytest.approx(best, abs=1e-12)
    assert result.reports["test"].num_rows == 30


def test_the_live_model_refuses_a_new_text_and_the_saved_one_does_not(home: Path) -> None:
    loaded = load_config(home / "config.toml", ["train.compact_vocabulary=on"])
    parts = build_parts(loaded.experiment, tracker=SilentTracker(), audit=False)
    predictor = Predictor(scorer_of(parts))
    seen = predictor.scorer.score_store(parts.rows["test"].store, parts.rows["test"].examples)["label"]
    assert np.isfinite(seen).all()
    with pytest.raises(RuntimeError, match="for other texts, use the saved model"):
        predictor.score(["zebra xylophone"])


def test_on_is_refused_where_the_embeddings_are_frozen(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'train.compact_vocabulary = "on", but the token embeddings are frozen'):
        run(home, tmp_path / "run", "train.compact_vocabulary=on", "model.freeze=embeddings")
    _, listener = run(home, tmp_path / "auto", "model.freeze=embeddings")
    assert listener.words["vocabulary"] == "full table: the token embeddings are frozen"


def test_check_counts_the_whole_model(home: Path) -> None:
    compact, full = (
        textune.check(home / "config.toml", overrides=[f"train.compact_vocabulary={mode}"]).facts
        for mode in ("on", "off")
    )
    assert compact.parameters == full.parameters > compact.parameters_trained and compact.vocabulary != full.vocabulary
