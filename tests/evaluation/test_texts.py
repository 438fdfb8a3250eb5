"""Language models: metrics from sums, documents of several chunks, intervals over documents, and how reports read."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused
from kits.metrics import head_of, same
from kits.ranks import on_ranks
from rich.console import Console

from textune.data.labels.map import LABEL
from textune.errors import ConfigError, DataError
from textune.evaluation.heads import ScoredRows, TaskReduction
from textune.evaluation.intervals import confidence_interval
from textune.evaluation.metrics import METRICS, compute_metrics
from textune.evaluation.mistakes import EvaluatedRows
from textune.evaluation.naming import resolve_metric
from textune.evaluation.reduction import RowLosses, scored_rows
from textune.evaluation.render import console, json, markdown
from textune.evaluation.report import Report, build_report
from textune.evaluation.scored import Scored
from textune.ranks import Ranks

HEAD = head_of("language", names=("text",))


def scored_of(nats: Any, tokens: Any, characters: Any = None, num_bytes: Any = None) -> Scored:
    tokens = np.asarray(tokens)
    characters = tokens if characters is None else np.asarray(characters)
    num_bytes = characters if num_bytes is None else np.asarray(num_bytes)
    return scored_rows(HEAD, np.stack([tokens, characters, num_bytes], axis=1), np.asarray(nats, np.float64))


def random_scored(seed: int, num_rows: int) -> Scored:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 400, num_rows)
    characters = tokens * rng.integers(2, 6, num_rows)
    return scored_of(
        tokens * rng.normal(3, 0.5, num_rows), tokens, characters, characters + rng.integers(0, 9, num_rows)
    )


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_perplexity_counts_every_token_alike() -> None:
    """Losses of 1 and 3 with 3 tokens and 1: exp(1.5), not the mean of their perplexities nor exp of their mean."""
    values = compute_metrics(scored_of([3.0, 3.0], [3, 1]))
    assert values["perplexity"] == math.exp(1.5) == pytest.approx(4.4817, abs=1e-4)


@pytest.mark.parametrize("size", [2, 256, 50_257])
def test_a_uniform_model_needs_exactly_the_bits_of_a_choice(size: int) -> None:
    """Each token log2(size) bits, whatever stands in it."""
    tokens, characters, num_bytes = [7, 2], [21, 5], [22, 9]
    values = compute_metrics(scored_of(np.array(tokens) * math.log(size), tokens, characters, num_bytes))
    bits = 9 * math.log2(size)
    assert values["bits_per_character"] == pytest.approx(bits / 26, rel=1e-15)
    assert values["bits_per_byte"] == pytest.approx(bits / 31, rel=1e-15)
    assert values["perplexity"] == pytest.approx(size, rel=1e-13)


def test_the_loss_is_that_of_the_average_token() -> None:
    scored = scored_of([3.0, 3.0], [3, 1])
    head_losses = RowLosses(np.array([1.0, 3.0]), np.array([3.0, 1.0]))
    reduction = TaskReduction([HEAD], {}, num_rows=2, with_losses=True)
    reduction.add(np.arange(2), {LABEL: scored.targets}, {LABEL: scored.predictions}, {LABEL: head_losses})
    for rows in (reduction.finish(), reduction.finish().by_document(np.array([4, 4]))):
        assert METRICS["loss"].of(rows.by_head[LABEL]) == 1.5


def test_where_nothing_is_scored_nothing_is_defined() -> None:
    assert all(math.isnan(value) for value in compute_metrics(scored_of([0.0], [0])).values())
    assert compute_metrics(scored_of([1e6], [1]))["perplexity"] == math.inf


def test_negative_amounts_are_refused() -> None:
    with refused(DataError):
        scored_of([1.0], [-1])


@pytest.mark.parametrize("name", ["bits_per_character", "bits_per_byte", "perplexity", "loss"])
def test_each_metric_may_choose_the_best_model(name: str) -> None:
    main = resolve_metric(name, [HEAD])
    assert main.name == name and not main.higher_is_better
    assert resolve_metric("auto", [HEAD]).name == "bits_per_character"
    with refused(ConfigError, key="evaluate.metric", value="accuracy"):
        resolve_metric("accuracy", [HEAD])


# --- documents -------------------------------------------------------------------------------------------------------


def test_the_chunks_of_a_document_are_added_up() -> None:
    scored = scored_of([1.0, 2.0, 4.0, 8.0], [1, 2, 3, 4], [10, 20, 30, 40], [11, 21, 31, 41])
    found = scored.by_document(np.array([5, 2, 5, 9]))
    assert found.rows is not None and found.rows.tolist() == [2, 5, 9]
    assert found.predictions.tolist() == [2.0, 5.0, 8.0]
    assert found.targets.tolist() == [[2, 20, 21], [4, 40, 42], [4, 40, 41]]
    assert compute_metrics(found) == compute_metrics(scored)


def test_an_interval_is_over_documents_and_not_over_their_chunks() -> None:
    """100 documents, each cut into 20 equal chunks: as wide as that of the documents, not a fifth of it."""
    documents = random_scored(1, 100)
    chunks = scored_of(
        np.repeat(documents.predictions / 20, 20),
        np.repeat(documents.targets[:, 0], 20),
        np.repeat(documents.targets[:, 1], 20),
    )
    metric = METRICS["bits_per_character"]
    by_document = confidence_interval(metric, chunks.by_document(np.repeat(np.arange(100), 20)), samples=300).limits
    by_chunk = confidence_interval(metric, chunks, samples=300).limits
    assert by_document is not None and by_chunk is not None
    assert by_document[1] - by_document[0] > 3 * (by_chunk[1] - by_chunk[0])


def test_an_interval_is_that_of_resampled_sums() -> None:
    scored, samples = random_scored(2, 200), 400
    interval = confidence_interval(METRICS["bits_per_byte"], scored, samples=samples)
    rng = np.random.default_rng(7)
    drawn = [rng.integers(0, 200, 200) for _ in range(samples)]
    values = [scored.predictions[rows].sum() / scored.targets[rows, 2].sum() / math.log(2) for rows in drawn]
    assert interval.limits is not None and interval.method == "BCa bootstrap"
    lower, upper = np.quantile(values, (0.025, 0.975))
    width = upper - lower
    assert abs(interval.limits[0] - lower) < 0.3 * width and abs(interval.limits[1] - upper) < 0.3 * width


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_have_the_bits_of_one_process(world: int) -> None:
    """Whichever rank scores which chunk of a document."""
    scored, documents = random_scored(world, 501), np.random.default_rng(0).integers(0, 60, 501)

    def work(ranks: Ranks) -> ScoredRows:
        reduction = TaskReduction([HEAD], {}, num_rows=501)
        for rows in np.array_split(np.arange(501)[ranks.rank :: ranks.world], 7):
            reduction.add(rows, {LABEL: scored.targets[rows]}, {LABEL: scored.predictions[rows]})
        reduction.merge(ranks)
        return reduction.finish().by_document(documents)

    alone = scored.by_document(documents)
    for found in on_ranks(world, work):
        assert found.num_rows == 60
        assert same(found.by_head[LABEL].predictions, alone.predictions)
        assert compute_metrics(found.by_head[LABEL]) == compute_metrics(alone)
        again = [confidence_interval(METRICS["perplexity"], one, samples=50) for one in (found.by_head[LABEL], alone)]
        assert again[0] == again[1]


# --- reports ---------------------------------------------------------------------------------------------------------


def report_of(scored: Scored, **options: Any) -> Report:
    texts = [f"text {number} | *x*" for number in range(100)]
    rows = EvaluatedRows(texts, dataset="held-out", fingerprint="f00d", place=lambda number: f"a.jsonl, line {number}")
    return build_report(scored, rows, metric=METRICS["bits_per_character"], **({"bootstrap": 20} | options))


def test_a_report_names_the_documents_with_the_most_bits_per_character() -> None:
    """Not the least likely ones, which are the longest, nor those of a few characters."""
    scored = scored_of([40.0, 90.0, 30.0, 9.0], [9, 30, 9, 1], [30, 200, 20, 1]).by_document(np.array([3, 4, 5, 6]))
    report = report_of(scored, mistakes=2)
    assert [(document.row, document.characters) for document in report.hardest] == [(5, 20), (3, 30)]
    assert report.hardest[0].place == "a.jsonl, line 5" and report.hardest[0].text.startswith("text 5")
    assert report.hardest[0].bits_per_character == pytest.approx(30 / 20 / math.log(2))
    assert report_of(scored, mistakes=0).hardest == ()


def test_a_report_has_no_constant_answer_and_no_mistakes() -> None:
    report = report_of(random_scored(3, 30))
    assert report.baseline is None and report.mistakes == () and report.num_mistakes is None
    assert report.classes == () and report.matrix is None and report.curves == () and not report.warnings
    assert report.amounts is not None and report.amounts.tokens == random_scored(3, 30).targets[:, 0].sum()
    assert report.headline().endswith("), on 30 documents") and "baseline" not in report.headline()


def test_pages_speak_of_documents() -> None:
    report = report_of(random_scored(3, 30))
    stream = io.StringIO()
    console.render(report, Console(file=stream, width=100))
    for page in (stream.getvalue(), markdown.render(report)):
        assert ("Most bits per character" in page and "30 documents" in page) or "documents" in page
        assert "perplexity" in page and "bits_per_byte" in page
        assert not any(word in page for word in ("baseline", "Baseline", "mistake", "rows", "class", "error"))
    assert r"text 3 \| \*x\*" in markdown.render(report)


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    report = report_of(random_scored(3, 30))
    path = tmp_path / "report.json"
    path.write_text(json.render(report), encoding="utf-8")
    assert json.read_report(path) == report
