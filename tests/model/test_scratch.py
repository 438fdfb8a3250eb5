"""Language models drawn from a configuration alone: the same by seed, as transformers draws them, and not where there
are weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from kits.backbones import tiny_tokenizer
from kits.errors import refused
from kits.languages import open_language, plain_language, tiny_language_model

from textune.config.adapters import Lora
from textune.config.languages import language_problems
from textune.config.schema import Experiment, ModelSection
from textune.config.taskkinds import ConditionalLmTask
from textune.errors import ConfigError, ModelError
from textune.model.language import load_language_model, require_language_model
from textune.model.tokenizer import load_tokenizer


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with a configuration and a tokenizer, and no weights."""
    folder = tiny_language_model("llama", tmp_path / "bare")
    (folder / "model.safetensors").unlink()
    return folder


def test_weights_follow_from_the_seed_and_are_those_that_transformers_draws(bare: Path) -> None:
    section = ModelSection(pretrained=str(bare), init="scratch")
    require_language_model(section)
    tokenizer = load_tokenizer(section)
    state = torch.random.get_rng_state()
    one, again = (load_language_model(section, tokenizer, seed=5) for _ in range(2))
    other = load_language_model(section, tokenizer, seed=6)
    assert torch.equal(torch.random.get_rng_state(), state), "the draws of others are left alone"
    torch.manual_seed(5)
    plain = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(bare))
    for (name, weight), same, theirs in zip(
        one.hf.named_parameters(), again.hf.parameters(), plain.parameters(), strict=True
    ):
        assert torch.equal(weight, same) and torch.equal(weight, theirs) and weight.dtype == torch.float32, name
    assert not torch.equal(one.hf.get_input_embeddings().weight, other.hf.get_input_embeddings().weight)


def test_what_was_drawn_is_saved_as_a_plain_folder(bare: Path, tmp_path: Path) -> None:
    built = open_language(bare, init="scratch")
    (tmp_path / "saved").mkdir()
    built.model.save(tmp_path / "saved")
    plain = plain_language(tmp_path / "saved")
    for one, other in zip(built.model.hf.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_vocabulary_grows_for_added_tokens_whose_rows_are_drawn_as_all_others(bare: Path) -> None:
    num = len(tiny_tokenizer("llama"))
    built = open_language(bare, init="scratch", added_tokens=("<HTML>", "</HTML>"))
    table = built.model.hf.get_input_embeddings().weight.detach()
    assert len(table) == num + 2 == built.model.hf.config.vocab_size
    assert 0.5 < float(table[num:].std() / table[:num].std()) < 2
    assert built.tokenizer.convert_tokens_to_ids(["<HTML>", "</HTML>"]) == [num, num + 1]


def test_a_folder_with_weights_is_refused(tmp_path: Path) -> None:
    folder = tiny_language_model("gpt2", tmp_path)
    section = ModelSection(pretrained=str(folder), init="scratch")
    with refused(ConfigError, key="model.init", value="scratch", place=str(folder), reason="model.safetensors"):
        require_language_model(section)
    with refused(ConfigError, key="model.init", value="scratch", place=str(folder), reason="model.safetensors"):
        load_language_model(section, load_tokenizer(section), seed=0)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.safetensors", "model.safetensors.index.json"])
def test_weights_of_any_form_are_refused(bare: Path, name: str) -> None:
    (bare / name).write_text("{}")
    with refused(ConfigError, key="model.init", value="scratch", place=str(bare), reason=name):
        require_language_model(ModelSection(pretrained=str(bare), init="scratch"))


def test_a_folder_without_weights_is_refused_where_they_are_to_be_read(bare: Path) -> None:
    with refused(ModelError):
        require_language_model(ModelSection(pretrained=str(bare)))


def test_a_tokenizer_with_more_tokens_than_the_vocabulary_is_refused(bare: Path, tmp_path: Path) -> None:
    num = len(tiny_tokenizer("llama"))
    with refused(ModelError, key="model.config.vocab_size", value=100, reason=f"{num} token ids"):
        open_language(bare, init="scratch", config={"vocab_size": 100})
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(bare / "config.json", other)
    gpt2 = tiny_tokenizer("gpt2")
    gpt2.save_pretrained(tmp_path / "gpt2")
    config = {"vocab_size": 512, "bos_token_id": 0, "eos_token_id": 0}
    built = open_language(other, init="scratch", tokenizer=str(tmp_path / "gpt2"), config=config)
    assert len(built.model.hf.get_input_embeddings().weight) == 512 > len(gpt2)


def test_a_configuration_of_which_no_model_can_be_made_is_refused(bare: Path) -> None:
    with refused(ModelError, key="model.pretrained", value=str(bare)):
        open_language(bare, init="scratch", config={"hidden_act": "nothing"})


def test_a_number_that_the_configuration_refuses_is_named(bare: Path) -> None:
    with refused(ConfigError, key="model.config.num_attention_heads", value=0):
        open_language(bare, init="scratch", config={"num_attention_heads": 0})


def test_nothing_can_be_adapted_beside_weights_that_mean_nothing() -> None:
    model = ModelSection(pretrained="x", init="scratch", lora=Lora())
    found = list(language_problems(Experiment(task=ConditionalLmTask(), model=model)))
    assert [problem.value for problem in found if problem.place == ("model", "init")] == ["scratch"]
