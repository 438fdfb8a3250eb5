"""`textune predict RUN TEXT`: a few texts as words of the command, answered for people or as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner

import textune
from textune.prediction import Prediction, prediction_in_words


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return runner(capsys, monkeypatch, home)


TEXTS = ("a good great film", "a bad poor film")


def test_texts_are_answered_with_a_line_each(run: Any, trained: Any) -> None:
    wanted = textune.load(trained[0].run).predict(list(TEXTS))
    answer = run("predict", trained[0].run, *TEXTS)
    assert answer.code == 0 and answer.err == ""
    assert answer.out.splitlines() == [
        f"{one.label} ({one.score:.4f})  {text}" for one, text in zip(wanted, TEXTS, strict=True)
    ]
    every = run("predict", trained[0].run, TEXTS[0], "--all-scores").out
    assert every.startswith("pos (0.") and "neg (0." in every


def test_texts_are_answered_as_json(run: Any, trained: Any) -> None:
    wanted = textune.load(trained[0].run).predict(list(TEXTS))
    said = json.loads(run("predict", trained[0].run, *TEXTS, "--json", "--quiet").out)
    assert said["ok"] is True
    for one, text, row in zip(wanted, TEXTS, said["predictions"], strict=True):
        assert row == {"text": text, "label": one.label, "score": one.score, "scores": one.scores}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["reviews.csv"],
            "reviews.csv is a file, not a text. To predict its rows: textune predict .* --data",
        ),
        (["a film", "--data", "reviews.csv"], "--data is about files, but the text 'a film' is given, too"),
        (["a film", "--output", "out.csv"], "--output is about files"),
        (["a film", "--skip-bad-rows"], "--skip-bad-rows is about files"),
    ],
)
def test_texts_and_files_do_not_mix(run: Any, trained: Any, words: list[str], message: str) -> None:
    import re

    answer = run("predict", trained[0].run, *words)
    assert answer.code == 2 and re.search(message, answer.err), answer.err


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (Prediction("pos", 0.75, {"neg": 0.25, "pos": 0.75}), "pos (0.7500)"),
        (Prediction("neg", 0.25, {"neg": 0.25, "pos": 0.75}), "neg (0.2500)"),
        (Prediction(None, 0.5, {"neg": 0.4, "pos": 0.6}), "no answer (pos (0.6000) is too uncertain)"),
        (Prediction(("b", "a"), 0.9, {"a": 0.7, "b": 0.9, "c": 0.1}), "b (0.9000), a (0.7000)"),
        (Prediction((), 0.2, {"a": 0.1, "b": 0.2}), "no label (b (0.2000) is the most probable)"),
        (Prediction(3.14159, 3.14159, {"score": 3.14159}), "3.1416"),
    ],
    ids=["one label", "by a rule", "withheld", "several labels", "none of them", "a number"],
)
def test_a_prediction_in_words(prediction: Prediction, words: str) -> None:
    assert prediction_in_words(prediction) == words


def test_no_more_labels_than_can_be_read() -> None:
    scores = {f"label-{number}": 0.9 - number / 100 for number in range(8)}
    said = prediction_in_words(Prediction(tuple(scores), 0.9, scores))
    assert said.startswith("label-0 (0.9000), label-1") and said.endswith("label-4 (0.8600) and 3 more")
    assert prediction_in_words(Prediction((), 0.9, scores), all_scores=True).count("(0.") == 8
