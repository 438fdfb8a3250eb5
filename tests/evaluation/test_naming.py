"""What a metric may be called: by its name, by those of other libraries, and several in a list, whose mean it is."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused
from kits.metrics import by_the_library, head_of, make_rows, scored_rows
from scipy import stats
from sklearn import metrics as library

from textune.errors import ConfigError
from textune.evaluation import reduction
from textune.evaluation.intervals import confidence_interval
from textune.evaluation.metrics import METRICS, Metric, compute_metrics, metric_called
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.naming import BY_OTHER_NAME, resolve_metric
from textune.evaluation.render.json import read_report, render
from textune.evaluation.render.markdown import render as as_page
from textune.evaluation.report import build_report
from textune.evaluation.scored import Scored


def resolve(wanted: Any, problem: str = "binary") -> Metric:
    return resolve_metric(wanted, [head_of(problem)]).by_head["label"]


# --- names of other libraries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "problem", "ours"),
    [
        ("eval_loss", "binary", "loss"),  # transformers
        ("val_loss", "regression", "loss"),  # Keras, Lightning
        ("eval_accuracy", "multiclass", "accuracy"),
        ("val/acc", "binary", "accuracy"),
        ("matthews_correlation", "binary", "mcc"),  # evaluate
        ("matthews_corr_coef", "multiclass", "mcc"),  # torchmetrics
        ("matthews_corrcoef", "binary", "mcc"),  # scikit-learn
        ("pearsonr", "regression", "pearson"),
        ("spearmanr", "regression", "spearman"),
        ("f1_score", "binary", "f1"),
        ("F1", "binary", "f1"),
        ("f0.5", "binary", "f_half"),
        ("f_half_score", "binary", "f_half"),
        ("f1_score_macro", "multiclass", "f1_macro"),  # Azure ML
        ("macro_f1", "multilabel", "f1_macro"),
        ("weighted f1", "multiclass", "f1_weighted"),
        ("precision-score-macro", "multiclass", "precision_macro"),
        ("AUC_macro", "multiclass", "roc_auc"),
        ("auroc", "binary", "roc_auc"),
        ("roc_auc_score", "binary", "roc_auc"),
        ("average_precision_score", "binary", "average_precision"),
        ("root_mean_squared_error", "regression", "rmse"),
        ("mean_absolute_percentage_error", "regression", "mape"),
        ("r2_score", "regression", "r2"),
        ("exact_match", "multilabel", "subset_accuracy"),
        ("mse", "regression", "mse"),
        ("auto", "multilabel", "f1_micro"),
    ],
)
@pytest.mark.parity("HF-09")
def test_a_name_of_another_library_is_understood(other: str, problem: str, ours: str) -> None:
    assert resolve(other, problem) is METRICS[ours]


def test_every_other_name_leads_to_a_metric_and_hides_none() -> None:
    assert set(BY_OTHER_NAME.values()) <= set(METRICS)
    assert not set(BY_OTHER_NAME) & set(METRICS)


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel", "regression"])
def test_what_scikit_learn_and_scipy_call_it_has_their_value(problem: str) -> None:
    """Every name that is a function there gives what that function gives."""
    targets, scores = make_rows(problem, 5, 60, 2 if problem == "binary" else 4)
    scored, checked = scored_rows(problem, targets, scores), 0
    for name, ours in BY_OTHER_NAME.items():
        if not hasattr(library, name) and not hasattr(stats, name):
            continue
        if ours not in scored.answers.measures.names:
            continue
        value = resolve_metric(name, [scored.head]).by_head["label"].of(scored)
        if problem != "regression":
            wanted = by_the_library(ours, problem, targets, scores)
        elif hasattr(stats, name):
            wanted = getattr(stats, name)(targets, scores).statistic
        else:
            wanted = getattr(library, name)(targets, scores)
        assert value == pytest.approx(wanted, rel=1e-9), name
        checked += 1
    assert checked >= {"multiclass": 5, "multilabel": 2}.get(problem, 6)


# --- names that are refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem", "reason", "suggestion"),
    [
        ("f1", "multiclass", "a metric for binary problems", "Did you mean f1_macro, f1_micro or f1_weighted?"),
        ("f1_score", "multiclass", "a metric for binary", "Did you mean f1_macro, f1_micro or f1_weighted?"),
        ("f1_samples", "multiclass", "a metric for multilabel", "Did you mean f1_macro, f1_micro or f1_weighted?"),
        ("acuracy", "binary", "there is no such metric", "Did you mean accuracy"),
        ("acc", "multilabel", "a metric for binary and multiclass", "subset_accuracy"),
        ("pr_auc", "binary", "another number elsewhere", "Did you mean average_precision?"),
        ("cross_entropy", "multiclass", "another number elsewhere", "Did you mean loss or log_loss?"),
        ("neg_log_loss", "binary", "another number elsewhere", "Did you mean log_loss?"),
        ("neg_mean_squared_error", "regression", "another number elsewhere", "Did you mean mse?"),
        ("correlation", "regression", "another number elsewhere", "Did you mean pearson or spearman?"),
        ("fbeta_score", "multiclass", "another number elsewhere", "Did you mean f1_macro, f1_micro or f1_weighted?"),
        ("AUC_weighted", "multiclass", "another number elsewhere", "Did you mean roc_auc?"),
        ("combined_score", "binary", "another number elsewhere", 'a list, such as ["accuracy", "balanced_accuracy"]'),
        ("f1,accuracy", "binary", "no such metric", "mean_of_accuracy_and_balanced_accuracy"),
        ("pearson", "binary", "a metric for regression problems", "Metrics for binary: auto, accuracy,"),
        ("accuracy", "regression", "for binary and multiclass", "Metrics for regression: auto, pearson,"),
        ("", "binary", "there is no such metric", "Metrics for binary"),
    ],
)
def test_a_wrong_name_is_told_what_to_write(name: str, problem: Any, reason: str, suggestion: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(name, problem)
    assert (caught.value.key, caught.value.value) == ("evaluate.metric", name)
    assert caught.value.message.startswith(f'evaluate.metric = "{name}": ')
    assert reason in caught.value.message
    assert suggestion in caught.value.hint


@pytest.mark.parametrize(
    ("wanted", "value", "reason"),
    [
        (["f1", "nonsense"], "nonsense", "no such metric"),
        (["accuracy", "log_loss"], ["accuracy", "log_loss"], "of accuracy more is better, of log_loss less"),
        (["accuracy", "loss"], ["accuracy", "loss"], "their mean says nothing"),
        (["acc", "f1", "accuracy"], ["acc", "f1", "accuracy"], "accuracy twice"),
        ([], [], "names no metric"),
        (5, 5, "neither the name of a metric"),
        (["f1", 5], ["f1", 5], "neither the name of a metric"),
    ],
)
def test_a_list_without_a_mean_is_refused(wanted: Any, value: Any, reason: str) -> None:
    with refused(ConfigError, key="evaluate.metric", value=value, reason=reason):
        resolve(wanted)


# --- the mean of several ---------------------------------------------------------------------------------------------


def rows(seed: int = 3, num_rows: int = 300) -> tuple[np.ndarray, np.ndarray, Scored]:
    random = np.random.default_rng(seed)
    targets = (random.random(num_rows) < 0.4).astype(np.int64)
    positive = 1 / (1 + np.exp(1 - 2 * targets - random.normal(size=num_rows)))
    scores = np.stack([1 - positive, positive], axis=1)
    return targets, scores, scored_rows("binary", targets, scores)


@pytest.mark.parity("HF-09")
def test_a_list_is_the_mean_as_in_glue() -> None:
    targets, scores, scored = rows()
    metric = resolve(["f1", "acc"])
    assert (metric.name, metric.higher_is_better, metric.uses) == ("mean_of_f1_and_accuracy", True, "decisions")
    answers = scores.argmax(axis=1)
    wanted = (library.f1_score(targets, answers) + library.accuracy_score(targets, answers)) / 2
    assert metric.of(scored) == pytest.approx(wanted, rel=1e-12)
    assert compute_metrics(scored, metric) == {**compute_metrics(scored), metric.name: metric.of(scored)}
    number, said = (
        resolve(["pearson", "spearman"], "regression"),
        scored_rows("regression", *make_rows("regression", 1, 50, 1)),
    )
    assert number.uses == "ranks"
    assert number.of(said) == pytest.approx((METRICS["pearson"].of(said) + METRICS["spearman"].of(said)) / 2)


def test_a_list_of_one_is_that_metric_and_the_name_of_a_mean_is_the_mean() -> None:
    assert resolve(["f1_score"]) is METRICS["f1"]
    for again in (resolve("mean_of_f1_and_accuracy"), metric_called("mean_of_f1_and_accuracy")):
        assert [part.name for part in again.parts] == ["f1", "accuracy"]
    assert resolve(["loss", "brier"]).needs_losses and not resolve(["f1", "mcc"]).needs_losses
    with refused(ConfigError, value="nonsense"):
        resolve("mean_of_f1_and_nonsense")


def test_a_mean_is_undefined_where_a_part_is() -> None:
    scored = scored_rows("binary", np.zeros(4, dtype=np.int64), np.full((4, 2), 0.5))
    metric = resolve(["accuracy", "roc_auc"])
    assert math.isnan(metric.of(scored))
    report = build_report(scored, EvaluatedRows(["text"] * 4), metric=metric)
    assert any(note.startswith(f"{metric.name} is undefined here: one of them is") for note in report.notes)


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("wanted", "method"),
    [
        (["f1", "accuracy"], "Dirichlet"),
        (["accuracy", "roc_auc"], "BCa bootstrap"),
        (["log_loss", "brier"], "BCa bootstrap"),
    ],
)
def test_the_interval_of_a_mean_is_that_of_its_own_values(wanted: list[str], method: str) -> None:
    """Beside a plain bootstrap of the rows, with all parts on the same resample."""
    targets, scores, scored = rows()
    found = confidence_interval(resolve(wanted), scored, samples=600)
    assert found.method == method and found.limits is not None
    random, values = np.random.default_rng(1), []
    for _ in range(600):
        drawn = random.integers(0, len(targets), len(targets))
        of_drawn = compute_metrics(scored_rows("binary", targets[drawn], scores[drawn]))
        values.append(sum(of_drawn[name] for name in wanted) / 2)
    width = np.diff(np.quantile(values, (0.025, 0.975)))[0]
    assert found.limits == pytest.approx(np.quantile(values, (0.025, 0.975)), abs=0.2 * width)


def test_a_mean_with_a_part_that_ranks_is_resampled_on_the_ranked_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of decisions are measured on all rows, so the limits lie around that value."""
    monkeypatch.setattr(reduction, "MAX_SCORES", 3 * 200)
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 1000)
    scores = random.random((1000, 3)) + 0.4 * (targets[:, None] == np.arange(3))
    scored = scored_rows("multiclass", targets, scores / scores.sum(axis=1, keepdims=True))
    assert len(scored.ranked) == 200
    metric = resolve(["accuracy", "roc_auc"], "multiclass")
    assert metric.of(scored) == (METRICS["accuracy"].of(scored) + METRICS["roc_auc"].of(scored)) / 2
    found = confidence_interval(metric, scored, samples=200).limits
    assert found is not None and found[0] < metric.of(scored) < found[1]


