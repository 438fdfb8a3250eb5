"""Rows shared by several processes: each is scored once, and every rank has the bits that one process alone would
have (R6)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from kits import batches
from kits.batches import store_of
from kits.metrics import PROBLEMS, by_the_library, head_of, make_rows, metrics_for, same
from kits.patience import every_day
from kits.predictions import card_of
from kits.ranks import on_ranks
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as library

from textune.batches.layout import NO_PADDING
from textune.batches.store import TokenStore
from textune.errors import ModelError, RanksError
from textune.evaluation import reduction
from textune.evaluation.metrics import compute_metrics
from textune.evaluation.reduction import Reduction
from textune.evaluation.scored import Scored
from textune.model.device import Device
from textune.prediction.scorer import Scorer
from textune.ranks import ALONE, Ranks
from textune.run.report import score_rows
from textune.run.tracking.tracker import SilentTracker

BOUNDS = range(1, 8)
WORLDS = (2, 3, 4)
EVERY_BOUND = pytest.mark.parametrize("every_bound", [False, pytest.param(True, marks=pytest.mark.slow)])
"""Of 40 numbers of rows, each with one bound, or with all of them."""
CPU = Device(torch.device("cpu"), "fp32")


@dataclass
class Rows:
    """A part of n rows whose scores are known, on a model that looks them up."""

    problem: Any
    targets: np.ndarray
    scores: np.ndarray
    store: TokenStore

    def __len__(self) -> int:
        return len(self.targets)


@cache
def rows_of(problem: str, num_rows: int) -> Rows:
    num_classes = 2 if problem == "binary" else 3
    targets, scores = make_rows(problem, num_rows, num_rows, num_classes)
    if problem == "regression":
        scores[::5] = -0.0  # a sum with zero must not lose its sign
    lengths = np.random.default_rng(num_rows).integers(1, 4, num_rows)
    return Rows(problem, targets, scores, store_of(lengths))


class Lookup:
    """In place of a model and its task: the scores of a row are those in the table, whatever stands beside it."""

    layout, pad_id, training, padding, pooling = "packed", 0, False, NO_PADDING, None

    def __init__(self, rows: Rows, names: tuple[str, ...]) -> None:
        self.head = head_of(rows.problem, names=names)
        self.heads = (self.head,)
        self.table = torch.from_numpy(rows.scores)
        self.num_outputs = rows.scores.shape[1] if rows.scores.ndim == 2 else 1
        self.passes: list[list[int]] = []
        self.limit = 1 << 30

    def group_cost(self, dtype: torch.dtype) -> int:
        return 16

    def __call__(self, batch: Any) -> torch.Tensor:
        if batch.num_laid_out > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        self.passes.append(batch.rows.tolist())
        return self.table[torch.from_numpy(batch.rows)]

    def scores(self, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.head.name: logits}


def scorer_of(rows: Rows, ranks: Ranks, bound: int, **options: Any) -> tuple[Scorer, Lookup]:
    names = ("value",) if rows.problem == "regression" else tuple("abc"[: rows.scores.shape[1]])
    card = card_of(problem=rows.problem, names=names, max_length=8)
    lookup: Any = Lookup(rows, names)
    nothing: Any = None
    return Scorer(lookup, nothing, lookup, card, device=CPU, max_tokens=bound, ranks=ranks, **options), lookup


class Progress(SilentTracker):
    """Keeps what progress says."""

    def __init__(self) -> None:
        self.said: list[tuple[int, int]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.said.append((done, total))


def scored_by(scorer: Scorer, rows: Rows, tracker: SilentTracker | None = None, **options: Any) -> Scored:
    chosen, tracker = batches.rows_of(rows.store, rows.targets), tracker or SilentTracker()
    scored = score_rows(
        scorer, chosen, tracker, place=lambda example: f"row {example + 1}", stage="evaluating", **options
    )
    assert scored is not None
    return scored.by_head["label"]


def expected(name: str, rows: Rows) -> float:
    """What scikit-learn (for correlations: scipy) says of all rows."""
    if rows.problem != "regression":
        return by_the_library(name, rows.problem, rows.targets, rows.scores)
    if name in ("pearson", "spearman"):
        constant = len(rows) < 2 or np.ptp(rows.targets) == 0 or np.ptp(rows.scores) == 0
        call = pearsonr if name == "pearson" else spearmanr
        return float("nan") if constant else float(call(rows.targets, rows.scores).statistic)
    call = {
        "mse": library.mean_squared_error,
        "rmse": library.root_mean_squared_error,
        "mae": library.mean_absolute_error,
        "mape": library.mean_absolute_percentage_error,
        "r2": library.r2_score,
    }[name]
    return float(call(rows.targets, rows.scores))


# --- every row once --------------------------------------------------------------------------------------------------


@EVERY_BOUND
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("world", every_day(WORLDS, (3,)))
def test_every_row_counts_once_whatever_the_number_of_ranks(problem: str, world: int, every_bound: bool) -> None:
    for num_rows in range(1, 41):
        rows = rows_of(problem, num_rows)
        whole = scored_by(scorer_of(rows, ALONE, 100)[0], rows)
        for bound in BOUNDS if every_bound else [num_rows % len(BOUNDS) + 1]:

            def work(
                ranks: Ranks, rows: Rows = rows, bound: int = bound
            ) -> tuple[Scored, np.ndarray, list[list[int]]]:
                scorer, lookup = scorer_of(rows, ranks, bound)
                scored = scored_by(scorer, rows)
                passes = list(lookup.passes)
                return scored, scorer.score_store(rows.store)["label"], passes

            results = on_ranks(world, work)
            for scored, scores, _ in results:
                assert same(scored, whole) and same(scores, rows.scores), (num_rows, bound)
            alone, lookup = scorer_of(rows, ALONE, bound)
            scored_by(alone, rows)
            # The same batches as alone, none left out or repeated, and no rank with two more than another.
            assert sorted(batch for *_, passes in results for batch in passes) == sorted(lookup.passes)
            counts = [len(passes) for *_, passes in results]
            assert max(counts) - min(counts) <= 1


@pytest.mark.every_day(1)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_metrics_of_ranks_are_those_of_scikit_learn(problem: Any) -> None:
    for num_rows in range(1, 41, 3):
        rows = rows_of(problem, num_rows)
        bound, world = num_rows % 7 + 1, num_rows % 4 + 1
        scored = on_ranks(world, lambda ranks: scored_by(scorer_of(rows, ranks, bound)[0], rows))[-1]  # noqa: B023
        values = compute_metrics(scored)
        for metric in metrics_for(problem):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's remarks on classes without rows
                wanted = expected(metric.name, rows)
            if metric.name == "average_precision_micro" and not rows.targets.any():
                wanted = np.nan  # where the library says 0
            found = values[metric.name]
            assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12, nan_ok=True), (metric.name, num_rows)


@pytest.mark.parametrize("problem", ["multiclass", "multilabel"])
def test_a_sample_of_scores_is_put_together_too(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "MAX_SCORES", 30)
    monkeypatch.setattr("textune.ranks._NUMBERS_AT_ONCE", 7)
    rows = rows_of(problem, 40)
    whole = scored_by(scorer_of(rows, ALONE, 9)[0], rows)
    assert whole.scores is None and len(whole.ranked) == 10
    for world in WORLDS:
        assert all(
            same(one, whole) for one in on_ranks(world, lambda ranks: scored_by(scorer_of(rows, ranks, 9)[0], rows))
        )


def test_progress_ends_where_all_rows_are_done() -> None:
    rows = rows_of("binary", 40)

    def work(ranks: Ranks) -> list[tuple[int, int]]:
        tracker = Progress()
        scored_by(scorer_of(rows, ranks, 4)[0], rows, tracker)
        return tracker.said

    for said in on_ranks(3, work):
        done = [done for done, _ in said]
        assert {total for _, total in said} == {40}
        assert done == sorted(done) and done.count(40) == 1 and done[0] < 10


def test_rows_that_no_rank_or_two_have_taken_are_noticed_by_all() -> None:
    rows = rows_of("binary", 6)
    shares = {
        "row 5 was scored 0 times on 2 ranks": ([0, 1, 2], [3, 4]),
        "row 2 was scored 2 times": ([0, 1, 2], [2, 3, 4, 5]),
    }
    for message, share in shares.items():

        def work(ranks: Ranks, share: Any = share) -> str:
            taken = Reduction(head_of("binary"), num_rows=6)
            own = np.array(share[ranks.rank])
            taken.add(own, rows.targets[own], rows.scores[own])
            with pytest.raises(ValueError, match="not once") as caught:
                taken.merge(ranks)
            return str(caught.value)

        assert all(message in said for said in on_ranks(2, work))


def test_a_rank_that_fails_ends_the_others() -> None:
    rows = rows_of("multiclass", 20)
    broken = rows.scores.copy()
    broken[11, 1] = np.nan

    def work(ranks: Ranks) -> str:
        table = Rows(rows.problem, rows.targets, broken, rows.store)
        try:
            scored_by(scorer_of(table, ranks, 5)[0], table)
        except RanksError:
            return "lost another"
        except ModelError as error:
            ranks.table.barrier.abort()  # type: ignore[attr-defined]
            return str(error)
        return "nothing"

    said = on_ranks(3, work)
    assert sorted(said)[:2] == ["lost another"] * 2
    assert "not numbers" in sorted(said)[2] and "row 12" in sorted(said)[2]


# --- ranks that share one model's weights ----------------------------------------------------------------------------


@EVERY_BOUND
@pytest.mark.parametrize("world", every_day(WORLDS, (2, 3)))
def test_even_ranks_make_the_same_number_of_passes(world: int, every_bound: bool) -> None:
    for num_rows in range(1, 41):
        rows = rows_of("binary", num_rows)
        whole = scored_by(scorer_of(rows, ALONE, 100)[0], rows)
        for bound in BOUNDS if every_bound else [num_rows % len(BOUNDS) + 1]:

            def work(ranks: Ranks, rows: Rows = rows, bound: int = bound) -> tuple[Scored, int]:
                scorer, lookup = scorer_of(rows, ranks, bound, lockstep=True)
                scored = scored_by(scorer, rows)
                return scored, len(lookup.passes)

            results = on_ranks(world, work)
            assert all(same(scored, whole) for scored, _ in results)
            assert len({passes for _, passes in results}) == 1


def test_where_memory_runs_out_even_ranks_say_what_to_lower() -> None:
    rows = rows_of("binary", 30)

    def work(ranks: Ranks) -> Scored:
        scorer, lookup = scorer_of(rows, ranks, 8, lockstep=True)
        lookup.limit = 6 if ranks.rank == 1 else 100
        return scored_by(scorer, rows)

    with pytest.raises(ModelError, match=r"out of memory .* Lower evaluate.max_tokens = 8"):
        on_ranks(2, work)


def test_where_memory_runs_out_on_one_rank_all_cut_alike_from_the_next_time_on() -> None:
    rows = rows_of("multilabel", 40)
    whole = scored_by(scorer_of(rows, ALONE, 100)[0], rows)

    def work(ranks: Ranks) -> tuple[list[Scored], int, list[str]]:
        scorer, lookup = scorer_of(rows, ranks, 16)
        notices: list[str] = []
        budget = scorer.budget(notices.append)
        lookup.limit = 9 if ranks.rank == 2 else 100
        scored = [scored_by(scorer, rows, budget=budget) for _ in range(3)]
        return scored, budget.max_tokens, notices

    results = on_ranks(3, work)
    assert all(same(one, whole) for scored, _, _ in results for one in scored)
    assert [bound for _, bound, _ in results] == [results[2][1]] * 3 and results[2][1] <= 9
    assert [len(notices) for *_, notices in results] == [0, 0, 1]


def test_no_rows_are_no_passes() -> None:
    rows = rows_of("binary", 5)

    def work(ranks: Ranks) -> tuple[np.ndarray, list[list[int]]]:
        scorer, lookup = scorer_of(rows, ranks, 5, lockstep=True)
        return scorer.score_store(rows.store, np.array([], dtype=np.int64))["label"], lookup.passes

    for scores, passes in on_ranks(3, work):
        assert scores.shape == (0, 2) and passes == []
