"""Two models on the same rows, beside statistics written out or of scipy; and how often a difference is claimed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kits.errors import refused
from kits.evaluated import evaluated, facts, random_set, slicing
from kits.metrics import PROBLEMS, make_rows, same, scored_rows
from kits.severalheads import answered
from scipy import stats

from textune.data.labels.map import LABEL
from textune.errors import RunError
from textune.evaluation import paired, reduction
from textune.evaluation.aligned import align
from textune.evaluation.evaluated import EvaluatedSet
from textune.evaluation.heads import one_head
from textune.evaluation.joint import Resamples
from textune.evaluation.mainmetric import MainMetric
from textune.evaluation.metrics import METRICS, metrics_for
from textune.evaluation.naming import resolve_metric
from textune.evaluation.paired import difference_interval, mcnemar, permutation_test
from textune.evaluation.versus import Versus, adjusted_by_holm, contrast

SIMULATIONS = 200


def two(problem: str, seed: int, num_rows: int = 120, num_classes: int = 3) -> tuple[EvaluatedSet, EvaluatedSet]:
    """Two models of the same rows: the second answers other things."""
    classes = 2 if problem == "binary" else num_classes
    targets, scores = make_rows(problem, seed, num_rows, classes)
    _, others = make_rows(problem, seed + 1000, num_rows, classes)
    return tuple(evaluated(scored_rows(problem, targets, one)) for one in (scores, others))  # type: ignore[return-value]


# --- the statistics, beside others -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("only_one", "only_other"), [(0, 0), (1, 0), (3, 9), (10, 10), (40, 71), (500, 430), (7, 0)])
def test_mcnemar_is_the_binomial_test_with_half_of_what_was_seen(only_one: int, only_other: int) -> None:
    total = only_one + only_other
    if not total:
        assert mcnemar(only_one, only_other) == 1.0
        return
    exact = stats.binomtest(only_one, total, 0.5).pvalue
    expected = exact - stats.binom.pmf(min(only_one, only_other), total, 0.5) if only_one != only_other else 1.0
    assert mcnemar(only_one, only_other) == mcnemar(only_other, only_one) == pytest.approx(expected, rel=1e-9)


def test_a_permutation_test_of_means_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=60)
    sides = [targets + random.normal(size=60), targets + random.normal(scale=1.25, size=60)]
    one, other = (one_head(scored_rows("regression", targets, side)) for side in sides)
    found = permutation_test(resolve_metric("mae", one.heads), one, other)
    errors = [np.abs(side - targets) for side in sides]
    expected = stats.permutation_test(
        errors, lambda x, y: x.mean() - y.mean(), permutation_type="samples", n_resamples=20_000, rng=1
    ).pvalue
    assert found is not None and found.exchanges == 999 and 0.02 < expected < 0.9
    assert abs(found.p_value - expected) < 4 * np.sqrt(expected * (1 - expected) / 999)


def test_few_rows_have_the_p_value_of_all_exchanges() -> None:
    """Of seven rows: all 128 exchanges written out, of a metric that is no mean."""
    targets = np.array([0, 1, 1, 0, 1, 0, 1])
    sides = [np.array([0, 1, 1, 0, 1, 1, 1]), np.array([1, 0, 1, 0, 0, 0, 1])]
    one, other = (one_head(scored_rows("binary", targets, np.eye(2)[side])) for side in sides)
    main = resolve_metric("f1", one.heads)

    def f1(answers: np.ndarray) -> float:
        right = (answers & targets).sum()
        return float(2 * right / max(1, answers.sum() + targets.sum()))

    seen, as_large = f1(sides[0]) - f1(sides[1]), 0
    for code in range(128):
        swapped = (code >> np.arange(7)) & 1 == 1
        mixed = [np.where(swapped, sides[1 - side], sides[side]) for side in (0, 1)]
        as_large += abs(f1(mixed[0]) - f1(mixed[1])) >= abs(seen) - 1e-12
    found = permutation_test(main, one, other)
    assert found is not None
    assert abs(found.p_value - as_large / 128) < 4 * np.sqrt(0.25 / 999)


@pytest.mark.parametrize("name", ["f1_macro", "mcc", "f1_samples"])
def test_cells_give_the_p_value_of_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions are exchanged cell by cell: the same test as row by row, by other draws."""
    problem = "multilabel" if name == "f1_samples" else "multiclass"
    one, other = (of.scored for of in two(problem, 5, 200))
    metric = METRICS[name]
    by_cells = permutation_test(MainMetric(name, {LABEL: metric}), one, other)
    in_rows = replace(metric, uses="scores")
    by_rows = permutation_test(MainMetric(name, {LABEL: in_rows}), one, other)
    assert by_cells is not None and by_rows is not None
    assert abs(by_cells.p_value - by_rows.p_value) < 6 * np.sqrt(0.25 / 999)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_interval_is_that_of_a_plain_paired_bootstrap(problem: str) -> None:
    first, other = two(problem, 8, 300)
    found = contrast(first, other, first.main).main
    metric = first.main.by_head[LABEL]
    mine, theirs = (one.scored.by_head[LABEL] for one in (first, other))
    random, values = np.random.default_rng(9), []
    for _ in range(500):
        rows = random.integers(0, 300, 300)
        values.append(metric.function(theirs.take(rows)) - metric.function(mine.take(rows)))
    lower, upper = np.quantile(values, (0.025, 0.975))
    assert found.difference == pytest.approx(metric.of(theirs) - metric.of(mine))
    assert found.interval is not None
    width = upper - lower
    assert abs(found.interval[0] - lower) < 0.25 * width and abs(found.interval[1] - upper) < 0.25 * width