def test_a_mean_of_few_rows_has_the_reason_of_its_part() -> None:
    targets = np.array([0, 1, 0, 1, 0, 1])
    scored = scored_rows("binary", targets, np.stack([1 - 0.8 * targets, 0.8 * targets], axis=1))
    assert "every row is right" in confidence_interval(resolve(["accuracy", "roc_auc"]), scored).reason


def test_a_report_on_a_mean_has_its_baseline_and_is_read_again(tmp_path: Any) -> None:
    targets, _, scored = rows()
    metric = resolve(["f1", "accuracy"])
    report = build_report(scored, EvaluatedRows(["text"] * len(targets)), metric=metric, bootstrap=50)
    share = max(targets.mean(), 1 - targets.mean())
    assert report.baseline.value == pytest.approx(share / 2)  # no row is answered with the second class: F1 is 0
    assert report.baseline.beaten
    tree = report.to_dict()
    assert tree["main"]["metric"] == "mean_of_f1_and_accuracy" and tree["main"]["higher_is_better"] is True
    assert tree["metrics"]["mean_of_f1_and_accuracy"] == report.value
    (tmp_path / "report.json").write_text(render(report), encoding="utf-8")
    again = read_report(tmp_path / "report.json")
    assert again == report
    assert f"| mean_of_f1_and_accuracy | {report.value:.4f} | mean of f1 and accuracy |" in as_page(again)


def test_the_page_lists_every_metric() -> None:
    """docs/evaluation.md, by kind of task."""
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^- \*\*([a-z, ]+)\*\*: ([a-z0-9_, \n]+)$", page, flags=re.MULTILINE)
    listed = {kind: " ".join(names.split()).split(", ") for kind, names in rows}
    names = {
        problem: list(head_of(problem).answers.measures.names)
        for problem in ("binary", "multiclass", "multilabel", "regression", "language")
    }
    assert listed == {
        "binary, multiclass": names["multiclass"],
        "binary, in addition": [name for name in names["binary"] if name not in names["multiclass"]],
        "multilabel": names["multilabel"],
        "regression": names["regression"],
        "language models": names["language"],
        "any task": ["loss"],
    }
    for other in re.findall(
        r"`([a-z0-9_.]+)`", page.partition("**Names of other libraries**")[2].partition("A prefix")[0]
    ):
        assert BY_OTHER_NAME.get(other) or other.endswith("_loss"), other
