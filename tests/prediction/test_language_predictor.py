"""Documents with a language model that was saved: how likely it finds them, and what it writes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from kits.errors import refused
from kits.languagefolders import TYPES, language_card, saved_language_model
from kits.languages import plain_language
from kits.records import given_rows, read
from kits.rendered import Written, rendered_of
from torch.nn import functional
from transformers import AutoTokenizer

import textune
from textune.config.documents import MetadataSection
from textune.errors import ConfigError, DataError, InputError, ModelError
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.rendering.render import render
from textune.prediction.language import LanguagePredictor
from textune.prediction.load import load, load_scorer

TEXTS = (
    "a good film with a very good plot",
    "the plot is boring, and so is the scene",
    "é ü 漢字 made more like this",
)


def record(text: str, **metadata: str) -> dict[str, Any]:
    """In the form with a column for each type."""
    row: dict[str, Any] = {"text": text}
    for name, value in metadata.items():
        row[f"metadata_{name}"] = [{"key": name, "type": "global", "value": value}]
    return row


RECORDS = [
    record(TEXTS[0], title="A film", url="https://x.org/film"),
    record(TEXTS[1], url="https://x.org"),
    record(TEXTS[2]),
    record("a scene " * 60, title="Scenes"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_language_model(tmp_path_factory.mktemp("language"))


@pytest.fixture(scope="module")
def model(folder: Path) -> textune.TrainedModel:
    return textune.load(folder, device="cpu")


def by_transformers(folder: Path, ids: Sequence[int], scored: Sequence[bool]) -> float:
    """Log-likelihood of the scored tokens of one row, by plain transformers, in float64."""
    plain = plain_language(folder).double()
    with torch.no_grad():
        logits_LV = plain(input_ids=torch.tensor([ids])).logits[0]
    nats_L = functional.cross_entropy(logits_LV[:-1], torch.tensor(ids[1:]), reduction="none")
    return -float(nats_L[torch.tensor(scored[1:])].sum())


# --- scores ----------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_plain_transformers_chunk_by_chunk(folder: Path, model: textune.TrainedModel) -> None:
    found = model.score(RECORDS)
    assert isinstance(model._predictor, LanguagePredictor)
    section = MetadataSection(types=TYPES)
    encoder = ChunkEncoder(AutoTokenizer.from_pretrained(folder), model.card.tokens, section)
    documents = read(given_rows(RECORDS), TYPES).documents
    none = np.zeros((len(documents), len(TYPES)), bool)
    compared = encoder.compared(render(documents, section), render(documents, section, none))
    for way, name in ((compared.own, "log_likelihood"), (compared.without, "log_likelihood_without")):
        wanted = np.zeros(len(RECORDS))
        for row, example in enumerate(way.store.example.tolist()):
            here = slice(*way.store.offsets[row : row + 2].tolist())
            mask = way.store.columns["mask"][here] == 0
            wanted[way.documents[example]] += by_transformers(folder, way.store.ids[here].tolist(), mask.tolist())
        np.testing.assert_allclose([getattr(score, name) for score in found], wanted, rtol=1e-5)
    assert all(score.log_likelihood < 0 for score in found)


def test_both_likelihoods_count_the_same_characters(model: textune.TrainedModel) -> None:
    for row, score in zip(RECORDS, model.score(RECORDS), strict=True):
        text = row["text"]
        assert 0.5 * len(text) < score.characters < len(text) and score.bytes >= score.characters
        assert score.bytes - score.characters <= len(text.encode()) - len(text)
        assert score.tokens == score.tokens_without > 0, "GPT-2 cuts both alike"


def test_metadata_changes_the_likelihood_where_there_is_any(model: textune.TrainedModel) -> None:
    found = model.score(RECORDS)
    assert [score.log_likelihood != score.log_likelihood_without for score in found] == [True, True, False, True]


def test_every_form_of_records_has_the_same_scores(model: textune.TrainedModel) -> None:
    found = np.array(model.score(RECORDS[:2]))
    first_form = [
        {"text": row["text"], "metadata": [entry for name in row if name != "text" for entry in row[name]]}
        for row in RECORDS[:2]
    ]
    as_json = [
        {name: cell if name == "text" else json.dumps(cell) for name, cell in row.items()} for row in RECORDS[:2]
    ]
    for given in (first_form, as_json, pa.Table.from_pylist(RECORDS[:2]), tuple(RECORDS[:2]), iter(RECORDS[:2])):
        np.testing.assert_allclose(np.array(model.score(given)), found, rtol=1e-6)
    np.testing.assert_allclose(
        [score.log_likelihood for score in model.score([TEXTS[2]])],
        [score.log_likelihood for score in model.score(RECORDS[2:3])],
        rtol=1e-6,
    )


def test_a_document_does_not_depend_on_those_beside_it(
    model: textune.TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = np.array(model.score(RECORDS))
    monkeypatch.setattr("textune.prediction.language.DOCUMENTS_AT_ONCE", 1)
    np.testing.assert_allclose(np.array(model.score(RECORDS)), together, rtol=1e-5)
    np.testing.assert_allclose(np.array([model.score([row])[0] for row in RECORDS]), together, rtol=1e-5)


def test_a_document_without_a_scored_token_counts_nothing(model: textune.TrainedModel) -> None:
    assert model.score([]) == []
    empty, whole = model.score(["", TEXTS[0]])
    assert empty == (0, 0, 0, 0, 0, 0) and whole.tokens > 0
    assert not any(math.copysign(1, value) < 0 for value in empty), "no minus before a zero"


def test_a_model_of_texts_alone_reads_no_metadata(tmp_path: Path) -> None:
    model = textune.load(saved_language_model(tmp_path, card=language_card(types=())), device="cpu")
    found = model.score(RECORDS)
    assert [score.log_likelihood for score in found] == [score.log_likelihood_without for score in found]
    assert found == model.score([row["text"] for row in RECORDS])
    with refused(ConfigError, key="metadata", value="title", reason="without it"):
        model.generate("a", metadata={"title": "x"})


@pytest.mark.parametrize(
    ("given", "error", "key"),
    [
        ("one text", InputError, "records"),
        ({"text": "a"}, InputError, "records"),
        ([TEXTS[0], 3], InputError, "records"),
        ([{"words": "a"}], DataError, "data.columns.text"),
        ([record("a good film", timestamp="no date")], DataError, None),
    ],
    ids=["text", "record", "number", "column", "metadata"],
)
def test_what_are_no_documents_is_refused(model: textune.TrainedModel, given: Any, error: Any, key: Any) -> None:
    with refused(error, **({} if key is None else {"key": key})):
        model.score(given)
    with refused(InputError, key="pairs"):
        model.score([TEXTS[0]], [TEXTS[1]])


# --- what is written -------------------------------------------------------------------------------------------------

ASKED = {"title": "A film", "url": "https://x.org/film"}


def greedily(folder: Path, ids: list[int], num: int) -> list[int]:
    """The likeliest tokens, one forward pass of plain transformers for each."""
    plain, written = plain_language(folder), list(ids)
    for _ in range(num):
        with torch.no_grad():
            written.append(int(plain(input_ids=torch.tensor([written])).logits[0, -1].argmax()))
    return written[len(ids) :]


def test_greedy_text_is_the_likeliest_behind_the_prefix_of_training(folder: Path, model: textune.TrainedModel) -> None:
    section = MetadataSection(types=TYPES)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = record("the plot", **ASKED)
    documents = read(given_rows([row]), TYPES).documents
    chunks = ChunkEncoder(tokenizer, model.card.tokens, section).encode(render(documents, section))
    [written] = model.generate("the plot", metadata=ASKED, max_tokens=12)
    wanted = greedily(folder, chunks.store.ids.tolist(), 12)
    assert tokenizer.eos_token_id not in wanted and (written.tokens, written.ended) == (12, False)
    assert tokenizer.decode(tokenizer("the plot").input_ids + wanted) == "the plot" + written.text
    assert model.generate("the plot", max_tokens=12) != [written]


def test_defaults_of_the_backbone_change_nothing(folder: Path, model: textune.TrainedModel, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    defaults = {"repetition_penalty": 5.0, "temperature": 0.1, "top_k": 1, "do_sample": True, "max_length": 5}
    (tmp_path / "copy" / "generation_config.json").write_text(json.dumps(defaults))
    copy = textune.load(tmp_path / "copy", device="cpu")
    for options in ({}, {"temperature": 1.0, "num": 3, "seed": 1}):
        assert copy.generate("a good film", **options) == model.generate("a good film", **options)


def test_what_is_drawn_follows_from_the_seed(model: textune.TrainedModel) -> None:
    state = torch.random.get_rng_state()
    options: dict[str, Any] = {"num": 4, "max_tokens": 8, "temperature": 1.0}
    first, again = (model.generate("a", seed=3, **options) for _ in range(2))
    assert first == again and len({one.text for one in first}) > 1
    assert model.generate("a", seed=4, **options) != first
    assert torch.equal(torch.random.get_rng_state(), state)
    likeliest = model.generate("a", max_tokens=8)
    assert model.generate("a", max_tokens=8, temperature=1.0, top_p=1e-6) == likeliest


def test_more_texts_than_are_computed_at_once(folder: Path) -> None:
    few = LanguagePredictor(load_scorer(folder, device="cpu", max_tokens=64))
    options: dict[str, Any] = {"max_tokens": 20, "temperature": 1.0, "seed": 2}
    written = few.generate("a good film", num=7, **options)
    assert len(written) == 7 and len({one.text for one in written}) == 7
    assert few.generate("a good film", num=7, **options) == written


def test_writing_leaves_scores_as_they_were(model: textune.TrainedModel) -> None:
    before = model.score(RECORDS)
    model.generate("a", max_tokens=3)
    assert model.score(RECORDS) == before


def test_a_text_ends_where_the_model_ends_it(tmp_path: Path) -> None:
    """A bias makes the token that ends texts the likeliest one."""
    folder = saved_language_model(tmp_path, "phi", card=language_card(end_token="always"))
    predictor = LanguagePredictor(load_scorer(folder, device="cpu"))
    scorer = predictor.scorer
    assert predictor.generate("a good", max_tokens=5)[0].tokens == 5
    with torch.no_grad():
        scorer.model.hf.lm_head.bias[scorer.tokenizer.eos_token_id] = 1000.0
    assert predictor.generate("a good", max_tokens=5) == [("", 0, True)]


@pytest.mark.parametrize("family", ["llama", "gemma", "qwen2"])
def test_texts_of_every_family_go_on_behind_their_prompt(family: str, tmp_path: Path) -> None:
    """Tokenizers put spaces before words in their own ways; without a prompt a text begins without one."""
    folder = saved_language_model(tmp_path, family)
    model = textune.load(folder, device="cpu")
    assert isinstance(model._predictor, LanguagePredictor)
    tokenizer = model._predictor.scorer.tokenizer
    for prompt in ("a good", ""):
        [begun] = model._predictor._encoder.begun(rendered_of([Written((prompt,), (("title", "Title: x"),))]))
        wanted = greedily(folder, [*begun.before, *begun.text], 6)
        [written] = model.generate(prompt, metadata={"title": "x"}, max_tokens=6)
        told = tokenizer.decode([*begun.text, *wanted][: len(begun.text) + written.tokens])
        assert (prompt + written.text).removeprefix(" ") == told.removeprefix(" ")
        assert prompt or not (written.text.startswith(" ") and not told.startswith("  "))


@pytest.mark.parametrize(
    ("options", "key", "value", "reason"),
    [
        ({"metadata": {"titel": "x"}}, "metadata", "titel", "without it"),
        ({"metadata": {"html": "<b>"}}, "metadata", "html", "spans"),
        ({"num": 0}, "num", 0, "less than 1"),
        ({"num": 2}, "num", 2, "the same"),
        ({"max_tokens": 0}, "max_tokens", 0, "less than 1"),
        ({"max_tokens": 512}, "max_tokens", 512, "room for"),
        ({"temperature": -1.0}, "temperature", -1.0, "from 0"),
        ({"temperature": math.nan}, "temperature", None, "from 0"),
        ({"top_p": 0.0, "temperature": 1.0}, "top_p", 0.0, "share"),
        ({"top_p": 0.5}, "top_p", 0.5, "without draws"),
        ({"seed": -1}, "seed", -1, "63 bits"),
        ({"seed": 1 << 70}, "seed", 1 << 70, "63 bits"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_be_asked_for_is_refused(
    model: textune.TrainedModel, options: Any, key: str, value: Any, reason: str
) -> None:
    fields = {"key": key, "reason": reason} | ({} if value is None else {"value": value})
    with refused(ConfigError, **fields):
        model.generate("a", **options)


def test_a_value_that_cannot_be_rendered_is_refused(model: textune.TrainedModel) -> None:
    with refused(DataError, value="no date"):
        model.generate("a", metadata={"timestamp": "no date"})


def test_nothing_to_go_on_with_is_refused(model: textune.TrainedModel) -> None:
    with refused(DataError, key="prompt", reason="nothing to go on with"):
        model.generate()


# --- the wrong kind of model -----------------------------------------------------------------------------------------


def test_a_language_model_predicts_no_labels(folder: Path, model: textune.TrainedModel) -> None:
    for ask in (lambda: model.predict(TEXTS), lambda: model.predict_table([{"text": "a"}]), lambda: load(folder)):
        with refused(ModelError, reason="a language model"):
            ask()
    assert "language" in repr(model)


def test_the_card_keeps_how_documents_are_rendered(folder: Path) -> None:
    card = json.loads((folder / "textune.json").read_text())
    assert card["documents"]["types"] == list(TYPES) and card["heads"][0]["problem"] == "language"
    scorer = load_scorer(folder, device="cpu")
    assert scorer.card.documents == MetadataSection(types=TYPES)
