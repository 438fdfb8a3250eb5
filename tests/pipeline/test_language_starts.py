"""Runs of language models that start from a configuration alone, or with tokens of their own: trained, resumed,
exported, used."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.errors import refused
from kits.languageruns import make_document, write_language_home
from kits.languages import plain_language
from kits.resume import end_of, same_end
from safetensors.torch import load_file
from transformers import AutoTokenizer

import textune
from textune.errors import ConfigError
from textune.exports import export
from textune.pipeline.parameters import parameters

ADDED = ("<HTML>", "</HTML>", "HtmlOn")
TOKENS = [
    'model.added_tokens=["<HTML>", "</HTML>", "HtmlOn"]',
    'metadata.wraps={ html = ["<HTML>", "</HTML>"] }',
    "metadata.types_in_prefix=true",
    'metadata.type_tokens={ html = "HtmlOn" }',
]
SHORT = ["train.duration=6 steps", "train.evaluate_every=3 steps", "train.checkpoint.at_steps=3"]
SHORT += ["train.checkpoint.every=never"]
LORA = ["model.lora.r=4"]
STARTS: dict[str, list[str]] = {
    "added": TOKENS,
    "scratch": [*TOKENS, "model.pretrained=bare", "model.init=scratch"],
    "lora": [*TOKENS, *LORA],
    "adapters": [*TOKENS, *LORA, "model.lora.merge=off"],
    "plain lora": LORA,
}
DOCUMENTS = [make_document(number) for number in range(200, 208)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_language_home(tmp_path_factory.mktemp("home"))
    shutil.copytree(folder / "model", folder / "bare")
    (folder / "bare" / "model.safetensors").unlink()
    return folder


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture(scope="module", params=STARTS)
def trained(request: pytest.FixtureRequest, home: Path) -> tuple[str, Path]:
    if "lora" in request.param or request.param == "adapters":
        pytest.importorskip("peft", reason="peft is not installed")
    run = home / request.param.replace(" ", "-")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        textune.train(home / "config.toml", run=run, overrides=[*SHORT, *STARTS[request.param]])
    return request.param, run


def likelihoods(folder: Path) -> np.ndarray:
    return np.array(textune.load(folder, device="cpu").score(DOCUMENTS))


@pytest.mark.every_day(1)
def test_a_run_that_goes_on_comes_to_the_same_bits(home: Path, trained: tuple[str, Path]) -> None:
    start, run = trained
    overrides = [*SHORT, *STARTS[start]]
    checkpoint = run / "checkpoints" / "step-3"
    again = run.with_name(f"{run.name}-again")  # a card says where a backbone is as seen from there
    textune.train(home / "config.toml", run=again, overrides=overrides, resume=checkpoint)
    one, other = end_of(again), end_of(run)
    assert one.lines
    same_end(one, replace(other, lines=other.lines[-len(one.lines) :]))


@pytest.mark.every_day(1)
def test_the_saved_model_knows_the_tokens_and_plain_transformers_opens_it(trained: tuple[str, Path]) -> None:
    start, run = trained
    best, first = run / "best", max(AutoTokenizer.from_pretrained("model").get_vocab().values()) + 1
    tokenizer = AutoTokenizer.from_pretrained(best)
    if start != "plain lora":
        assert tokenizer.convert_tokens_to_ids(list(ADDED)) == [first, first + 1, first + 2]
    found = likelihoods(run)
    assert (found[:, :2] < 0).all() and (found[:, 0] != found[:, 1]).all()
    [written] = textune.load(run, device="cpu").generate("the plot", metadata={"title": "the film"}, max_tokens=5)
    assert written.tokens == 5
    if start != "adapters":
        plain = plain_language(best)
        assert len(plain.get_input_embeddings().weight) == len(tokenizer)
        assert plain.get_input_embeddings().weight is plain.get_output_embeddings().weight


@pytest.mark.every_day(1)
def test_a_checkpoint_is_exported_as_the_model_of_its_step(trained: tuple[str, Path], tmp_path: Path) -> None:
    """The last one is that of the best model wherever training went on to help."""
    start, run = trained
    done = export(run / "checkpoints" / "step-6", tmp_path / "last")
    assert done.step == 6
    exported = textune.load(tmp_path / "last", device="cpu")
    best = textune.load(run, device="cpu")
    assert best.card.step == 6, "it still learns"
    np.testing.assert_allclose(np.array(exported.score(DOCUMENTS)), np.array(best.score(DOCUMENTS)), rtol=1e-5)
    if start in ("added", "scratch"):
        ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "last", run / "best"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    export(run, tmp_path / "best")
    np.testing.assert_allclose(likelihoods(tmp_path / "best"), likelihoods(run), rtol=1e-5)


def test_adapters_are_merged_into_a_plain_folder(home: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed")
    words = [*SHORT, *STARTS["adapters"], "train.duration=3 steps"]
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=words)
    export(tmp_path / "run", tmp_path / "merged", form="merged")
    np.testing.assert_allclose(likelihoods(tmp_path / "merged"), likelihoods(tmp_path / "run"), rtol=1e-4)
    plain = plain_language(tmp_path / "merged")
    assert len(plain.get_input_embeddings().weight) == len(AutoTokenizer.from_pretrained(tmp_path / "merged"))


def test_a_run_starts_from_a_run_with_its_tokens(home: Path, tmp_path: Path) -> None:
    words = [*SHORT, "train.duration=3 steps"]
    textune.train(home / "config.toml", run=tmp_path / "first", overrides=[*words, *TOKENS])
    again = [*words, *TOKENS[1:], f"model.pretrained={tmp_path / 'first'}"]
    textune.train(home / "config.toml", run=tmp_path / "second", overrides=again)
    first, second = (AutoTokenizer.from_pretrained(tmp_path / run / "best") for run in ("first", "second"))
    assert first.get_vocab() == second.get_vocab()
    with refused(ConfigError, key="model.added_tokens", value="<HTML>", reason="has it already"):
        textune.train(home / "config.toml", run=tmp_path / "third", overrides=[*again, TOKENS[0]])
    assert not (tmp_path / "third").exists()


BAD: dict[str, tuple[str, Any, list[str]]] = {
    "weights that would be passed over": ("model.init", "scratch", ["model.init=scratch"]),
    "a token of the vocabulary": ("model.added_tokens", "a", ['model.added_tokens=["<x>", "a"]']),
    "embeddings that are frozen": ("model.freeze", "transformer.wte.weight", [TOKENS[0], "model.freeze=embeddings"]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_words_and_leaves_no_run(home: Path, tmp_path: Path, what: str) -> None:
    key, value, words = BAD[what]
    with refused(ConfigError, key=key, value=value):
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=[*SHORT, *words])
    assert not (tmp_path / "run").exists()


def test_what_info_counts_is_what_the_run_has(trained: tuple[str, Path]) -> None:
    start, run = trained
    manifest = json.loads((run / "manifest.json").read_text())["facts"]
    for source in (run, Path("config.toml")):
        found = parameters(source, [] if source == run else [*SHORT, *STARTS[start]])
        whole = found.whole
        assert (whole.total, whole.trained) == (manifest["parameters"], manifest["parameters_trained"])
        parts = ["embeddings", "layer 0", "layer 1", "after the layers"]
        assert [part.name for part in found.parts] == parts and found.notes == ()
