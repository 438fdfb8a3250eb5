"""Rates that differ between parts of a model: the depth of every weight, hand-made groups, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from kits.backbones import FAMILIES, why_no_kernels
from kits.errors import refused
from kits.models import build, known, lay_out, random_rows

from textune.config.schema import TrainSection
from textune.config.updaterules import AdamW, AdamW8bit
from textune.errors import ConfigError
from textune.model.depth import depths, head_names
from textune.model.device import Device
from textune.model.native.adamw import KernelAdamW
from textune.training.learner import learner_alone
from textune.training.updates import build_optimizer, rate_held, set_learning_rate, update_weights

STILL = {"config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}
DEPTHS: dict[str, dict[str, int]] = {
    "bert": {
        "bert.embeddings.word_embeddings.weight": 0,
        "bert.embeddings.LayerNorm.bias": 0,
        "bert.encoder.layer.0.attention.self.query.weight": 1,
        "bert.encoder.layer.1.output.LayerNorm.weight": 2,
        "bert.pooler.dense.weight": 3,
        "classifier.weight": 3,
    },
    "distilbert": {
        "distilbert.embeddings.position_embeddings.weight": 0,
        "distilbert.transformer.layer.1.ffn.lin1.weight": 2,
        "pre_classifier.weight": 3,
    },
    "albert": {
        "albert.embeddings.word_embeddings.weight": 0,
        "albert.encoder.embedding_hidden_mapping_in.weight": 0,
        "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": 1,  # which all layers share
        "albert.pooler.weight": 2,
    },
    "deberta-v2": {
        "deberta.embeddings.word_embeddings.weight": 0,
        "deberta.encoder.rel_embeddings.weight": 0,
        "deberta.encoder.layer.1.output.dense.weight": 2,
        "classifier.weight": 3,
    },
    "gpt2": {"transformer.wte.weight": 0, "transformer.h.1.mlp.c_fc.weight": 2, "transformer.ln_f.weight": 3},
    "llama": {"model.embed_tokens.weight": 0, "model.layers.0.mlp.up_proj.weight": 1, "model.norm.weight": 3},
    "modernbert": {
        "model.embeddings.tok_embeddings.weight": 0,
        "model.layers.1.mlp.Wi.weight": 2,
        "model.final_norm.weight": 5,
        "head.dense.weight": 5,
    },
    "t5": {
        "transformer.shared.weight": 0,
        "transformer.encoder.block.0.layer.0.SelfAttention.q.weight": 1,
        "transformer.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": 1,
        "transformer.decoder.block.1.layer.1.EncDecAttention.q.weight": 4,
        "transformer.decoder.final_layer_norm.weight": 5,
        "classification_head.dense.weight": 5,
    },
    "xlnet": {"transformer.word_embedding.weight": 0, "transformer.layer.1.ff.layer_1.weight": 2},
}
"""Of tiny backbones: two layers each, two and two of T5, and four of ModernBERT."""


@pytest.mark.parametrize("family", DEPTHS)
def test_a_weight_is_as_deep_as_its_module_says(family: str, tmp_path: Path) -> None:
    found, _ = depths(build(family, tmp_path).hf)
    assert {name: found[name] for name in DEPTHS[family]} == DEPTHS[family]


OTHERS: dict[str, tuple[dict[str, int], int, dict[str, int]]] = {
    "xlm": (  # four lists side by side
        {"emb_dim": 8, "n_heads": 2, "n_layers": 3, "vocab_size": 30},
        4,
        {
            "transformer.embeddings.weight": 0,
            "transformer.attentions.0.q_lin.weight": 1,
            "transformer.ffns.0.lin1.weight": 1,
            "transformer.layer_norm1.2.weight": 3,
            "transformer.attentions.2.q_lin.weight": 3,
        },
    ),
    "funnel": (  # a list of lists, and a decoder that the classifier does not have
        {"block_sizes": [1, 2], "d_model": 8, "n_head": 2, "d_head": 4, "d_inner": 8, "vocab_size": 30},
        4,
        {
            "funnel.embeddings.word_embeddings.weight": 0,
            "funnel.encoder.blocks.0.0.attention.q_head.weight": 1,
            "funnel.encoder.blocks.1.0.attention.q_head.weight": 2,
            "funnel.encoder.blocks.1.1.attention.q_head.weight": 3,
        },
    ),
    "markuplm": (  # lists of tables among the embeddings
        {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 30},
        3,
        {
            "markuplm.embeddings.xpath_embeddings.xpath_tag_sub_embeddings.1.weight": 0,
            "markuplm.encoder.layer.0.attention.self.query.weight": 1,
            "markuplm.encoder.layer.1.attention.self.query.weight": 2,
            "markuplm.pooler.dense.weight": 3,
        },
    ),
}
"""Backbones with lists of another kind: keys of a small configuration, the depth of the head and of some weights."""


@pytest.mark.parametrize("family", OTHERS)
def test_not_every_list_is_one_of_layers(family: str) -> None:
    keys, head, wanted = OTHERS[family]
    with torch.device("meta"):
        hf = transformers.AutoModelForSequenceClassification.from_config(
            transformers.AutoConfig.for_model(family, **keys)
        )
    found, top = depths(hf)
    assert top == head and {name: found[name] for name in wanted} == wanted


@pytest.mark.every_day(8)
@pytest.mark.parametrize("family", known(*FAMILIES))
def test_every_family_has_layers_between_embeddings_and_head(family: str, tmp_path: Path) -> None:
    hf = build(family, tmp_path).hf
    found, head = depths(hf)
    assert found.keys() == dict(hf.named_parameters()).keys()
    assert set(found.values()) == set(range(head + 1)) and head >= 2
    tables = [name for name, p in hf.named_parameters() if p is hf.get_input_embeddings().weight]
    assert {found[name] for name in tables} == {0}
    heads = head_names(hf)
    assert heads and {found[name] for name in heads} == {head}
    assert (
        sum(dict(hf.named_parameters())[name].numel() for name in heads) < sum(p.numel() for p in hf.parameters()) / 2
    )


def hand_made(hf: Any, section: AdamW) -> list[dict[str, Any]]:
    """A group for each weight, with the rates written out by name."""
    rates = {"embeddings": 0.7**3, "layer.0.": 0.7**2, "layer.1.": 0.7, "pooler": 1.0, "classifier": 2.5}
    groups = []
    for name, parameter in hf.named_parameters():
        (factor,) = [rate for word, rate in rates.items() if word in name]
        decay = section.weight_decay if parameter.ndim >= 2 else 0.0
        groups.append({"params": [parameter], "weight_decay": decay, "factor": factor})
    return groups


@pytest.mark.parametrize("kernels", [False, True])
def test_twenty_steps_are_those_of_hand_made_groups(kernels: bool, tmp_path: Path) -> None:
    """Against PyTorch's AdamW with a group for each weight, under a schedule and clipping; also by the compiled
    kernels."""
    if kernels and (reason := why_no_kernels()):
        pytest.skip(reason)
    section = AdamW(lr=1e-3, weight_decay=0.1, eps=1e-4, layer_decay=0.7, head_lr=2.5e-3)
    trained = []
    for ours in (True, False):
        built = build("bert", tmp_path, section=STILL)
        if kernels:
            built.model.speed_up(torch.float32, training=True)
        learner = learner_alone(built.model, TrainSection(optimizer=section), Device(torch.device("cpu"), "fp32"))
        optimizer = learner.update.optimizer
        assert isinstance(optimizer, KernelAdamW) is kernels
        if not ours:
            optimizer = torch.optim.AdamW(hand_made(built.hf, section), lr=1e-3, eps=1e-4, foreach=False)
        batch = lay_out(built, random_rows(built), (2, 3, 4, 2))
        for step in range(20):
            lr = 1e-3 * (1 - step / 20)
            if ours:
                set_learning_rate(optimizer, lr)
                assert rate_held(optimizer) == lr
            else:
                for group in optimizer.param_groups:
                    group["lr"] = lr * group["factor"]
            optimizer.zero_grad()
            built.model(batch).square().mean().backward()
            update_weights(optimizer, None, max_grad_norm=0.5)
        trained.append({name: p.detach().clone() for name, p in built.hf.named_parameters()})
    for name, weight in trained[1].items():
        torch.testing.assert_close(trained[0][name], weight, rtol=0, atol=1e-6, msg=name)


def test_groups_are_as_few_as_there_are_rates(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    plain = build_optimizer(built.model, AdamW())
    assert [(group["lr"], group["factor"]) for group in plain.param_groups] == [(5e-5, 1.0)] * 2
    rated = build_optimizer(built.model, AdamW(layer_decay=0.5, head_lr=1e-4))
    rates = {(round(group["factor"], 6), group["weight_decay"]) for group in rated.param_groups}
    assert rates == {(factor, decay) for factor in (0.125, 0.25, 0.5, 1.0, 2.0) for decay in (0.0, 0.01)}
    assert len(rated.param_groups) == 10


def test_only_what_is_trained_has_a_group(tmp_path: Path) -> None:
    built = build("bert", tmp_path, section={"freeze": ("backbone",)})
    built.model.freeze()
    optimizer = build_optimizer(built.model, AdamW(layer_decay=0.5, head_lr=1e-4))
    assert {group["factor"] for group in optimizer.param_groups} == {2.0}
    set_learning_rate(optimizer, 1e-3)
    assert {group["lr"] for group in optimizer.param_groups} == {2e-3} and rate_held(optimizer) == 1e-3


def test_the_8_bit_rule_has_the_same_rates(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    built = build("bert", tmp_path)
    optimizer = build_optimizer(built.model, AdamW8bit(layer_decay=0.5, head_lr=1e-4))
    set_learning_rate(optimizer, 1e-2)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125e-2, 0.25e-2, 0.5e-2, 1e-2, 2e-2}


def test_rates_of_what_a_model_does_not_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build("bert", tmp_path)
    monkeypatch.setattr(type(built.hf), "base_model_prefix", "other")
    with refused(ConfigError, key="train.optimizer.layer_decay", value=0.5):
        build_optimizer(built.model, AdamW(layer_decay=0.5))
    with refused(ConfigError, key="train.optimizer.head_lr", value=1e-3):
        build_optimizer(built.model, AdamW(head_lr=1e-3))
