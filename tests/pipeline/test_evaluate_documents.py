"""Reports on a language model's own documents after training: any set, any arm, and what metadata is worth to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused
from kits.languageruns import CONFIG, write_documents, write_language_home

import textune
from textune.errors import ConfigError, DataError, RunError
from textune.evaluation.rowsfile import read_rows
from textune.pipeline.bymetadata import evaluate_by_metadata
from textune.run.folder import RunFolder

WORDS = [
    "train.duration=3 steps",
    'data.validation.by_type=["title"]',
    'evaluate.arms=["without", "same-context"]',
    "evaluate.bootstrap=20",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def trained(home: Path) -> Any:
    return textune.train(home / "config.toml", run=home / "run", overrides=WORDS)


def test_every_set_is_evaluated_again_as_the_run_did(trained: Any) -> None:
    assert len(trained.reports) == 7
    for name, report in trained.reports.items():
        again = textune.evaluate(trained.run, part=name, device="cpu")
        assert again.metrics == report.metrics and again.interval == report.interval
        assert (again.amounts, again.hardest) == (report.amounts, report.hardest)
    assert textune.evaluate(trained.run, device="cpu").metrics == trained.reports["validation"].metrics
    assert (trained.run / "evaluations" / "validation-title-without.md").is_file()


def test_the_documents_of_every_set_are_kept_as_rows(trained: Any, home: Path) -> None:
    folder = RunFolder(trained.run)
    kept = {name: read_rows(folder.rows_of(name)) for name in trained.reports}
    for name, report in trained.reports.items():
        assert kept[name].main.of(kept[name].scored) == report.value and len(kept[name]) == report.num_rows
        assert sum(one.num_rows for one in report.slices) == report.num_rows
    whole, part = kept["validation"].facts, kept["validation-title"].facts
    assert kept["validation-without"].facts.content.tolist() == whole.content.tolist()
    of_row = dict(zip(whole.row.tolist(), whole.content.tolist(), strict=True))
    assert [of_row[row] for row in part.row.tolist()] == part.content.tolist()  # the same texts by the same numbers
    other = textune.train(home / "config.toml", run=home / "other", overrides=[*WORDS, "train.seed=1"]).run
    found = textune.compare([trained.run, other], samples=50)
    assert found.sets.keys() == kept.keys()
    (versus,) = found.sets["validation"].against
    assert versus.main.first == trained.reports["validation"].value and versus.p_value is not None


def test_what_metadata_is_worth_is_in_the_sets_of_the_run(trained: Any, home: Path) -> None:
    found = evaluate_by_metadata(trained.run, device="cpu", bootstrap=0, untrained=str(home / "model"))
    groups = {(group.group, group.model): group for group in found.groups}
    for group, name in (("all", "validation"), ("title", "validation-title")):
        for arm, suffix in (("with", ""), ("without", "-without"), ("same-context", "-same-context")):
            report = trained.reports[name + suffix]
            assert groups[group, "trained"].arms[arm].bits_per_character == report.value
            assert groups[group, "trained"].arms[arm].perplexity == report.metrics["perplexity"]
    untrained = groups["all", str(home / "model")]
    assert untrained.arms["with"].bits_per_character > groups["all", "trained"].arms["with"].bits_per_character
    kept = trained.run / "evaluations" / "validation-by-metadata.json"
    assert json.loads(kept.read_text(encoding="utf-8")) == found.to_dict()
    assert kept.with_suffix(".md").is_file()


def test_arms_that_the_run_did_not_evaluate_can_be_asked_for(home: Path) -> None:
    words = ["train.duration=1 step", "evaluate.arms=[]"]
    result = textune.train(home / "config.toml", run=home / "alone", overrides=words)
    assert list(result.reports) == ["validation"]
    without = textune.evaluate(home / "alone", part="validation-without", device="cpu")
    assert without.amounts is not None and result.reports["validation"].amounts is not None
    assert without.amounts.characters == result.reports["validation"].amounts.characters
    assert without.value != result.reports["validation"].value


def test_another_set_is_named(trained: Any) -> None:
    with refused(ConfigError, key="part", value="validation-url"):
        textune.evaluate(trained.run, part="validation-url", device="cpu")


def test_a_set_by_type_or_an_arm_is_not_compared_by_itself(trained: Any) -> None:
    for part in ("validation-title", "validation-without"):
        with refused(ConfigError, key="part", value=part):
            evaluate_by_metadata(trained.run, part=part, device="cpu", bootstrap=0)
    assert evaluate_by_metadata(trained.run, part="validation", device="cpu", bootstrap=0).groups


def test_documents_that_changed_are_refused(trained: Any, home: Path) -> None:
    held = (home / "held.jsonl").read_bytes()
    try:
        write_documents(home, range(200, 205), "held.jsonl")
        for evaluate in (textune.evaluate, evaluate_by_metadata):
            with refused(RunError):
                evaluate(trained.run, device="cpu")
        assert textune.evaluate(trained.run, data=home / "held.jsonl", device="cpu").num_rows == 5
    finally:
        (home / "held.jsonl").write_bytes(held)


def test_a_share_of_the_training_documents_is_found_again(home: Path) -> None:
    words = ["train.duration=1 step", "data.validation.kind=split", "data.validation.count=8"]
    result = textune.train(home / "config.toml", run=home / "share", overrides=words)
    again = textune.evaluate(home / "share", device="cpu")
    assert again.num_rows == 8 and again.metrics == result.reports["validation"].metrics


def test_texts_alone_have_no_arms(home: Path) -> None:
    (home / "plain.toml").write_text(CONFIG.replace('[metadata]\ntypes = ["html", "title", "url"]\n', ""), "utf-8")
    result = textune.train(home / "plain.toml", run=home / "plain", overrides=["train.duration=1 step"])
    assert list(result.reports) == ["validation"]
    again = textune.evaluate(home / "plain", device="cpu")
    assert again.metrics == result.reports["validation"].metrics
    with refused(DataError, reason="no document has metadata"):
        evaluate_by_metadata(home / "plain", device="cpu")
