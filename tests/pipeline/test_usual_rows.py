"""A run keeps what its validation rows looked like beside its best model, and the file goes where the model goes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.runs import Listener, reviews, write_csv, write_place

import textune
from textune.evaluation import Aim, read_rows
from textune.exports import export
from textune.prediction import Predictor, load_scorer, read_card
from textune.prediction.usual import USUAL_NAME, UsualRows, bins_of, read_usual


def counts(usual: UsualRows, head: int = 0) -> tuple[list[int], list[int]]:
    return list(usual.heads[head].labels), list(usual.heads[head].scores.counts)


def test_a_run_keeps_them_beside_its_best_model(trained: Any, tmp_path: Path) -> None:
    run = trained[0].run
    usual = read_usual(run / "best")
    assert usual is not None
    rows = read_rows(run / "evaluations" / "validation.rows.parquet")
    assert usual.rows == len(rows) == sum(usual.lengths.counts)
    predictor = textune.load(run)
    given = [row["text"] for row in reviews(200) if int(row["id"]) in set(rows.facts.row.tolist())]
    assert len(given) == len(rows)
    predicted = predictor.predict(given)
    names = list(predictor.card.names)
    labels = [sum(one.label == name for one in predicted) for name in names]
    bins = bins_of(usual.heads[0].scores.bounds, np.array([one.score for one in predicted]))
    assert counts(usual) == (labels, np.bincount(bins, minlength=len(usual.heads[0].scores.counts)).tolist())
    store = Predictor(load_scorer(run)).encode(given)
    read = bins_of(usual.lengths.bounds, store.lengths)
    assert list(usual.lengths.counts) == np.bincount(read, minlength=len(usual.lengths.counts)).tolist()
    export(run, tmp_path / "exported")
    assert read_usual(tmp_path / "exported") == usual
    assert given[0] not in (run / "best" / USUAL_NAME).read_text(encoding="utf-8")


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('[data.train]\nfiles = "rows.csv"\n[data.validation]\nkind = "none"\n', False),
        (
            '[data.train]\nfiles = "rows.csv"\n[data.validation]\ncount = 30\n[data.columns]\nlabel = "number"\n'
            '[task]\nkind = "regression"\n',
            True,
        ),
    ],
    ids=["no validation rows", "regression"],
)
def test_runs_of_other_kinds(config: str, expected: bool, tmp_path: Path) -> None:
    write_place(tmp_path, config + '[model]\npretrained = "backbone"\n[train]\nduration = "2 steps"\n', reviews(80))
    run = textune.train(tmp_path / "config.toml", run=tmp_path / "run").run
    usual = read_usual(run / "best")
    assert (usual is not None) == expected
    if usual is not None:
        assert usual.rows == sum(usual.heads[0].scores.counts) == 30
        assert usual.heads[0].labels == ()


def test_a_new_rule_counts_them_anew(trained: Any, tmp_path: Path) -> None:
    shutil.copytree(trained[0].run.parents[1], tmp_path / "home", ignore=shutil.ignore_patterns("cache"))
    run = tmp_path / "home" / "runs" / "first"
    before = read_usual(run / "best")
    textune.decide(run, Aim("recall", 0.5), data=write_csv(tmp_path / "fresh.csv", reviews(260, seed=5)))
    after, (head,) = read_usual(run / "best"), read_card(run / "best").build_task().heads
    assert before is not None and after is not None
    assert before.of(head) is None, "the rule is another one"
    counted = after.of(head)
    assert counted is not None and head.decision.thresholds is not None
    scored = read_rows(run / "evaluations" / "validation.rows.parquet").scored.by_head["label"].scores
    assert scored is not None
    assert counted.labels[1] == int((scored[:, 1] >= head.decision.thresholds[0]).sum())
    assert after.lengths == before.lengths
    # Without the scores, and with a damaged file, the rule is set all the same.
    (run / "best" / USUAL_NAME).write_text("{", encoding="utf-8")
    listener = Listener()
    textune.decide(run, Aim("recall", 0.6), data=tmp_path / "fresh.csv", force=True, tracker=listener)
    assert any("drift" in notice for notice in listener.notices)