def test_holm_as_written_out() -> None:
    base = contrast(*two("binary", 0, 40), main=resolve_metric("auto", random_set("binary").scored.heads), samples=0)
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9, None]
    found = adjusted_by_holm([replace(base, p_value=value) for value in p_values])
    assert [one.adjusted for one in found] == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9, None])
    assert [one.differs for one in found] == [True, False, False, True, False, False]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_metric_and_slice_is_that_of_each_model(problem: str) -> None:
    first, other = two(problem, 2, 150)
    known = facts(150, slicings=(slicing(150, "a", "b"),))
    first, other = (replace(one, facts=known) for one in (first, other))
    found = contrast(first, other, first.main, samples=0)
    mine, theirs = (one.scored.by_head[LABEL] for one in (first, other))
    for one in (found.main, *found.metrics):
        metric = METRICS[one.metric]
        assert one.first == pytest.approx(metric.of(mine), nan_ok=True)
        assert one.other == pytest.approx(metric.of(theirs), nan_ok=True)
    assert {one.metric for one in (found.main, *found.metrics)} == {one.name for one in metrics_for(mine.answers)}
    assert found.num_changed == int((mine.predictions != theirs.predictions).reshape(150, -1).any(axis=1).sum())
    of_a = np.flatnonzero(known.slicings[0].slice_N == 0)
    (by_a,) = [one for one in found.slices if (one.column, one.name) == ("source", "a")]
    assert by_a.num_rows == len(of_a)
    assert by_a.main.first == pytest.approx(first.main.by_head[LABEL].of(mine.take(of_a)), nan_ok=True)
    if mine.answers.choices is not None:
        (agreement,) = found.agreement
        assert agreement.both + agreement.only_first == int(mine.right.sum())
        assert agreement.both + agreement.only_other == int(theirs.right.sum())
        assert agreement.p_value == mcnemar(agreement.only_first, agreement.only_other)


def test_several_heads_are_exchanged_together() -> None:
    rows = answered(120, 1)
    better = answered(120, 1, skill=4.0)._replace(targets=rows.targets)
    first, other = evaluated(rows.scored()), evaluated(better.scored())
    found = contrast(first, other, first.main)
    assert {one.head for one in found.agreement} == {"tone", "urgent", "topic"}
    assert found.p_value is not None and found.test.startswith("paired permutation") and found.main.interval
    assert found.main.difference == pytest.approx(other.main.of(other.scored) - first.main.of(first.scored))


