"""Going on from an earlier run: its labels, its head and what it was trained with, all of it said before the first
step."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from kits.runs import Listener, reviews, write_csv

import textune
from textune.errors import RunError

ONE_STEP = ["train.duration=1 steps", "evaluate.bootstrap=0"]
"""One step at the start of the warm-up has learning rate 0: what is saved is what was carried over."""


def go_on(home: Path, run: Path, *overrides: str) -> tuple[Any, list[str]]:
    listener = Listener()
    result = textune.train(home / "config.toml", run=run, overrides=[*ONE_STEP, *overrides], tracker=listener)
    assert result is not None
    return result, listener.notices


def mixed(folder: Path) -> str:
    """Reviews of which some are neither good nor bad."""
    rows = [row | {"label": "mixed"} if row["id"] % 5 == 0 else row for row in reviews(100)]
    return str(write_csv(folder / "mixed.csv", rows))


@pytest.mark.parity("AZ-23")
def test_a_run_goes_on_from_the_best_model_of_another(home: Path, trained: Any, tmp_path: Path) -> None:
    earlier = trained[0].run
    result, notices = go_on(home, tmp_path / "run", f"model.pretrained={earlier}")
    assert result.reports["test"].metrics == trained[0].reports["test"].metrics
    assert f"model.pretrained = {earlier} is a run; its best model is used: {earlier / 'best'}" in notices
    assert not any("was trained with" in notice or "the head" in notice for notice in notices)


def test_a_run_that_was_killed_while_it_replaced_its_model(home: Path, trained: Any, tmp_path: Path) -> None:
    shutil.copytree(trained[0].run / "best", tmp_path / "earlier" / "best.old")
    for given in ("earlier", "earlier/best"):
        _, notices = go_on(home, tmp_path / given.replace("/", "-") / "run", f"model.pretrained={tmp_path / given}")
        assert any(notice.endswith(str(tmp_path / "earlier" / "best.old")) for notice in notices)


def test_a_label_more(home: Path, trained: Any, tmp_path: Path) -> None:
    result, notices = go_on(
        home, tmp_path / "run", f"model.pretrained={trained[0].run / 'best'}", f"data.train.files={mixed(tmp_path)}"
    )
    assert any("is kept for neg, pos; it is new for mixed" in notice for notice in notices)
    texts = ["a good film", "a dull boring movie", "the"]
    before, after = (textune.load(run).predict(texts) for run in (trained[0].run, result.run))
    for one, other in zip(before, after, strict=True):
        assert set(other.scores) == {"mixed", "neg", "pos"}
        assert other.scores["pos"] / other.scores["neg"] == pytest.approx(
            one.scores["pos"] / one.scores["neg"], rel=1e-3
        )


def test_a_label_less_and_how_to_keep_it(home: Path, tmp_path: Path) -> None:
    first, _ = go_on(home, tmp_path / "first", f"data.train.files={mixed(tmp_path)}")
    _, notices = go_on(home, tmp_path / "second", f"model.pretrained={first.run}")
    assert any("loses mixed" in notice and "data.labels.names" in notice for notice in notices)
    kept, notices = go_on(
        home, tmp_path / "third", f"model.pretrained={first.run}", 'data.labels.names=["mixed", "neg", "pos"]'
    )
    assert textune.load(kept.run).card.names == ("mixed", "neg", "pos")
    assert not any("the head" in notice for notice in notices)


@pytest.mark.slow
def test_one_logit_keeps_the_order_of_its_two_classes(home: Path, tmp_path: Path) -> None:
    binary = ["task.kind=binary", "task.num_logits=1"]
    listed = 'data.labels.names=["pos", "neg"]'
    first, _ = go_on(home, tmp_path / "first", *binary, listed, "train.duration=30 steps")
    second, notices = go_on(home, tmp_path / "second", *binary, f"model.pretrained={first.run}")
    assert textune.load(second.run).card.names == ("pos", "neg")
    assert "labels keep the order of the backbone: pos, neg" in notices
    third, notices = go_on(
        home, tmp_path / "third", *binary, f"model.pretrained={first.run}", 'data.labels.names=["neg", "pos"]'
    )
    assert any("negated weights" in notice for notice in notices)
    texts = ["a good film", "a dull boring movie"]
    scores = [textune.load(run.run).predict(texts) for run in (first, second, third)]
    for one, two, three in zip(*scores, strict=True):
        assert one.scores["pos"] == pytest.approx(two.scores["pos"], abs=1e-6)
        assert one.scores["pos"] == pytest.approx(three.scores["pos"], abs=1e-6)


def test_one_logit_whose_other_class_is_another(home: Path, tmp_path: Path) -> None:
    binary = ["task.kind=binary", "task.num_logits=1"]
    first, _ = go_on(home, tmp_path / "first", *binary)
    rows = [row | {"label": "awful" if row["label"] == "neg" else "pos"} for row in reviews(100)]
    files = f"data.train.files={write_csv(tmp_path / 'awful.csv', rows)}"
    _, notices = go_on(home, tmp_path / "second", *binary, f"model.pretrained={first.run}", files)
    assert any(notice.endswith("one output that tells pos from neg (here from awful)") for notice in notices), notices


def test_another_problem_starts_the_head_anew(home: Path, trained: Any, tmp_path: Path) -> None:
    _, notices = go_on(home, tmp_path / "run", f"model.pretrained={trained[0].run}", "data.columns.label=number")
    assert any("the head is new" in notice and "needs a regression with 1 output" in notice for notice in notices)


def test_class_weights_of_the_earlier_run_do_not_go_on(home: Path, tmp_path: Path) -> None:
    first, _ = go_on(home, tmp_path / "first", "task.class_weights={neg=5}")
    assert textune.load(first.run).card.task.class_weights == {"neg": 5.0, "pos": 1.0}  # type: ignore[union-attr]
    second, _ = go_on(home, tmp_path / "second", f"model.pretrained={first.run}")
    assert textune.load(second.run).card.task.class_weights == "none"  # type: ignore[union-attr]


def test_other_inputs_than_those_of_the_earlier_run_are_said(home: Path, trained: Any, tmp_path: Path) -> None:
    best = trained[0].run / "best"
    words = shutil.copytree(home / "backbone", tmp_path / "words")
    overrides = [
        "tokens.max_length=48",
        "tokens.truncate=tail",
        "data.columns.text_pair=id",
        f"model.tokenizer={words}",
    ]
    _, notices = go_on(home, tmp_path / "run", f"model.pretrained={best}", *overrides)
    assert (
        f'{best} was trained with tokens.max_length = 24 (here 48), tokens.truncate = "head" (here "tail"), single'
        f" texts"
        " (here pairs)"
    ) in notices, notices


def test_another_tokenizer_is_said(home: Path, trained: Any, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(home / "backbone")
    tokenizer.add_tokens(["<tag>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "words")
    _, notices = go_on(
        home, tmp_path / "run", f"model.pretrained={trained[0].run / 'best'}", f"model.tokenizer={tmp_path / 'words'}"
    )
    assert any(
        f"was trained with another tokenizer (here that of {tmp_path / 'words'})" in notice for notice in notices
    )


def test_a_regression_through_a_sigmoid_and_without(home: Path, tmp_path: Path) -> None:
    number = ["data.columns.label=number", "task.kind=regression"]
    first, _ = go_on(home, tmp_path / "first", *number, "task.activation=sigmoid")
    _, notices = go_on(home, tmp_path / "second", *number, f"model.pretrained={first.run}")
    assert any('task.activation = "sigmoid" (here "linear")' in notice for notice in notices)


def test_a_damaged_card(home: Path, trained: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(trained[0].run / "best", tmp_path / "best")
    (folder / "textune.json").write_text("{")
    with pytest.raises(RunError, match=r"textune\.json is damaged"):
        go_on(home, tmp_path / "run", f"model.pretrained={folder}")


def test_check_says_the_same(home: Path, trained: Any, tmp_path: Path) -> None:
    listener = Listener()
    overrides = [f"model.pretrained={trained[0].run}", f"data.train.files={mixed(tmp_path)}"]
    textune.check(home / "config.toml", overrides=overrides, tracker=listener)
    assert any("it is new for mixed" in notice for notice in listener.notices)
