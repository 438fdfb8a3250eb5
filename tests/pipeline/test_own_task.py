"""A task of a user's own: it trains, resumes, evaluates and predicts, as its class says."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.cli import runner
from kits.errors import refused
from kits.own import Stars, kappa, mean_distance
from kits.runs import reviews, signal_after, write_place
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.errors import CodeError, Preempted

STARS, TAGS, PRICE = "kits.own:Stars", "kits.own:Tags", "kits.own:Price"
CONFIG = """
[data]
train.files = "rows.csv"
validation.ratio = 0.25
columns.label = "stars"
[task]
kind = "python"
object = "kits.own:Stars"
[model]
pretrained = "backbone"
[train]
duration = "6 epochs"
[evaluate]
bootstrap = 30
"""
TEXTS = ["a fine film", "the worst", "a brilliant and charming movie"]


def stars_of(row: dict[str, Any]) -> str:
    """More of them for good words, fewer for bad ones; some of each in the middle."""
    return "**" if row["id"] % 5 == 0 else "***" if row["label"] == "pos" else "*"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {
            **row,
            "stars": stars_of(row),
            "tags": ("film+play", "book", "none")[row["id"] % 3],
            "price": f"{1 + row['number']}EUR",
        }
        for row in reviews(160)
    ]
    return write_place(tmp_path_factory.mktemp("place"), CONFIG, rows)


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    textune.train(place / "config.toml", run=place / "run")
    return place / "run"


def test_it_trains_and_reports_its_own_metrics(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    assert report["main"]["metric"] == "kappa" and report["main"]["higher_is_better"]
    assert list(report["metrics"])[:3] == ["kappa", "distance", "accuracy"]
    assert report["main"]["value"] > 0.3  # the words tell the stars but for one row in five
    low, high = report["main"]["interval_95"]
    assert low < report["main"]["value"] < high and report["main"]["interval_method"] == "BCa bootstrap"
    assert report["names"] == ["1 stars", "2 stars", "3 stars"]
    assert "a metric of the task's own code" in (run / "report.md").read_text()


def test_its_metrics_are_what_its_functions_make_of_the_rows(place: Path, run: Path) -> None:
    model, own = textune.load(run, code=STARS), Stars()
    report = textune.evaluate(run, code=STARS, data=place / "rows.csv")
    rows = [line.split(",") for line in (place / "rows.csv").read_text().splitlines()[1:]]
    targets = np.array([own.target(row[4]) for row in rows])
    scores = model.score([row[1] for row in rows])
    decided = own.decide(scores)
    assert report.metrics["kappa"] == pytest.approx(kappa(targets, decided, scores), rel=1e-12)
    assert report.metrics["distance"] == pytest.approx(mean_distance(targets, decided, scores), rel=1e-12)
    assert report.metrics["accuracy"] == pytest.approx((targets == decided).mean())
    own_rows = textune.evaluate(run, code=[STARS], metric="distance")
    assert own_rows.metric == "distance" and not own_rows.higher_is_better


def test_the_saved_folder_gives_the_same_outputs_in_plain_transformers(run: Path) -> None:
    plain = AutoModelForSequenceClassification.from_pretrained(run / "best").eval()
    assert list(plain.config.id2label.values()) == ["more than 1", "more than 2"]
    inputs = AutoTokenizer.from_pretrained(run / "best")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = Stars().scores(plain(**inputs).logits.double())
    ours = textune.load(run, code=STARS)
    torch.testing.assert_close(torch.from_numpy(ours.score(TEXTS)), scores, atol=1e-6, rtol=1e-5)
    predicted = ours.predict(TEXTS)
    assert predicted[1].label == "1 stars" and predicted[0].label in {"2 stars", "3 stars"}
    assert sum(predicted[0].scores.values()) == pytest.approx(1)


def test_the_card_names_the_class_and_nobody_imports_it_unasked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = json.loads((run / "best" / "textune.json").read_text())
    assert card["heads"][0]["task"] == {"kind": "python", "object": STARS, "options": {}}
    monkeypatch.setattr("importlib.import_module", None)  # an import would fail
    for code in ((), "kits.own:Tags", ["kits.own"]):
        with pytest.raises(CodeError) as caught:
            textune.load(run, code=code)
        assert caught.value.key == "code" and caught.value.value == STARS
        assert f"--code {STARS}" in caught.value.hint
    with pytest.raises(CodeError):
        textune.evaluate(run)


def test_scores_that_are_not_probabilities_are_refused_in_evaluation_and_prediction(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stars, "scores", lambda self, outputs: outputs[:, [0, 1, 1]] + 100)
    with refused(CodeError, key="task.object", value="scores", reason="must return probabilities"):
        textune.load(run, code=STARS).predict(TEXTS)
    with refused(CodeError, key="task.object", value="scores", reason="must return probabilities"):
        textune.evaluate(run, code=STARS)


def test_the_command_line_predicts_with_it(run: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = runner(capsys, monkeypatch, run.parent)
    unnamed = cli("predict", str(run), stdin="a fine film\n")
    assert unnamed.code == 2 and STARS in unnamed.err and "Traceback" not in unnamed.err
    done = cli("predict", str(run), "--code", STARS, "--all-scores", stdin="a fine film\n")
    assert done.code == 0, done.err
    assert {"score_1 stars", "score_2 stars", "score_3 stars"} <= json.loads(done.out).keys()
    assert cli("evaluate", str(run), "--code", STARS, "--json").code == 0


@pytest.mark.every_day(1)
@pytest.mark.parametrize(("object", "label", "main"), [(TAGS, "tags", "f1_micro"), (PRICE, "price", "pearson")])
def test_other_kinds_of_answers(place: Path, tmp_path: Path, object: str, label: str, main: str) -> None:
    overrides = [f"task.object={object}", f"data.columns.label={label}", "train.duration=2 epochs"]
    result = textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    assert result.reports["validation"].metric == main
    predicted = textune.load(tmp_path / "run", code=object).predict(TEXTS)
    assert all(isinstance(one.label, float if object == PRICE else tuple) for one in predicted)


def test_micro_batches_and_row_weights_change_nothing(place: Path, tmp_path: Path) -> None:
    common = ["train.duration=4 steps", "data.columns.weight=number", "model.config.hidden_dropout_prob=0"]
    common += ["model.config.attention_probs_dropout_prob=0", "train.optimizer.eps=1e-4"]
    scores = []
    for name, bound in (("one", 5000), ("many", 40)):
        overrides = [*common, f"train.max_tokens={bound}"]
        textune.train(place / "config.toml", run=tmp_path / name, overrides=overrides)
        scores.append(textune.load(tmp_path / name, code=STARS).score(TEXTS))
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-5)


def test_options_reach_the_class_and_bad_labels_are_bad_rows(place: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,stars\na,#\nb,##\nc,**\nd,####\ne,#\nf,##\n")
    overrides = [f"data.train.files={tmp_path / 'rows.csv'}", "task.options.symbol=#", "train.batch_size=2"]
    with pytest.raises(textune.TextuneError) as caught:
        textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides, dry_run=True)
    assert "line 4" in caught.value.place and "stars are written as ##" in caught.value.reason
    result = textune.train(
        place / "config.toml", run=tmp_path / "run", overrides=[*overrides, "data.on_bad_row=skip"], dry_run=True
    )
    assert result.facts is not None and result.facts.labels == ["1 stars", "2 stars", "3 stars"]
    assert any("2 of 6" in notice or "2 " in notice for notice in result.notices)


def test_an_error_in_target_names_the_row_besides_the_line_of_code(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `target` raises but ValueError is a mistake in it, and not a bad row."""
    code = "from kits.own import Stars\nclass Own(Stars):\n    def target(self, label): return {'*': 0}[label]\n"
    (tmp_path / "own_lookup.py").write_text(code)
    (tmp_path / "rows.csv").write_text("text,stars\na,*\nb,*\nc,**\nd,*\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    overrides = [f"data.train.files={tmp_path / 'rows.csv'}", "task.object=own_lookup:Own", "data.on_bad_row=skip"]
    with pytest.raises(CodeError) as caught:
        textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides, dry_run=True)
    assert caught.value.place == f"{tmp_path / 'own_lookup.py'}, line 3" and "rows.csv, line 4" in caught.value.message


