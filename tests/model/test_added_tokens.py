"""Special tokens that a run adds: found as one token each, embedded by rule and seed, saved and read back."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import WORDS, tiny_tokenizer
from kits.errors import refused
from kits.languages import open_language, plain_language, recipe_of, tiny_language_model
from kits.rendered import Tag, Written, rendered_of
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from textune.config.adapters import Lora
from textune.config.documents import MetadataSection
from textune.config.languages import language_problems
from textune.config.schema import Experiment, ModelSection, TokensSection
from textune.config.taskkinds import ConditionalLmTask
from textune.errors import ConfigError, ModelError
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.chunks.texttokens import TextTokenizer
from textune.model.addedtokens import SPREAD, add_tokens
from textune.model.device import resolve_device
from textune.model.language import load_language_model
from textune.model.recipe import Adapting, Recipe, prepare
from textune.model.tokenizer import load_tokenizer

ADDED = ("<HTML>", "</HTML>", "HtmlOn")
FAMILIES = ("gpt2", "llama", "gemma", "qwen2", "phi")
"""Tied and not, with a bias of the output and without, tokenizers that begin texts with a space and others."""


def tables(hf: Any) -> dict[str, torch.Tensor]:
    output = hf.get_output_embeddings()
    found = {"input": hf.get_input_embeddings().weight, "output": output.weight, "bias": output.bias}
    return {name: table.detach() for name, table in found.items() if table is not None}


# --- the tokenizer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_added_tokens_come_behind_all_others_and_are_single_tokens(family: str, tmp_path: Path) -> None:
    folder = tiny_language_model(family, tmp_path)
    plain = load_tokenizer(ModelSection(pretrained=str(folder)))
    tokenizer = load_tokenizer(ModelSection(pretrained=str(folder), added_tokens=ADDED))
    ids = tokenizer.convert_tokens_to_ids(list(ADDED))
    first = max(plain.get_vocab().values()) + 1
    assert ids == [first, first + 1, first + 2]
    assert TextTokenizer(tokenizer).lists(["good</HTML><HTML>HtmlOn"])[0][-3:] == [ids[1], ids[0], ids[2]]
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    text = "a good<HTML><b></HTML> film HtmlOn"
    assert again.get_vocab() == tokenizer.get_vocab() and again(text).input_ids == tokenizer(text).input_ids


@pytest.mark.parametrize("family", FAMILIES)
def test_wraps_and_prefixes_are_read_as_single_tokens(family: str) -> None:
    """A chunk of a document with a tag has each of the tokens where they were put, once."""
    tokenizer = recipe_of(family).tokenizer(WORDS)
    add_tokens(tokenizer, ADDED)
    encoder = ChunkEncoder(tokenizer, TokensSection(max_length=200), MetadataSection(types=("html",)))
    text = (Tag("<HTML><b></HTML>", 0), "a good", Tag("<HTML></b></HTML>", closes=0), " film")
    store = encoder.encode(rendered_of([Written(text, (("html", "HtmlOn"),))])).store
    html, end, on = tokenizer.convert_tokens_to_ids(list(ADDED))
    assert [int(token) for token in store.ids if token in (html, end, on)] == [on, html, end, html, end]


@pytest.mark.parametrize(
    ("token", "reason"),
    [("<|endoftext|>", "has it already"), ("a", "vocabulary"), ("Ġgood", "vocabulary")],
    ids=["special", "letter", "word"],
)
def test_a_token_that_is_there_is_refused(token: str, reason: str) -> None:
    with refused(ConfigError, key="model.added_tokens", value=token, reason=reason):
        add_tokens(tiny_tokenizer("gpt2"), ["<x>", token])


def test_numbers_that_another_token_has_are_refused() -> None:
    """The library counts tokens to number a new one; where numbers have gaps, it may meet another's."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    with refused(ModelError, key="model.added_tokens", value="<x>", reason="3 is taken"):
        add_tokens(tokenizer, ["<x>"])


@pytest.mark.parametrize(("tokens", "value"), [(["<x>", " "], " "), (["<x>", "<y>", "<x>"], "<x>"), ([""], "")])
def test_tokens_that_are_empty_or_repeated_are_refused(tokens: list[str], value: str) -> None:
    experiment = Experiment(task=ConditionalLmTask(), model=ModelSection(pretrained="x", added_tokens=tuple(tokens)))
    found = [problem for problem in language_problems(experiment) if problem.place == ("model", "added_tokens")]
    assert [problem.value for problem in found] == [value]


# --- embeddings ------------------------------------------------------------------------------------------------------


@pytest.mark.every_day(2)
@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_are_the_mean_of_the_others_and_a_draw_by_seed(family: str, tmp_path: Path) -> None:
    folder = tiny_language_model(family, tmp_path / "model")
    plain = plain_language(folder)
    hf = open_language(folder, added_tokens=ADDED).model.hf
    num = len(plain.get_input_embeddings().weight)
    tied = plain.get_input_embeddings().weight is plain.get_output_embeddings().weight
    assert (hf.get_input_embeddings().weight is hf.get_output_embeddings().weight) == tied
    assert hf.config.get_text_config().vocab_size == num + len(ADDED)
    for (name, table), old in zip(tables(hf).items(), tables(plain).values(), strict=True):
        assert len(table) == num + len(ADDED) and torch.equal(table[:num], old), name
        mean, spread = old.mean(0), old.std(0, correction=0)
        if name == "bias":
            torch.testing.assert_close(table[num:], mean.expand(len(ADDED)))
        else:
            draws = (table[num:] - mean) / (SPREAD * spread)
            assert 0.8 < float(draws.square().mean()) < 1.25 and float(draws.abs().max()) < 5
            assert len(torch.unique(draws)) == draws.numel(), "no two numbers are alike"
    again = open_language(folder, added_tokens=ADDED).model.hf
    assert all(torch.equal(one, other) for one, other in zip(hf.parameters(), again.parameters(), strict=True))
    section = ModelSection(pretrained=str(folder), added_tokens=ADDED)
    other = load_language_model(section, load_tokenizer(section), seed=2).hf.get_input_embeddings().weight
    assert torch.equal(other[:num], hf.get_input_embeddings().weight[:num])
    assert not torch.equal(other[num:], hf.get_input_embeddings().weight[num:])