@pytest.mark.slow
def test_scores_of_a_sample_are_compared_on_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reduction, "MAX_SCORES", 150)
    first, other = two("multiclass", 4, 200)
    assert first.scored.by_head[LABEL].sample is not None
    monkeypatch.setattr(reduction, "MAX_SCORES", 1 << 20)
    _, whole = two("multiclass", 4, 200)
    main = resolve_metric("roc_auc", first.scored.heads)
    sampled, mixed = (contrast(first, one, main, samples=50) for one in (other, whole))
    assert sampled.main == mixed.main and sampled.p_value == mixed.p_value is not None


def test_too_much_work_is_done_on_some_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "MAX_PERMUTED", 199 * (8000 + 2 * 100))
    first, other = two("regression", 1, 400)
    found = contrast(first, other, first.main, samples=0)
    assert found.notes and "100 of 400" in found.notes[0] and "199" in found.test


# --- how often a difference is claimed ------------------------------------------------------------------------------


def simulated(problem: str, random: np.random.Generator, gain: float) -> tuple[EvaluatedSet, EvaluatedSet]:
    """Two models with errors of their own on rows that are hard or easy for both; the second knows `gain` more."""
    num = 150
    hard = random.normal(size=num)
    if problem == "regression":
        targets = random.normal(size=num)
        sides = [targets + hard * random.normal(size=num) * (1 - more) for more in (0.0, gain)]
        return tuple(evaluated(scored_rows(problem, targets, side)) for side in sides)  # type: ignore[return-value]
    targets = random.integers(0, 2, num)
    sides = []
    for more in (0.0, gain):
        logit = (2 * targets - 1) * (0.8 + more) + hard + random.normal(size=num)
        second = 1 / (1 + np.exp(-logit))
        sides.append(np.stack([1 - second, second], axis=1))
    return tuple(evaluated(scored_rows("binary", targets, side)) for side in sides)  # type: ignore[return-value]


def claims(problem: str, metric: str, gain: float) -> int:
    """In how many of the simulations the models are said to differ."""
    random, found = np.random.default_rng(11), 0
    for _ in range(SIMULATIONS):
        first, other = simulated(problem, random, gain)
        main = resolve_metric(metric, first.scored.heads)
        found += contrast_quickly(first, other, main).differs
    return found


def contrast_quickly(first: EvaluatedSet, other: EvaluatedSet, main: MainMetric) -> Versus:
    return contrast(first, other, main, samples=0)


CASES = [("binary", "accuracy"), ("binary", "f1"), ("binary", "roc_auc"), ("regression", "mae")]


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "metric"), CASES)
def test_equal_models_are_said_to_differ_once_in_twenty_times(problem: str, metric: str) -> None:
    low, high = stats.binom.ppf([0.0005, 0.9995], SIMULATIONS, 0.05)
    assert low <= claims(problem, metric, 0.0) <= high


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "metric"), CASES)
def test_models_that_differ_are_found(problem: str, metric: str) -> None:
    assert claims(problem, metric, 0.9) > 0.8 * SIMULATIONS


@pytest.mark.slow
def test_the_interval_of_the_difference_covers_it() -> None:
    """Of equal models: 0 lies outside one in twenty times."""
    random, outside = np.random.default_rng(12), 0
    for _ in range(SIMULATIONS):
        first, other = simulated("binary", random, 0.0)
        mine, theirs = (first.main.of(one.scored) for one in (first, other))
        found = difference_interval(first.main, other.scored, first.scored, theirs - mine, Resamples(300, 0))
        assert found.limits is not None
        outside += not found.limits[0] <= 0 <= found.limits[1]
    low, high = stats.binom.ppf([0.0005, 0.9995], SIMULATIONS, 0.05)
    assert low <= outside <= high


# --- the same rows ---------------------------------------------------------------------------------------------------


