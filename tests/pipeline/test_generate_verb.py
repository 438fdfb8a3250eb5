"""`textune generate`: texts of a language model that was saved, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.cli import runner
from kits.errors import refused
from kits.languagefolders import saved_language_model

import textune
from textune.errors import ModelError

ASKED = ("--metadata", "title=A film", "--metadata", "url=https://x.org/a=b")
DRAWN = ("--num", 3, "--temperature", 1, "--top-p", 0.9, "--seed", 5, "--max-new-tokens", 8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    saved_language_model(folder)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path) -> Any:
    return runner(capsys, monkeypatch, place)


def test_texts_are_those_that_python_gets(run: Any, place: Path) -> None:
    metadata = {"title": "A film", "url": "https://x.org/a=b"}
    texts = textune.load(place / "best").generate(
        "the plot", metadata=metadata, num=3, temperature=1, top_p=0.9, seed=5, max_tokens=8
    )
    told = json.loads(run("generate", "best", *ASKED, "--prompt", "the plot", *DRAWN, "--json").out)
    assert told["metadata"] == metadata and told["prompt"] == "the plot"
    assert told["texts"] == [{"text": one.text, "tokens": one.tokens, "ended": one.ended} for one in texts]


def test_texts_are_printed_behind_their_prompt(run: Any) -> None:
    answer = run("generate", "best", *ASKED, "--prompt", "the plot", *DRAWN)
    assert answer.code == 0 and answer.out.count("the plot") == 3
    assert [line for line in answer.out.splitlines() if line.startswith("---")] == [f"--- {n} of 3" for n in (1, 2, 3)]
    alone = run("generate", "best", "--prompt", "the plot", "--max-new-tokens", 4)
    assert alone.code == 0 and alone.out.startswith("the plot")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--metadata", "title"], "--metadata title"),
        (["--metadata", "=x"], "--metadata =x"),
        (["--metadata", "title=a", "--metadata", "title=b"], "--metadata title"),
        (["--metadata", "html=<b>"], "html"),
        (["--metadata", "titel=a"], "Did you mean title?"),
        (["--max-new-tokens", "100000"], "max_tokens"),
        (["--num", "2"], "num"),
        ([], "prompt"),
    ],
    ids=["value", "type", "twice", "inline", "unknown", "long", "alike", "nothing"],
)
def test_what_cannot_be_written_ends_in_a_sentence(run: Any, words: list[str], named: str) -> None:
    answer = run("generate", "best", *words, *([] if not words else ["--prompt", "a"]))
    assert answer.code == 2 and not answer.out and named in answer.err


def test_a_classifier_writes_nothing(trained: Any) -> None:
    with refused(ModelError, reason="a classifier"):
        textune.load(trained[0].run).generate("a")


def test_predict_says_what_is_there_for_language_models(run: Any, place: Path) -> None:
    (place / "texts.txt").write_text("a good film\n")
    answer = run("predict", "best", "--data", "texts.txt")
    assert answer.code == 2 and not answer.out and "textune generate" in answer.err


def test_other_folders_are_refused(run: Any, place: Path) -> None:
    tiny_backbone("bert", place / "bert")
    for folder in ("bert", "backbone", "nowhere"):
        assert run("generate", folder, "--prompt", "a").code == 2