def test_rows_that_no_token_had_are_used_first(tmp_path: Path) -> None:
    """Some checkpoints have more embeddings than tokens."""
    num = len(tiny_tokenizer("llama"))
    folder = tiny_language_model("llama", tmp_path, vocab_size=num + 2)
    old = tables(plain_language(folder))["input"]
    table = tables(open_language(folder, added_tokens=ADDED).model.hf)["input"]
    assert len(table) == num + 3 and torch.equal(table[:num], old[:num])
    distance = (table[num:] - old[:num].mean(0)).abs() / old[:num].std(0, correction=0)
    assert float(distance.max()) < 5 * SPREAD


def test_rows_of_tokens_that_had_none_start_by_seed_too(tmp_path: Path) -> None:
    """Some tokenizers have special tokens behind the last embedding."""
    folder = tiny_language_model("gpt2", tmp_path)
    old = tables(plain_language(folder))["input"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<image>", "<sound>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    found = []
    for other_seed in (1, 2):
        torch.manual_seed(other_seed)
        found.append(tables(open_language(folder, added_tokens=ADDED).model.hf)["input"])
    assert torch.equal(*found) and len(found[0]) == len(old) + 2 + len(ADDED)
    distance = (found[0][len(old) :] - old.mean(0)).abs() / old.std(0, correction=0)
    assert float(distance.max()) < 5 * SPREAD


def test_one_way_of_many_parts_is_another_of_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tiny_language_model("llama", tmp_path)
    whole = open_language(folder, added_tokens=ADDED).model.hf
    monkeypatch.setattr("textune.model.addedtokens._ROWS_AT_ONCE", 7)
    parts = open_language(folder, added_tokens=ADDED).model.hf
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_saved_folder_has_the_tokens_and_their_rows(family: str, tmp_path: Path) -> None:
    built = open_language(tiny_language_model(family, tmp_path / "model"), added_tokens=ADDED)
    (tmp_path / "saved").mkdir()
    built.model.save(tmp_path / "saved")
    built.tokenizer.save_pretrained(tmp_path / "saved")
    plain, again = plain_language(tmp_path / "saved"), open_language(tmp_path / "saved")
    assert again.tokenizer.get_vocab() == built.tokenizer.get_vocab()
    ids = again.tokenizer("a <HTML>good</HTML> film", return_tensors="pt").input_ids
    built.model.set_layout("padded")
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, built.model.hf(input_ids=ids).logits)


def test_freezing_embeddings_would_leave_the_new_rows_as_they_start(tmp_path: Path) -> None:
    folder = tiny_language_model("gpt2", tmp_path)
    with refused(ConfigError, key="model.freeze", value="transformer.wte.weight", reason="added tokens"):
        open_language(folder, added_tokens=ADDED, freeze=("embeddings",))
    kept = open_language(folder, added_tokens=ADDED, freeze=("embeddings",), unfreeze=("transformer.wte.weight",))
    assert "transformer.wpe.weight" in kept.model._frozen


# --- beside adapters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", ["off", "end"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_beside_adapters_embeddings_are_trained_as_a_whole(family: str, merge: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed")
    folder = tiny_language_model(family, tmp_path / "model")
    lora = Lora(r=2, merge=merge)
    built = open_language(folder, added_tokens=ADDED, lora=lora)
    recipe = Recipe(resolve_device("cpu", "fp32"), "training", adapting=Adapting(lora, 3), compiled=False)
    prepare(built.model, recipe)
    trained = {
        name for name, weight in built.model.hf.named_parameters() if weight.requires_grad and "lora_" not in name
    }
    places = {table.data_ptr() for table in tables(built.hf).values()}
    names = {name for name, weight in built.hf.named_parameters() if weight.data_ptr() in places}
    assert trained == names and len(names) == (1 if family == "gpt2" else 2)
    with torch.no_grad():
        for name, weight in built.model.hf.named_parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))), alpha=0.1)
    ids = built.tokenizer("a <HTML>good</HTML> film", return_tensors="pt").input_ids
    built.model.set_layout("padded")
    with torch.no_grad():
        wanted = built.model.eval().hf(input_ids=ids).logits
    saved = tmp_path / "saved"
    saved.mkdir()
    built.model.save(saved)
    built.tokenizer.save_pretrained(saved)
    note = built.model.adapter_note(saved)
    if note is not None:
        (saved / "textune.json").write_text('{"adapters": ' + note.model_dump_json() + "}", encoding="utf-8")
    section = ModelSection(pretrained=str(saved))
    again = load_language_model(section, load_tokenizer(section), seed=9, as_saved=True)
    if again.files.saved is not None:
        prepare(again, Recipe(resolve_device("cpu", "fp32"), adapting=Adapting(again.files.saved.lora, seed=0)))
    again.set_layout("padded")
    with torch.no_grad():
        torch.testing.assert_close(again.hf(input_ids=ids).logits, wanted, rtol=1e-5, atol=1e-5)
    if merge == "off":
        with refused(ConfigError, key="model.added_tokens", value="<y>", reason="adapters"):
            open_language(saved, added_tokens=("<y>",))
