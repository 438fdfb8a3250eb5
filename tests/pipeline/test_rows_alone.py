"""Rows as the first argument: what `init` proposes for a file is decided from them, and said."""

import csv
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from kits.errors import refused
from kits.runs import reviews

import textune
from textune.errors import ConfigError, DataError, InputError
from textune.pipeline.init import init
from textune.pipeline.rowsalone import are_rows

ROWS = [{"id": row["id"], "review": row["text"], "stars": row["label"]} for row in reviews(60)]


def quick(home: Path) -> dict[str, Any]:
    return {
        "train.duration": "2 steps",
        "train.precision": "fp32",
        "train.device": "cpu",
        "tokens.max_length": 24,
        "tokens.cache": str(home / "cache"),
        "evaluate.bootstrap": 0,
    }


@pytest.fixture
def model(home: Path) -> str:
    return str(home / "backbone")


def facts_of(rows: object, **how: Any) -> tuple[dict[str, Any], str]:
    """What would be trained, and the notice on what was decided."""
    done = textune.train(rows, dry_run=True, **how)
    assert done.facts is not None
    [said] = [notice for notice in done.notices if notice.startswith("decided from the rows: ")]
    return done.facts.to_dict(), said


def test_rows_train_as_the_config_that_init_writes_for_their_file(
    home: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    started = init([str(tmp_path / "train.csv")], tmp_path / "config.toml", pretrained=model)
    of_file = textune.train(tmp_path / "config.toml", run=tmp_path / "file", overrides=quick(home))
    monkeypatch.chdir(tmp_path)
    alone = textune.train(pd.DataFrame(ROWS), model=model, run=tmp_path / "alone", overrides=quick(home))
    weights = [(result.run / "best" / "model.safetensors").read_bytes() for result in (of_file, alone)]
    assert weights[0] == weights[1]
    assert alone.reports["validation"].metrics == of_file.reports["validation"].metrics
    said = "; ".join(f"{key}: {started.chosen[key]}" for key in ("text", "label", "task", "rows"))
    assert alone.notices[0].startswith(f"decided from the rows: {said}; model: {model}; 2 steps")


def test_what_is_named_is_taken(model: str) -> None:
    rows = [{**row, "title": row["review"][::-1], "score": number / 7} for number, row in enumerate(ROWS)]
    facts, said = facts_of(rows, text="title", label="score", model=model)
    assert facts["problem"] == "regression" and "text: title; label: score;" in said
    facts, said = facts_of(rows, text="title", label="stars", overrides=[f"model.pretrained={model}"])
    assert facts["labels"] == ["neg", "pos"] and f"model: {model};" in said
    pairs: Any = ([row["review"] for row in rows], [row["stars"] for row in rows])
    assert facts_of(pairs, model=model)[0]["rows"] == {"train": 48, "validation": 12}


def test_several_columns_of_labels_are_several_labels(model: str) -> None:
    rows = [{"text": row["review"], "a": number % 2, "b": number % 3 == 0} for number, row in enumerate(ROWS)]
    for overrides in ({}, ["train.seed=3"]):
        facts, _ = facts_of(rows, label=["a", "b"], model=model, overrides=overrides)
        assert facts["problem"] == "multilabel" and facts["labels"] == ["a", "b"]


def test_held_out_rows_that_are_given_are_not_set_aside(model: str) -> None:
    facts, _ = facts_of(ROWS[:40], model=model, validation=ROWS[40:50], test=ROWS[50:], evaluations={"late": ROWS[:9]})
    assert facts["rows"] == {"train": 40, "validation": 10, "test": 10, "late": 9}


def test_check_takes_rows_alone(model: str) -> None:
    checked: Any = textune.check(ROWS, text="review", label="stars", model=model, timing=False)
    assert checked.ok and checked.notices[0].startswith("decided from the rows: ")


def test_a_backbone_is_proposed_where_none_is_named() -> None:
    from textune.pipeline.rowsalone import Naming, propose_for_rows

    proposed = propose_for_rows({"train": ROWS}, (), Naming())
    assert proposed.tree["model"]["pretrained"] and proposed.chosen["model"]


def test_columns_and_backbone_can_be_named_beside_a_config(home: Path, model: str) -> None:
    config = {"data": {"columns": {"text": "absent"}, "train": {"files": "absent.csv"}}}
    for overrides in (quick(home), [f"{key}={value}" for key, value in quick(home).items()]):
        result = textune.train(
            config, text="review", label="stars", model=model, train=ROWS, overrides=overrides, dry_run=True
        )
        assert result.facts is not None and result.facts.rows["train"] == 54


def test_what_does_not_fit_is_a_sentence(model: str) -> None:
    with refused(DataError, key="text", value="revue", place="train", reason="no such column") as caught:
        textune.train(ROWS, text="revue", model=model)
    assert "Did you mean 'review'?" in str(caught.value)
    with refused(DataError, key="label", value="nothing"):
        textune.train(pd.DataFrame(ROWS), label="nothing", model=model)
    with pytest.raises(DataError, match="No column looks like a label"):
        textune.train(["a fine film", "a dull film"], model=model)
    with pytest.raises(DataError, match="holds no rows"):
        textune.train([], model=model)
    with refused(InputError, key="text", value=3):
        textune.train(ROWS, text=3, model=model)  # type: ignore[arg-type]
    with refused(InputError, key="label", value=[]):
        textune.train(ROWS, label=[], model=model)
    with refused(InputError, key="model", value=3):
        textune.train(ROWS, model=3)  # type: ignore[arg-type]
    with refused(InputError, key="train", reason="given twice"):
        textune.train(ROWS, train=ROWS, model=model)


def test_labels_in_another_order_are_refused(model: str) -> None:
    frame = pd.DataFrame(ROWS)
    turned = frame.stars[::-1]
    for given in ((frame.review, turned), {"review": frame.review, "stars": turned}):
        with refused(InputError, key="train", place="train", reason="the same index in another order"):
            textune.train(given, model=model)
    # By position, where the values of the index say nothing of the order.
    for labels in (list(turned), turned.reset_index(drop=True)):
        assert facts_of((frame.review, labels), model=model)


@pytest.mark.parametrize("sets", [datasets.DatasetDict, dict])
@pytest.mark.parametrize("kind", [datasets.Dataset.from_list, pd.DataFrame, list])
def test_sets_by_name_are_to_be_named(model: str, sets: Any, kind: Any) -> None:
    with refused(InputError, key="train", reason="sets of rows by name") as caught:
        textune.train(sets({"train": kind(ROWS[:40]), "test": kind(ROWS[40:])}), model=model)
    assert '(sets["train"], test=sets["test"])' in str(caught.value)


def test_a_path_is_no_rows(model: str) -> None:
    for path in ("test.csv", Path("test.csv")):
        with refused(InputError, key="test", value="test.csv", reason="not rows in memory") as caught:
            textune.train(ROWS, test=path, model=model)
        assert 'data.test.kind = "files"' in str(caught.value)


COLUMNS: list[Any] = [
    [],
    ROWS,
    (["a"], ["b"]),
    iter(ROWS),
    pd.DataFrame(ROWS),
    {"text": ["a", "b"], "label": ["x", "y"]},
    {"data": ["a"], "model": ("x",)},
]
CONFIGS: list[Any] = [
    None,
    "config.toml",
    Path("config.toml"),
    {},
    {"extends": ["preset:tiny"]},
    {"extends": ["preset:tiny"], "train": {"seed": 1}},
    {"model": {"pretrained": "x"}},
    {"train": {"duration": "1 steps"}, "data": {"train": {"files": ["a.csv"]}}},
]


@pytest.mark.parametrize("number", range(len(COLUMNS)))
def test_rows_are_no_configuration(number: int) -> None:
    assert are_rows(COLUMNS[number])


@pytest.mark.parametrize("number", range(len(CONFIGS)))
def test_a_configuration_is_no_rows(number: int) -> None:
    assert not are_rows(CONFIGS[number])


def test_a_dictionary_of_neither_is_refused() -> None:
    with pytest.raises(ConfigError, match="text"):
        textune.train({"text": "a fine film", "label": "pos"})
