"""`train.order` in whole runs: what it changes, what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from kits.runs import Listener, reviews, write_csv

import textune
from textune.config.load import load_config
from textune.errors import ConfigError, DataError
from textune.pipeline.build import build_parts
from textune.run.facts import run_facts
from textune.run.parts import Parts, batches_of


@pytest.fixture(scope="module")
def weighted_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which only the positive ones, every other one, weigh something."""
    rows = [{**row, "weight": float(row["label"] == "pos")} for row in reviews(120)]
    return write_csv(tmp_path_factory.mktemp("weighted") / "weighted.csv", rows)


def first_epoch(parts: Parts) -> list[np.ndarray]:
    rows = parts.rows["train"]
    return parts.plan.batches(0, rows.lengths, rows.weights)


def gathered(home: Path, *overrides: str) -> Parts:
    experiment = load_config(home / "config.toml", ["model.compile=off", *overrides]).experiment
    return build_parts(experiment, tracker=Listener(), audit=False)


def test_buckets_spare_padding(home: Path) -> None:
    shares = {}
    for order in ("shuffle", "bucket"):
        shares[order] = run_facts(gathered(home, f"train.order={order}")).padding_by_batch
    assert shares["bucket"] < shares["shuffle"] / 2


def test_weighted_runs_draw_by_weight_and_say_what_they_will_see(home: Path, weighted_file: Path) -> None:
    parts = gathered(home, f"data.train.files={weighted_file}", "data.columns.weight=weight", "train.order=weighted")
    rows = parts.rows["train"]
    drawn = np.concatenate(first_epoch(parts))
    assert rows.weights is not None and not rows.weights.all()
    assert len(drawn) == len(rows) and rows.weights[drawn].all() and len(set(drawn.tolist())) < len(drawn)
    assert run_facts(parts).tokens_per_epoch == rows.lengths[drawn].sum()
    batches = iter(batches_of(parts))
    assert next(batches).chosen.tolist() == first_epoch(parts)[0].tolist()
    batches.close()


@pytest.mark.every_day(1)
@pytest.mark.parametrize("order", ["bucket", "weighted"])
def test_every_order_trains(home: Path, weighted_file: Path, tmp_path: Path, order: str) -> None:
    overrides = [f"data.train.files={weighted_file}", "data.columns.weight=weight", f"train.order={order}"]
    overrides += ["train.duration=1 epochs", "model.compile=off"]
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result.steps == 5  # 120 rows, a fifth for validation, 21 for the test: 75 in batches of 16
    assert textune.check(home / "config.toml", overrides=overrides).words["time"].startswith("about")


def test_a_draw_without_a_column_of_weights_is_refused_before_rows_are_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textune.pipeline.buildtexts.prepare_data", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(ConfigError, match=r"data\.columns\.weight is not set"):
        gathered(home, "train.order=weighted")


def test_training_rows_without_weight_cannot_be_drawn(home: Path, tmp_path: Path) -> None:
    """The only rows that weigh something are left out as too long."""
    rows = [{"text": "good" if n % 2 else "bad", "label": "pos" if n % 2 else "neg", "weight": 0.0} for n in range(40)]
    rows += [{"text": "good " * 12, "label": "pos", "weight": 1.0}] * 4
    path = write_csv(tmp_path / "rows.csv", rows)
    overrides = [
        f"data.train.files={path}",
        "data.columns.weight=weight",
        "tokens.drop_longer=6",
        "data.test.kind=none",
    ]
    assert first_epoch(gathered(home, *overrides, "data.validation.kind=none"))
    with pytest.raises(DataError, match="no training row has a weight above 0"):
        gathered(home, *overrides, "data.validation.kind=none", "train.order=weighted")