def test_going_on_from_such_a_model_keeps_its_outputs(run: Path, place: Path, tmp_path: Path) -> None:
    overrides = [f"model.pretrained={run}", "train.duration=1 steps", "train.optimizer.lr=1e-9"]
    textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    before, after = (textune.load(folder, code=STARS).score(TEXTS) for folder in (run, tmp_path / "run"))
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_code_that_changed_since_the_run_stopped_is_reported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And used: a mistake in it may be why the run stopped."""
    monkeypatch.syspath_prepend(str(tmp_path))
    source = Path(sys.modules["kits.own"].__file__ or "").read_text()
    (tmp_path / "own_stars.py").write_text(source)
    overrides = ["task.object=own_stars:Stars", "train.duration=4 steps", "train.checkpoint.every=2 steps"]
    after = signal_after({2: [signal.SIGTERM]})
    with pytest.raises(Preempted):
        textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides, after_step=after)
    (tmp_path / "own_stars.py").write_text(source + "\n# mended\n")
    result = textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides, resume="latest")
    assert result.steps == 4 and any("own_stars:Stars is other code" in notice for notice in result.notices)


def test_rows_of_own_code_are_read_again_only_if_they_are_named(place: Path, tmp_path: Path) -> None:
    """The configuration of a run folder may come from anybody, too."""
    overrides = ["data.train.kind=python", "data.train.object=kits.own:rows", "train.duration=1 steps"]
    textune.train(place / "config.toml", run=tmp_path / "run", overrides=overrides)
    with pytest.raises(CodeError) as caught:
        textune.evaluate(tmp_path / "run", code=STARS)
    assert caught.value.value == "kits.own:rows" and caught.value.place == str(tmp_path / "run" / "config.toml")
    assert textune.evaluate(tmp_path / "run", code=[STARS, "kits.own:rows"]).num_rows == 10
    assert textune.evaluate(tmp_path / "run", code=STARS, data=place / "rows.csv").num_rows == 160
