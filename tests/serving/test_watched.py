"""What is counted of one model's answers: the same as row by row, whatever the batches and threads, and of bounded
size."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
from kits.metrics import PROBLEMS, head_of, make_rows

from textune.config import TokensSection
from textune.errors import CodeError
from textune.prediction.usual import UsualHead, UsualRows, histogram, length_bounds
from textune.serving.watched import MAX_LABELS, MIN_ROWS, NONE, OTHERS, Watched
from textune.tasks import Decision, shown, with_decision

SECTION = TokensSection(max_length=64)


def usual_of(head: Any, labels: Any, *, none: int = 0, bounds: Any = (0.5, 1.0), rows: int = 200) -> UsualRows:
    scores = histogram(bounds, np.full(rows, 0.7))
    own = UsualHead(name=head.name, decision=head.decision, labels=labels, none=none, scores=scores)
    lengths = histogram(length_bounds(SECTION), np.full(rows, 10))
    return UsualRows(rows=rows, lengths=lengths, heads=(own,))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_answers_are_counted_as_users_see_them(problem: str) -> None:
    _, scores = make_rows(problem, 2, 700, 4)
    head = head_of(problem, 4, () if problem != "binary" else ("no", "yes"))
    if problem == "binary":
        scores = scores[:, :2] / scores[:, :2].sum(axis=1, keepdims=True)
        head = with_decision(head, Decision(temperature=2.0, thresholds=(0.7,), abstain_below=0.55))
    watched, tokens, start = Watched([head], SECTION, None), np.arange(700) % 60 + 2, 0
    while start < len(scores):
        stop = start + 1 + start % 37
        watched.add(tokens[start:stop], {head.name: scores[start:stop]})
        start = stop
    counted = watched.counted()
    seen = shown(head, scores)
    said = Counter[str]()
    for answer in seen.answers:
        names = answer if isinstance(answer, tuple) else () if answer is None else (answer,)
        said.update(str(name) for name in names or (NONE,))
    assert counted.num_rows == sum(counted.lengths.counts) == sum(counted.heads[0].scores.counts) == 700
    assert counted.lengths.sum == tokens.sum()
    assert counted.heads[0].scores.sum == pytest.approx(seen.best_N.sum())
    expected = {} if problem == "regression" else {name: said[name] for name in (*head.labels, NONE)}
    assert counted.heads[0].labels == expected
    assert counted.drifts == []  # nothing is known of usual rows


def test_ten_thousand_classes_are_the_most_frequent_and_the_rest() -> None:
    head = head_of("multiclass", 10_000)
    labels = np.zeros(10_000, int)
    labels[9_000:9_050], labels[7] = 2, 100
    watched = Watched([head], SECTION, usual_of(head, tuple(labels.tolist())))
    scores = np.full((300, 10_000), 1e-6)
    scores[np.arange(300), [7, 9_001, 5_000] * 100] = 0.9
    for row in scores:
        watched.add(np.array([10]), {head.name: row[None]})
    counted = watched.counted()
    own = counted.heads[0].labels
    assert len(own) == MAX_LABELS + 2
    assert (own["class 7"], own["class 9001"], own[OTHERS], own[NONE]) == (100, 100, 100, 0)
    assert sum(own.values()) == 300


def test_drift_waits_for_enough_rows_and_forgets_old_ones() -> None:
    head = head_of("multiclass", 3)
    usual = usual_of(head, (100, 100, 0), bounds=tuple([*np.linspace(0.1, 1, 10)]))
    watched = Watched([head], SECTION, usual, window=200)
    one = np.eye(3) * 0.5 + 0.1

    def give(label: int, num: int) -> None:
        watched.add(np.full(num, 10), {head.name: np.tile(one[label], (num, 1))})

    give(0, MIN_ROWS // 2)
    give(1, MIN_ROWS // 2 - 1)
    assert watched.counted().drifts == []
    give(1, 1)
    found = {seen.what: seen.drift for seen in watched.counted().drifts}
    # Scores are counted in other bins than the usual ones of this file: they are not compared.
    assert set(found) == {"lengths", "labels"}
    assert found["lengths"].distance == found["labels"].distance == 0
    give(2, 200)
    found = {seen.what: seen.drift for seen in watched.counted().drifts}
    assert found["labels"].distance == pytest.approx(1) and found["lengths"].distance == 0
    give(0, 100)
    give(1, 100)
    found = {seen.what: seen.drift for seen in watched.counted().drifts}
    assert found["labels"].distance == 0


def test_labels_of_another_rule_are_not_compared() -> None:
    head = head_of("binary")
    usual = usual_of(head, (100, 100))
    other = with_decision(head, Decision(thresholds=(0.9,)))
    watched = Watched([other], SECTION, usual)
    watched.add(np.full(300, 10), {head.name: np.tile([0.4, 0.6], (300, 1))})
    assert [seen.what for seen in watched.counted().drifts] == ["lengths"]


def test_a_label_that_looks_like_a_group_stays_apart() -> None:
    head = head_of("multilabel", 2, (NONE, OTHERS))
    watched = Watched([head], SECTION, None)
    watched.add(np.array([3, 3]), {head.name: np.array([[0.9, 0.1], [0.1, 0.1]])})
    assert watched.counted().heads[0].labels == {NONE: 1, OTHERS: 0, f"({NONE})": 1}


def test_what_a_task_of_ones_own_refuses_fails_no_other_request(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing:
        """A head whose class decides some rows and not others."""

        def __init__(self) -> None:
            self.head = head_of("binary")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.head, name)

        def decide(self, scores: np.ndarray) -> np.ndarray:
            if (scores[:, 1] > 0.9).any():
                raise CodeError("decide does not know such rows.", hint="Mend it.")
            return self.head.decide(scores)

    head: Any = Refusing()
    watched = Watched([head], SECTION, None)
    watched.add(np.array([5]), {"label": np.array([[0.05, 0.95]])})
    assert watched.counted().num_rows == 1
    assert "decide does not know such rows." in caplog.text
    watched.add(np.array([5]), {"label": np.array([[0.3, 0.7]])})
    assert watched.counted().heads[0].labels == {"no": 0, "yes": 1, NONE: 0}


def test_threads_lose_no_row() -> None:
    head = head_of("multiclass", 3)
    watched = Watched([head], SECTION, usual_of(head, (100, 60, 40)))
    scores = np.array([[0.2, 0.5, 0.3]])

    def give() -> None:
        for _ in range(400):
            watched.add(np.array([5]), {head.name: scores})

    threads = [threading.Thread(target=give) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        counted = watched.counted()
        assert sum(counted.heads[0].labels.values()) == counted.num_rows
    for thread in threads:
        thread.join()
    assert watched.counted().heads[0].labels["class 1"] == watched.counted().num_rows == 2400
