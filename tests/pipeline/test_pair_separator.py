"""What stands between the texts of a pair, from training to plain transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.runs import Listener, reviews, write_csv
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.batches.cache import open_store
from textune.batches.tokens import TextEncoder
from textune.config.load import load_config
from textune.config.schema import TokensSection
from textune.errors import ConfigError
from textune.pipeline.build import build_parts
from textune.prediction.load import load
from textune.run.same import identity_of
from textune.run.start import Earlier

TEXTS = ["a good film", "the film is bad", "", "so dull"]
PAIRS = ["it is fine", "", "is it good", "they made a movie"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for family in ("bert", "gpt2", "llama", "qwen2"):
        tiny_backbone(family, folder / family)
    write_csv(folder / "rows.csv", [{**row, "other": row["text"][::-1][:9]} for row in reviews(48)])
    return folder


def _config(place: Path, family: str, **tokens: Any) -> dict[str, Any]:
    return {
        "data": {
            "train": {"files": [str(place / "rows.csv")]},
            "columns": {"text": "text", "text_pair": "other", "label": "label"},
        },
        "model": {"pretrained": str(place / family)},
        "tokens": {"cache": str(place / "cache"), "max_length": 32, **tokens},
        "train": {"duration": "4 steps", "batch_size": 8, "device": "cpu", "precision": "fp32"},
        "evaluate": {"bootstrap": 0},
    }


def _tokenizer(place: Path, family: str) -> Any:
    return AutoTokenizer.from_pretrained(place / family)


def _scores_of_transformers(folder: Path, texts: list[str], pairs: list[str]) -> torch.Tensor:
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForSequenceClassification.from_pretrained(folder),
    )
    with torch.no_grad():
        rows = [
            model(**tokenizer(*pair, return_tensors="pt", truncation=True)).logits
            for pair in zip(texts, pairs, strict=True)
        ]
    return torch.cat(rows).double().softmax(-1)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
@pytest.mark.parametrize(("tokens", "separator"), [({}, "\n"), ({"pair_separator": " | "}, " | ")])
def test_a_saved_model_predicts_what_plain_transformers_does(
    place: Path, tmp_path: Path, family: str, tokens: dict[str, Any], separator: str
) -> None:
    listener = Listener()
    run = textune.train(_config(place, family, **tokens), run=tmp_path / "run", tracker=listener).run
    said = [notice for notice in listener.notices if "puts nothing between the texts of a pair" in notice]
    assert len(said) == (0 if tokens else 1)
    card = json.loads((run / "best" / "textune.json").read_text())
    assert card["pair_separator"] == separator
    theirs = _scores_of_transformers(run / "best", TEXTS, [separator + pair for pair in PAIRS])
    ours = torch.from_numpy(load(run, device="cpu").score(TEXTS, PAIRS))
    torch.testing.assert_close(ours[:, 1] if ours.ndim > 1 else ours, theirs[:, 1], atol=1e-5, rtol=1e-5)
    resumed = textune.train(_config(place, family, **tokens), run=run, resume="latest")
    assert resumed.complete_before


@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_tokenizers_that_separate_get_nothing(place: Path, tmp_path: Path, family: str) -> None:
    """BERT has a token for that, and Llama begins each text anew."""
    run = textune.train(_config(place, family), run=tmp_path / "run").run
    assert json.loads((run / "best" / "textune.json").read_text())["pair_separator"] == ""
    own = textune.train(_config(place, family, pair_separator="and"), run=tmp_path / "own").run
    assert json.loads((own / "best" / "textune.json").read_text())["pair_separator"] == "and"
    theirs = _scores_of_transformers(own / "best", TEXTS, ["and" + pair for pair in PAIRS])
    ours = torch.from_numpy(load(own, device="cpu").score(TEXTS, PAIRS))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("max_length", [9, 12, 40])
@pytest.mark.parity("TW-12")
def test_tokens_are_those_of_transformers_for_the_second_text_with_its_separator(
    place: Path, family: str, max_length: int
) -> None:
    """Longest first, as everywhere: the separator counts as part of the second text, and is its head."""
    tokenizer = _tokenizer(place, family)
    texts = ["a good film", "the film is very long and dull " * 3, "bad", "the film is very long and dull " * 3]
    pairs = ["is it so", "no", "it is the film they made and made " * 2, "it is the film they made and made " * 2]
    encoder = TextEncoder(tokenizer, TokensSection(max_length=max_length, pair_separator=" . "))
    store = encoder.encode(texts, pairs)
    wanted = tokenizer(texts, [" . " + pair for pair in pairs], truncation="longest_first", max_length=max_length)
    rows = [store.ids[start:stop].tolist() for start, stop in zip(store.offsets[:-1], store.offsets[1:], strict=True)]
    assert rows == wanted["input_ids"]


@pytest.mark.parametrize("truncate", ["head", "tail", "head_tail"])
def test_the_separator_is_never_cut_off(place: Path, truncate: Any) -> None:
    tokenizer = _tokenizer(place, "gpt2")
    encoder = TextEncoder(tokenizer, TokensSection(max_length=10, truncate=truncate, pair_separator="|"))
    store = encoder.encode(["a film " * 20] * 2, ["is it " * 20, "it"])
    bar = tokenizer.convert_tokens_to_ids("|")
    for start, stop in zip(store.offsets[:-1], store.offsets[1:], strict=True):
        row = store.ids[start:stop].tolist()
        assert len(row) == 10 and row.count(bar) == 1
        assert row.index(bar) == (5 if start == 0 else 10 - 1 - len(tokenizer("it")["input_ids"]))


def test_another_separator_is_another_store(place: Path, tmp_path: Path) -> None:
    tokenizer, texts = _tokenizer(place, "gpt2"), pa.chunked_array([pa.array(["a film"], pa.large_string())])
    stores = []
    for separator in ("|", " . "):
        section = TokensSection(max_length=20, pair_separator=separator, cache=str(tmp_path / "cache"))
        stores.append(open_store(texts, texts, TextEncoder(tokenizer, section), section).ids.tolist())
        alone = open_store(texts, None, TextEncoder(tokenizer, section), section)
        assert len(list((tmp_path / "cache").iterdir())) == 1 + len(stores)  # single texts have one store for all
        assert alone.ids.tolist() == tokenizer("a film")["input_ids"]
    assert stores[0] != stores[1]


def test_a_separator_that_is_none_is_refused(place: Path) -> None:
    with refused(ConfigError, key="tokens.pair_separator", value=""):
        textune.check(_config(place, "gpt2", pair_separator=""), timing=False)
    assert textune.check(_config(place, "bert", pair_separator=""), timing=False).ok


def test_room_is_needed_for_the_separator(place: Path) -> None:
    with refused(ConfigError, key="tokens.max_length", value=4):
        textune.check(_config(place, "gpt2", pair_separator=" | . ", max_length=4), timing=False)


def test_a_model_that_goes_on_with_another_separator_is_told(place: Path, tmp_path: Path) -> None:
    run = textune.train(_config(place, "gpt2"), run=tmp_path / "run").run
    config, listener = _config(place, "gpt2", pair_separator=" | "), Listener()
    config["model"]["pretrained"] = str(run)
    textune.check(config, timing=False, tracker=listener)
    [said] = [notice for notice in listener.notices if "was trained with" in notice]
    assert 'tokens.pair_separator = "\\n" (here " | ")' in said


def test_a_run_that_began_without_a_separator_goes_on_without(place: Path) -> None:
    """Version 0.1.0 put nothing between the texts; what its model has learned is to read them so."""
    experiment = load_config(_config(place, "gpt2")).experiment
    listener = Listener()
    parts = build_parts(experiment, tracker=listener, audit=False, earlier=Earlier(pair_separator=""))
    assert identity_of(parts).content["pair_separator"] == parts.card.pair_separator == ""
    assert not [notice for notice in listener.notices if "puts nothing between" in notice]
    tokens = parts.encoder.encode(TEXTS, PAIRS)
    ids = np.split(tokens.columns["ids"], tokens.offsets[1:-1])
    assert [list(row) for row in ids] == _tokenizer(place, "gpt2")(TEXTS, PAIRS)["input_ids"]
    new = build_parts(experiment, tracker=listener, audit=False)
    assert identity_of(new).content["pair_separator"] == "\n"
