"""Rows that come as token ids train the same bits as the texts that the ids were made of, and say what is wrong with
them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kits.runs import Listener, reviews, write_config, write_jsonl
from safetensors.numpy import load_file
from transformers import AutoTokenizer

import textune
from textune.errors import ConfigError, DataError

CONFIG = """
[data.train]
files = "{name}-train.jsonl"
[data.validation]
kind = "files"
files = "{name}-valid.jsonl"
[data.columns]
{columns}
[model]
pretrained = "backbone"
[train]
duration = "3 steps"
[tokens]
max_length = 12
"""


def _encoded(tokenizer: Any, row: Mapping[str, Any], *, pair: bool, pad: bool) -> dict[str, Any]:
    second = {"text_pair": row["second"]} if pair else {}
    made = tokenizer(row["text"], **second, truncation=True, max_length=12, padding="max_length" if pad else False)
    return {**made, "label": row["label"]}


@pytest.fixture(scope="module", params=["single", "pair"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows as texts, as ids, as padded ids, and as ids beside their texts."""
    pair = request.param == "pair"
    folder = write_config(tmp_path_factory.mktemp("ids"), "")
    tokenizer = AutoTokenizer.from_pretrained(folder / "backbone")
    for part, number in (("train", 24), ("valid", 12)):
        rows = [row | {"second": f"a movie {row['text']}"} for row in reviews(number, seed=number)]
        ids = [_encoded(tokenizer, row, pair=pair, pad=False) for row in rows]
        padded = [_encoded(tokenizer, row, pair=pair, pad=True) for row in rows]
        write_jsonl(folder / f"texts-{part}.jsonl", rows)
        write_jsonl(folder / f"ids-{part}.jsonl", ids)
        write_jsonl(folder / f"padded-{part}.jsonl", padded)
        write_jsonl(folder / f"both-{part}.jsonl", [row | more for row, more in zip(rows, ids, strict=True)])
    second = 'text_pair = "second"' if pair else ""
    for name in ("texts", "ids", "padded", "both"):
        columns = second if name == "texts" else f'tokens = "input_ids"\n{second}'
        config = CONFIG.format(name=name, columns=columns)
        (folder / f"{name}.toml").write_text(f'extends = "quick.toml"\n{config}', encoding="utf-8")
        textune.train(folder / f"{name}.toml", run=folder / "runs" / name)
    return folder


@pytest.mark.every_day(1)
@pytest.mark.parametrize("name", ["ids", "padded", "both"])
def test_encoded_rows_train_the_same_bits_as_the_texts_they_came_from(place: Path, name: str) -> None:
    runs = place / "runs"
    texts, ids = (load_file(runs / run / "best" / "model.safetensors") for run in ("texts", name))
    assert texts.keys() == ids.keys()
    assert all((texts[key] == ids[key]).all() for key in texts)
    assert _losses(runs / "texts") == _losses(runs / name)


def _losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


@pytest.mark.every_day(1)
def test_a_model_of_encoded_rows_is_evaluated_and_asked_as_one_of_texts(place: Path) -> None:
    runs = place / "runs"
    own = textune.evaluate(runs / "ids").metrics
    assert own == textune.evaluate(runs / "texts").metrics
    assert textune.evaluate(runs / "ids", data=place / "texts-valid.jsonl").metrics == own
    words = (["good film"], ["a movie"]) if _is_pair(place) else (["good film"],)
    assert textune.load(runs / "ids").predict(*words) == textune.load(runs / "texts").predict(*words)


def _is_pair(place: Path) -> bool:
    return "text_pair" in (place / "texts.toml").read_text(encoding="utf-8")


def test_a_report_decodes_rows_without_text(place: Path) -> None:
    report = (place / "runs" / "ids" / "report.json").read_text(encoding="utf-8")
    assert "film" in report


@pytest.mark.parametrize(("shift", "num"), [(0, 0), (1, 1)], ids=["own", "other"])
def test_ids_of_another_tokenizer_are_said_where_the_texts_are_known(
    place: Path, tmp_path: Path, shift: int, num: int
) -> None:
    rows = [json.loads(line) for line in (place / "both-train.jsonl").read_text(encoding="utf-8").splitlines()]
    other = [row | {"input_ids": [token + shift for token in row["input_ids"]]} for row in rows]
    listener, file = Listener(), write_jsonl(tmp_path / "rows.jsonl", other)
    overrides = [f"data.train.files={file}"]
    textune.train(place / "both.toml", overrides=overrides, run=tmp_path / "run", dry_run=True, tracker=listener)
    said = [one for one in listener.notices if "data.columns.tokens" in one]
    assert len(said) == num
    assert all("of 24 rows have other token ids" in one for one in said)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return write_config(
        tmp_path, CONFIG.format(name="ids", columns='tokens = "input_ids"').replace("max_length = 12", "")
    )


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"input_ids": [2, 999999, 3]}, "token id 999999 is not one of the backbone's tokenizer"),
        ({"input_ids": [2, -5, 3]}, "something else than token ids"),
        ({"input_ids": []}, "holds no token id"),
        ({"input_ids": None}, "holds no token id"),
        ({"input_ids": [2, 5, 3], "attention_mask": [0, 0, 0]}, "holds no token id"),
        ({"input_ids": [2, 5, 3], "attention_mask": [1, 0, 1]}, "leaves out tokens between others"),
        ({"input_ids": [2, 5, 3], "attention_mask": [1, 1]}, "has 2 numbers, but 'input_ids' has 3 tokens"),
        ({"input_ids": [2, 5, 3], "attention_mask": [1, 2, 1]}, "something else than 0 and 1"),
        ({"input_ids": [2] * 40}, "40 tokens, more than tokens.max_length = 24"),
    ],
    ids=["unknown", "negative", "empty", "null", "masked", "hole", "short mask", "no mask", "long"],
)
def test_a_row_of_ids_that_cannot_be_used_is_named(bare: Path, row: dict[str, Any], said: str) -> None:
    mask = {"attention_mask": [1, 1, 1]} if "attention_mask" in row else {}
    good = {"input_ids": [2, 5, 3], "label": "pos", **mask}
    for part in ("train", "valid"):
        write_jsonl(bare / f"ids-{part}.jsonl", [good, good | {"label": "neg"}, good | row])
    with pytest.raises(DataError) as raised:
        textune.train(bare / "config.toml", run=bare / "run")
    assert said in str(raised.value)
    assert raised.value.place == "ids-train.jsonl, line 3"


def test_a_column_that_holds_no_lists_is_refused(bare: Path) -> None:
    for part in ("train", "valid"):
        write_jsonl(bare / f"ids-{part}.jsonl", [{"input_ids": "2 5 3", "label": "pos"}] * 2)
    with pytest.raises(DataError, match="not lists of whole numbers"):
        textune.train(bare / "config.toml", run=bare / "run")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.columns.template={text}", "data.columns.template"),
        ("tokens.long=windows", "tokens.long"),
        ('data.metadata=["source"]', "data.metadata"),
        ("data.columns.label=input_ids", "data.columns.tokens"),
    ],
    ids=["template", "windows", "metadata", "label"],
)
def test_token_ids_go_with_no_key_that_needs_the_text(bare: Path, change: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        textune.train(bare / "config.toml", overrides=[change], run=bare / "run")
