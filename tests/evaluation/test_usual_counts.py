"""What validation rows looked like: counted in arrays as row by row, kept without a text, read back or refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.evaluated import evaluated, random_set
from kits.metrics import PROBLEMS, head_of

from textune.config import TokensSection
from textune.errors import RunError
from textune.evaluation import usual_rows
from textune.evaluation.heads import ScoredRows, one_head
from textune.evaluation.reduction import scored_rows
from textune.prediction.usual import (
    PROBABILITIES,
    USUAL_NAME,
    Histogram,
    UsualRows,
    given,
    histogram,
    length_bounds,
    read_usual,
    write_usual,
)
from textune.tasks import Decision, shown, with_decision

TOKENS = TokensSection(max_length=100)
LENGTHS = np.random.default_rng(0).integers(1, 101, 80)
RULES = {
    "binary": Decision(temperature=1.7, thresholds=(0.3,), abstain_below=0.6),
    "multiclass": Decision(temperature=0.6, abstain_below=(0.5, 0.2, 0.9, 0.4)),
    "multilabel": Decision(temperature=1.3, thresholds=(0.2, 0.9, 0.5, 0.6)),
    "regression": Decision(),
}


def in_a_loop(bounds: Any, numbers: Any) -> list[int]:
    """How many numbers are at most each bound and above the one before; the last are above all."""
    counts = [0] * (len(bounds) + 1)
    for number in numbers:
        counts[sum(number > bound for bound in bounds)] += 1
    return counts


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("decided", [False, True], ids=["usual rule", "own rule"])
def test_rows_are_counted_as_users_see_them(problem: str, decided: bool) -> None:
    known = random_set(problem, seed=3, num_rows=80, num_classes=4)
    rows = known.scored.by_head["label"]
    scores = rows.predictions if problem == "regression" else rows.scores
    assert scores is not None
    head = with_decision(rows.head, RULES[problem]) if decided else rows.head
    if decided:
        known = replace(known, scored=one_head(scored_rows(head, _targets(problem, rows), scores)))
    usual = usual_rows(known, LENGTHS[: len(known)], TOKENS)
    assert usual is not None
    assert usual.rows == 80
    (own,) = usual.heads
    seen = shown(head, scores)
    said = Counter[str | None]()
    for answer in seen.answers:
        for name in (answer or (None,)) if isinstance(answer, tuple) else (answer,):
            said[name if isinstance(name, str) else None] += 1
    if problem == "regression":
        assert (own.labels, own.none) == ((), 0)
        assert max(own.scores.counts) - min(own.scores.counts) <= 80 // 2  # tenths, but for ties
    else:
        assert own.labels == tuple(said[name] for name in head.labels)
        assert own.none == said[None]
        assert own.scores.bounds == PROBABILITIES
    assert list(own.scores.counts) == in_a_loop(own.scores.bounds, seen.best_N)
    assert list(usual.lengths.counts) == in_a_loop(usual.lengths.bounds, LENGTHS)
    assert usual.of(head) == own
    if problem != "regression":  # which has no rule
        assert usual.of(with_decision(head, Decision(temperature=3.0))) is None


def _targets(problem: str, rows: Any) -> np.ndarray:
    if problem == "multilabel":
        return np.unpackbits(rows.targets, axis=1, count=4)
    return np.asarray(rows.targets)


def test_several_heads_count_their_own_rows() -> None:
    one, other = (random_set("multiclass", seed=seed, num_rows=50).scored.by_head["label"] for seed in (1, 2))
    part = replace(other.take(np.arange(0, 50, 2)), rows=np.arange(0, 50, 2))
    several = ScoredRows((one.head, replace(other.head, name="tone")), 50, {"label": one, "tone": part})
    usual = usual_rows(evaluated(several), LENGTHS[:50], TOKENS)
    assert usual is not None
    assert [(head.name, sum(head.labels) + head.none) for head in usual.heads] == [("label", 50), ("tone", 25)]


def test_a_sample_counts_where_not_all_scores_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.evaluation.reduction.MAX_SCORES", 80)
    usual = usual_rows(random_set("multiclass", num_rows=60), LENGTHS[:60], TOKENS)
    assert usual is not None
    assert usual.rows == sum(usual.lengths.counts) == 60
    assert sum(usual.heads[0].labels) == sum(usual.heads[0].scores.counts) == 20


def test_answers_of_no_rows_are_none() -> None:
    for problem in PROBLEMS:
        head = head_of(problem, 3)
        seen = given(head, np.zeros((0,) if problem == "regression" else (0, len(head.labels))))
        assert not len(seen.row_G) and not len(seen.score_N)


def test_lengths_end_at_the_longest_row_that_is_read() -> None:
    assert length_bounds(TOKENS) == (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 100)
    windows = TokensSection(max_length=100, long="windows", max_windows=8)
    assert length_bounds(windows)[-1] == 65536
    assert histogram((1.0, 2.0), np.array([0.5, 1.0, 1.5, 9.0])).counts == (2, 1, 1)


def test_a_file_says_the_same_and_holds_no_text(tmp_path: Path) -> None:
    known = random_set("multilabel")
    usual = usual_rows(known, LENGTHS[: len(known)], TOKENS)
    assert usual is not None
    write_usual(usual, tmp_path)
    assert read_usual(tmp_path) == usual
    text = (tmp_path / USUAL_NAME).read_text()
    assert "label 0" not in text and known.dataset not in text
    assert read_usual(tmp_path / "nowhere") is None


def test_another_version_or_a_damaged_file_is_refused(tmp_path: Path) -> None:
    usual = usual_rows(random_set("binary"), LENGTHS, TOKENS)
    assert usual is not None
    path = tmp_path / USUAL_NAME
    good = json.loads(usual.model_dump_json())
    lengths = good["lengths"]
    for bad, said in (
        (good | {"version": 2, "new": 1}, "later version"),
        (good | {"rows": 0}, "damaged: rows"),
        (good | {"lengths": lengths | {"counts": [1]}}, "damaged: lengths"),
        (good | {"lengths": lengths | {"bounds": lengths["bounds"][::-1]}}, "ascend"),
        ([], "damaged"),
        ("{", "damaged"),
    ):
        path.write_text(bad if isinstance(bad, str) else json.dumps(bad), encoding="utf-8")
        with pytest.raises(RunError, match=said) as caught:
            read_usual(tmp_path)
        assert caught.value.place == str(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match="damaged"):
        read_usual(tmp_path)


def test_labels_of_another_model_are_not_compared() -> None:
    usual = UsualRows(
        rows=1,
        lengths=Histogram(bounds=(1.0,), counts=(1, 0)),
        heads=({"name": "label", "decision": {}, "labels": (1, 0), "scores": {"bounds": (1.0,), "counts": (1, 0)}},),
    )
    assert usual.of(head_of("binary")) is not None
    assert usual.of(head_of("multiclass", 3)) is None