def shuffled(one: EvaluatedSet, seed: int = 0) -> EvaluatedSet:
    return replace(one.take(np.random.default_rng(seed).permutation(len(one))), fingerprint="another")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_rows_in_another_order_are_found_by_their_texts(problem: str) -> None:
    first, other = two(problem, 6, 90)
    twice = np.arange(90)
    twice[80:] = np.arange(10)  # ten rows have the text of earlier ones, with the label of these
    first, other = (replace(one, facts=replace(one.facts, content=one.facts.content[twice])) for one in (first, other))
    for one in (first, other):
        one.scored.by_head[LABEL].targets[80:] = one.scored.by_head[LABEL].targets[:10]
    found = align([first, shuffled(other)], ["a", "b"])[1]
    assert same(found.facts.content, other.facts.content) and same(
        found.scored.by_head[LABEL].targets, other.scored.by_head[LABEL].targets
    )
    alike = np.arange(10, 80)
    assert same(found.scored.by_head[LABEL].predictions[alike], other.scored.by_head[LABEL].predictions[alike])


def test_labels_in_another_order_mean_the_same() -> None:
    targets, scores = make_rows("multiclass", 3, 80, 3)
    turned = np.array([2, 0, 1])
    first = evaluated(scored_rows("multiclass", targets, scores, ("x", "y", "z")))
    back = np.argsort(turned)
    other = evaluated(scored_rows("multiclass", turned[targets], scores[:, back], ("y", "z", "x")))
    found = align([first, other], ["a", "b"])[1].scored.by_head[LABEL]
    mine = first.scored.by_head[LABEL]
    assert all(same(getattr(found, name), getattr(mine, name)) for name in ("targets", "scores", "loss"))
    assert contrast(first, align([first, other], ["a", "b"])[1], first.main, samples=0).num_changed == int(
        (found.predictions != mine.predictions).sum()
    )
    sets, given = make_rows("multilabel", 3, 40, 3)
    first = evaluated(scored_rows("multilabel", sets, given, ("x", "y", "z")))
    other = evaluated(scored_rows("multilabel", sets[:, back], given[:, back], ("y", "z", "x")))
    found = align([first, other], ["a", "b"])[1].scored.by_head[LABEL]
    for name in ("targets", "predictions", "scores"):
        assert same(getattr(found, name), getattr(first.scored.by_head[LABEL], name)), name


def test_other_rows_are_refused_with_how_many_and_the_first() -> None:
    first, other = two("binary", 1, 60)
    fewer = other.take(np.delete(np.arange(60), [7, 30]))
    with refused(RunError, key="runs", value="b", reason="2 rows"):
        align([first, fewer], ["a", "b"])
    mine, theirs = align([first, fewer], ["a", "b"], common=True)
    assert len(mine) == len(theirs) == 58 and same(mine.facts.row, theirs.facts.row) and 14 not in mine.facts.row
    nothing = replace(other, facts=replace(other.facts, content=other.facts.content + np.uint64(1)), fingerprint="x")
    with refused(RunError, key="runs", reason="no row"):
        align([first, nothing], ["a", "b"], common=True)


def test_other_labels_are_refused() -> None:
    first, other = two("multiclass", 1, 60)
    moved = other.scored.by_head[LABEL].targets.copy()
    moved[[3, 9]] = (moved[[3, 9]] + 1) % 3
    relabelled = replace(other, scored=one_head(replace(other.scored.by_head[LABEL], targets=moved)))
    with refused(RunError, key="runs", value="b", place="row 7", reason="2 rows"):
        align([first, relabelled], ["a", "b"])
    with refused(RunError, key="runs", value="b", reason="regression"):
        align([first, two("regression", 1, 60)[0]], ["a", "b"])
    named = evaluated(scored_rows("multiclass", *make_rows("multiclass", 1, 60, 3), ("class 0", "class 1", "other")))
    with refused(RunError, key="runs", value="b", reason="other"):
        align([first, named], ["a", "b"])
