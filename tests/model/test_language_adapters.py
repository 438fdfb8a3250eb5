"""Adapters in language models: the output embedding stays as it is, unless it is a target and no table of token
embeddings."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.errors import refused
from kits.languages import (
    build_language,
    masked_batch,
    masks_of,
    open_language,
    plain_language,
    plain_nats,
    saved_copy,
)
from kits.models import UNEVEN, Built, assert_same_gradients, gradients, random_rows, require_kernels, without_dropout

from textune.config.adapters import Lora, Quantize
from textune.errors import ConfigError
from textune.model.lowbits import low_bit_layers
from textune.model.targets import output_layer

peft = pytest.importorskip("peft", reason="the extra `lora` is not installed")

from kits.adapters import plainly, randomised, wrapped_by_peft  # noqa: E402

UNTIED: dict[str, Any] = {"tie_word_embeddings": False}
EVERYWHERE = Lora(r=4, alpha=8, targets=("all-linear",))
WORDS_TOO = Lora(r=4, alpha=8, targets=("q_proj", "lm_head"))


@pytest.mark.parametrize("compile", ["off", "on"])
@pytest.mark.parametrize(
    "family, lora, keys", [("gpt2", EVERYWHERE, {}), ("llama", EVERYWHERE, UNTIED), ("llama", WORDS_TOO, UNTIED)]
)
def test_adapters_are_those_of_peft(
    family: str, lora: Lora, keys: dict[str, Any], compile: str, tmp_path: Path
) -> None:
    if compile == "on":
        require_kernels()
    built = build_language(family, tmp_path / "model", section={"compile": compile}, **keys)
    wrapper = wrapped_by_peft(built, lora, tmp_path / "plain", copy=saved_copy)
    built.model.speed_up(torch.float32, training=True)
    for module in (built.model, wrapper):
        without_dropout(module.train())
    assert built.model.adapters is not None
    assert ("lm_head" in built.model.adapters.layers) == (lora is WORDS_TOO)
    rows = random_rows(built)
    masks = masks_of(rows)
    theirs_B = plain_nats(wrapper, built, rows, masks)
    theirs = {plainly(name): gradient for name, gradient in gradients(wrapper, theirs_B.mean()).items()}
    ours_B1 = built.model(masked_batch(built, rows, masks, UNEVEN))
    torch.testing.assert_close(ours_B1.squeeze(1), theirs_B, rtol=1e-6, atol=1e-5)
    assert_same_gradients(gradients(built.hf, ours_B1.mean()), theirs)


def test_words_that_are_tied_to_token_embeddings_have_no_adapter(tmp_path: Path) -> None:
    built = build_language("gpt2", tmp_path)
    assert built.hf.lm_head.weight is built.hf.transformer.wte.weight
    with refused(ConfigError, key="model.lora.targets", value="lm_head", reason="lm_head"):
        built.model.adapt(Lora(r=4, targets=("c_attn", "lm_head")), seed=1)


@pytest.mark.parametrize("lora", [EVERYWHERE, WORDS_TOO])
def test_saved_adapters_open_in_peft_and_here_and_go_into_the_weights(lora: Lora, tmp_path: Path) -> None:
    built = build_language("llama", tmp_path / "model", **UNTIED)
    built.model.adapt(lora.model_copy(update={"merge": "off"}), seed=1)
    built.model.freeze()
    randomised(built.hf)
    rows = random_rows(built)
    masks = masks_of(rows)
    expected = nats(built, rows, masks)
    for name, merge in (("adapters", False), ("merged", True)):
        (tmp_path / name).mkdir()
        built.model.save(tmp_path / name, merge=merge)
        built.tokenizer.save_pretrained(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks for a name that transformers is giving up
        wrapper = peft.PeftModel.from_pretrained(plain_language(tmp_path / "model"), tmp_path / "adapters")
    assert wrapper.peft_config["default"].task_type == "CAUSAL_LM"
    with torch.no_grad():
        for plain in (wrapper, plain_language(tmp_path / "merged")):
            torch.testing.assert_close(plain_nats(plain, built, rows, masks), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nats(open_language(tmp_path / "merged"), rows, masks), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nats(open_language(tmp_path / "adapters"), rows, masks), expected, rtol=1e-5, atol=1e-5)


def nats(built: Built, rows: list[list[int]], masks: list[list[int]]) -> torch.Tensor:
    with torch.no_grad():
        return built.model(masked_batch(built, rows, masks, UNEVEN)).squeeze(1)


@pytest.mark.parametrize("keys", [{}, UNTIED])
def test_words_keep_all_their_bits(keys: dict[str, Any], tmp_path: Path) -> None:
    built = build_language("llama", tmp_path, **keys)
    assert output_layer(built.hf) is built.hf.lm_head
    layers = low_bit_layers(built.hf, whole=())
    assert "lm_head" not in layers and len(layers) == 14
    pytest.importorskip("bitsandbytes", reason="the extra `qlora` is not installed")
    built.model.quantize(Quantize(bits=8), torch.float32)
    built.model.adapt(EVERYWHERE, seed=1)
    built.model.freeze()
    outputs = built.model(masked_batch(built, [[5, 6, 7]], [[0, 0, 0]]))
    outputs.sum().backward()
    trained = {name for name, p in built.hf.named_parameters() if p.grad is not None}
    assert trained and all(".lora_" in name for name in trained)


@pytest.mark.parametrize("pattern", ["embeddings", "lm_head*", "backbone"])
def test_what_is_frozen_stays(pattern: str, tmp_path: Path) -> None:
    built = build_language("llama", tmp_path, section={"freeze": [pattern]}, **UNTIED)
    built.model.freeze()
    built.model.train()
    rows = random_rows(built)
    built.model(masked_batch(built, rows, masks_of(rows), UNEVEN)).sum().backward()
    frozen = {name for name, p in built.hf.named_parameters() if p.grad is None}
    assert frozen == set(built.model._frozen) and frozen
