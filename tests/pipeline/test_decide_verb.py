"""`textune decide`: thresholds with a guarantee on a trained run, and whether they still hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.cli import runner
from kits.runs import Listener, reviews, write_csv

import textune
from textune.errors import ConfigError, RunError
from textune.evaluation.guarantee import Aim
from textune.evaluation.rowsfile import read_rows, write_rows
from textune.pipeline.decide import check_guarantees
from textune.pipeline.guarantees import read_guarantees
from textune.pipeline.proofrows import rows_of_proof
from textune.prediction.card import read_card
from textune.prediction.load import find_model
from textune.run.deciding import GUARANTEES


@pytest.fixture
def run(trained: Any, tmp_path: Path) -> Path:
    """A copy of the trained run, beside its rows."""
    shutil.copytree(trained[0].run.parents[1], tmp_path / "home", ignore=shutil.ignore_patterns("cache"))
    return tmp_path / "home" / "runs" / "first"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Labelled rows that the run has never seen."""
    return write_csv(tmp_path / "fresh.csv", reviews(260, seed=5)) or tmp_path / "fresh.csv"


def test_a_threshold_keeps_its_promise_and_the_proof_stands_beside(run: Path, fresh: Path) -> None:
    (found,) = textune.decide(run, Aim("recall", 0.6), data=fresh)
    folder = find_model(run)
    assert read_guarantees(folder) == [found] and (found.aim, found.task) == ("recall", "label")
    assert found.value >= found.limit >= 0.6 and found.p_value <= 0.05
    card = read_card(folder)
    assert card.heads[0].decision.thresholds == (found.threshold,)
    # What is answered from now on is what was measured.
    report = textune.evaluate(run, data=fresh)
    rows = read_rows(run / "evaluations" / "fresh.csv.rows.parquet").scored.of("label")
    assert rows is not None
    assert int((rows.predictions == 1).sum()) == found.given
    assert report.metrics["recall"] == pytest.approx(found.value)
    assert textune.evaluate(run, data=fresh, decision=False).metrics["recall"] != report.metrics["recall"]


def test_test_rows_prove_what_validation_rows_propose(run: Path) -> None:
    listener = Listener()
    (found,) = textune.decide(run, Aim("precision", 0.2, confidence=0.6), tracker=listener)
    rows = read_rows(run / "evaluations" / "test.rows.parquet")
    assert (found.proved_on, found.fingerprint, found.rows) == (rows.dataset, rows.fingerprint, len(rows))
    assert listener.notices == []
    textune.decide(run, Aim("precision", 0.2, confidence=0.6), part="validation", force=True, tracker=listener)
    assert "the best model was chosen" in listener.notices[0]


def test_a_promise_locks_its_threshold(run: Path, fresh: Path) -> None:
    textune.decide(run, Aim("recall", 0.5), data=fresh)
    before = (find_model(run) / "textune.json").read_bytes()
    with pytest.raises(RunError) as caught:
        textune.decide(run, Aim("recall", 0.6), data=fresh)
    assert caught.value.reason == "a guarantee locks it"
    assert (find_model(run) / "textune.json").read_bytes() == before
    textune.decide(run, Aim("recall", 0.6), data=fresh, force=True)
    assert [one.level for one in read_guarantees(find_model(run))] == [0.6]
    # Withheld answers are missing from the recall, and the other class has the same threshold.
    for aim, label in ((Aim("coverage", 0.5), ()), (Aim("recall", 0.5), "neg")):
        with pytest.raises(RunError) as caught:
            textune.decide(run, aim, data=fresh, label=label)
        assert caught.value.reason == "a guarantee locks it"
        (found,) = textune.decide(run, aim, data=fresh, label=label, force=True)
        assert read_guarantees(find_model(run)) == [found]
        assert check_guarantees(run, fresh)[0].measured.given == found.given
    # The bound of all answers went with its promise.
    assert read_card(find_model(run)).heads[0].decision.abstain_below is None


def test_two_classes_share_one_threshold(run: Path, fresh: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        textune.decide(run, Aim("recall", 0.5), label=["neg", "pos"], data=fresh)
    assert (caught.value.key, caught.value.value) == ("label", "neg, pos")
    assert len(textune.decide(run, Aim("recall", 0.5), label=["pos", "pos"], data=fresh)) == 1


def test_what_proves_has_no_part_in_what_is_proposed(run: Path) -> None:
    validation = read_rows(run / "evaluations" / "validation.rows.parquet")
    proving, proposing = rows_of_proof(run, "test", None, None, (), Listener())
    assert proposing is not None and 0 < len(proposing) <= len(validation)
    assert not np.isin(proposing.facts.content, proving.facts.content).any()
    # The same rows under another name propose nothing for themselves.
    write_rows(replace(validation, name="test"), run / "evaluations" / "test.rows.parquet")
    assert rows_of_proof(run, "test", None, None, (), Listener())[1] is None


def test_rows_of_a_run_that_is_not_complete_are_scored_again(run: Path) -> None:
    path = run / "evaluations" / "test.rows.parquet"
    rows = read_rows(path)
    write_rows(rows.take(np.arange(3)), path)  # as if by an earlier model
    assert len(rows_of_proof(run, "test", None, None, (), Listener())[0]) == 3
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    assert len(rows_of_proof(run, "test", None, None, (), Listener())[0]) == len(rows)


def test_new_rows_hold_or_break_a_promise(run: Path, fresh: Path, tmp_path: Path) -> None:
    textune.decide(run, Aim("recall", 0.6), data=fresh)
    (held,) = check_guarantees(run, fresh)
    assert held.verdict == "holds" and held.measured.rows == 260
    turned = [{**row, "label": "neg" if row["label"] == "pos" else "pos"} for row in reviews(260, seed=5)]
    write_csv(tmp_path / "turned.csv", turned)
    (broken,) = check_guarantees(run, tmp_path / "turned.csv")
    assert broken.verdict == "broken"
    write_csv(tmp_path / "few.csv", reviews(4, seed=6))
    (open_,) = check_guarantees(run, tmp_path / "few.csv")
    assert open_.verdict == "open"


def test_another_model_or_rule_is_not_that_of_the_proof(run: Path, fresh: Path) -> None:
    with pytest.raises(RunError) as caught:
        check_guarantees(run, fresh)
    assert caught.value.reason == "no guarantee"
    textune.decide(run, Aim("recall", 0.6), data=fresh)
    folder = find_model(run)
    card = json.loads((folder / "textune.json").read_text())
    changed = {**card, "heads": [{**card["heads"][0], "decision": {"thresholds": [0.9]}}]}
    (folder / "textune.json").write_text(json.dumps(changed))
    with pytest.raises(RunError) as caught:
        check_guarantees(run, fresh)
    assert caught.value.reason == "the rule of decision changed"
    (folder / "textune.json").write_text(json.dumps(card))
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(RunError) as caught:
        check_guarantees(run, fresh)
    assert caught.value.reason == "the weights changed"
    (folder / GUARANTEES).write_text('{"guarantees": [{"task": 3}]}')
    with pytest.raises(RunError) as caught:
        read_guarantees(folder)
    assert caught.value.place.endswith(GUARANTEES)


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("aim", "how", "key"),
    [
        (Aim("precision", 1.2), {}, "target_precision"),
        (Aim("recall", 0.0), {}, "target_recall"),
        (Aim("cost", -1.0), {}, "target_cost"),
        (Aim("cost", 0.5, cost_of_wrong=-2.0), {}, "wrong_cost"),
        (Aim("cost", 0.5, cost_of_wrong=0.0, cost_of_none=0.0), {}, "wrong_cost"),
        (Aim("recall", 0.5, confidence=1.0), {}, "confidence"),
        (Aim("recall", 0.5), {"label": "possitive"}, "label"),
        (Aim("coverage", 0.5), {"label": "pos"}, "label"),
        (Aim("recall", 0.5), {"task": "tone"}, "task"),
        (Aim("recall", 0.5), {"part": "test", "data": "x.csv"}, "part"),
        (Aim("recall", 0.5), {"part": "train"}, "part"),
    ],
)
def test_what_cannot_be_promised(run: Path, aim: Aim, how: dict[str, Any], key: str) -> None:
    before = (find_model(run) / "textune.json").read_bytes()
    with pytest.raises(ConfigError) as caught:
        textune.decide(run, aim, **how)
    assert caught.value.key == key and caught.value.hint
    assert (find_model(run) / "textune.json").read_bytes() == before


def test_what_rows_do_not_prove_is_not_promised(run: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "few.csv", reviews(12, seed=3))
    with pytest.raises(RunError) as caught:
        textune.decide(run, Aim("precision", 0.99), data=tmp_path / "few.csv")
    assert (caught.value.key, caught.value.value) == ("target_precision", 0.99)
    assert "299" in caught.value.message  # rows without a mistake: ln 0.05 / ln 0.99
    assert not (find_model(run) / GUARANTEES).exists()


def test_the_command_line(
    run: Path, fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, tmp_path)
    answer = call("decide", run, "--target-recall", "0.6", "--label", "pos", "--data", fresh)
    assert answer.code == 0 and '"pos" is given where' in answer.out and 'recall of "pos"' in answer.out
    answer = call("decide", run, "--check", fresh)
    assert answer.code == 0 and "holds" in answer.out
    answer = call("decide", run, "--check", fresh, "--json")
    assert json.loads(answer.out)["holds"] is True
    turned = [{**row, "label": "neg" if row["label"] == "pos" else "pos"} for row in reviews(260, seed=5)]
    write_csv(tmp_path / "turned.csv", turned)
    assert call("decide", run, "--check", tmp_path / "turned.csv").code == 1
    assert call("decide", run).code == 2
    assert call("decide", run, "--target-recall", "0.5", "--target-cost", "1").code == 2
    assert call("decide", run, "--target-coverage", "0.5", "--data", fresh).code != 0
    answer = call("decide", run, "--target-coverage", "0.5", "--data", fresh, "--json", "--force")
    (found,) = json.loads(answer.out)["guarantees"]
    assert found["label"] is None
    predicted = textune.load(run).predict_table({"text": [row["text"] for row in reviews(260, seed=5)]})
    assert predicted["predicted_label"].null_count == 260 - found["given"]
    assert np.isfinite(predicted["predicted_score"].to_numpy()).all()
