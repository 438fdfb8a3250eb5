"""Layers that are computed again in the backward pass: the same gradients, from less memory."""

from pathlib import Path

import pytest
import torch
from kits.models import UNEVEN, Built, build, gradients, lay_out, random_rows, require_kernels
from torch.nn import functional

from textune.errors import ModelError
from textune.model import budget
from textune.model.device import Device
from textune.model.recompute import checkpoint_gradients

CPU = Device(torch.device("cpu"), "fp32")
CHECKPOINTED = [
    (family, "packed") for family in ("bert", "modernbert", "llama", "distilbert", "gpt2", "gemma3", "deberta-v2")
]
CHECKPOINTED += [(family, "padded") for family in ("bert", "modernbert", "llama", "t5", "bart", "deberta-v2")]


def assert_checkpointing_changes_no_gradient(built: Built, layout: str = "packed") -> None:
    """Dropout on: what is computed again drops the same numbers."""
    built.model.train()
    rows = random_rows(built)
    batch = lay_out(built, rows, UNEVEN if layout == "packed" else None)
    labels = torch.arange(len(rows)) % 3

    def gradients_of_one_pass(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return gradients(built.model, functional.cross_entropy(built.model(batch), labels))

    plain, other = gradients_of_one_pass(7), gradients_of_one_pass(8)
    assert any(not torch.allclose(other[name], plain[name]) for name in plain), "dropout is off"
    saved = budget._saved_by_forward(built.model, CPU, batch)
    checkpoint_gradients(built.model)
    again = gradients_of_one_pass(7)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=1e-6)
    assert budget._saved_by_forward(built.model, CPU, batch) < 0.8 * saved


@pytest.mark.every_day(5)
@pytest.mark.parametrize(("family", "layout"), CHECKPOINTED)
@pytest.mark.parity("TW-14")
def test_checkpointed_gradients_are_the_gradients(family: str, layout: str, tmp_path: Path) -> None:
    names = {"t5": "dropout_rate", "gpt2": "attn_pdrop", "bert": "attention_probs_dropout_prob"}
    names["deberta-v2"] = "hidden_dropout_prob"
    built = build(family, tmp_path, section={"attention": layout}, **{names.get(family, "attention_dropout"): 0.3})
    assert_checkpointing_changes_no_gradient(built, layout)


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama", "deberta-v2"])
def test_layers_on_compiled_kernels_are_checkpointed_too(family: str, tmp_path: Path) -> None:
    require_kernels()
    key = "hidden_dropout_prob" if family == "deberta-v2" else "attention_dropout"
    built = build(family, tmp_path, section={"compile": "on"}, **{key: 0.3})
    built.model.speed_up(torch.float32, training=True)
    assert_checkpointing_changes_no_gradient(built)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_layers_that_torch_compiles_are_checkpointed_too(tmp_path: Path) -> None:
    built = build("bert", tmp_path, section={"attention": "padded"}, attention_probs_dropout_prob=0.3)
    for layer in built.hf.bert.encoder.layer:
        layer.compile(dynamic=True, backend="aot_eager")
    try:
        assert_checkpointing_changes_no_gradient(built, "padded")
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("family", ["albert", "xlnet"])
def test_families_that_cannot_be_checkpointed_are_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=rf"gradient_checkpointing = true, but transformers cannot do that for {family}"
    ):
        checkpoint_gradients(build(family, tmp_path).model)


def test_a_frozen_backbone_stays_frozen_under_checkpointing(tmp_path: Path) -> None:
    built = build("bert", tmp_path, section={"freeze": ["backbone"]})
    built.model.freeze()
    checkpoint_gradients(built.model)
    built.model.train()
    batch = lay_out(built, random_rows(built), UNEVEN)
    backbone_requires_grad: list[bool] = []
    built.hf.bert.encoder.register_forward_hook(
        lambda *given: backbone_requires_grad.append(given[-1].last_hidden_state.requires_grad)
    )
    assert built.model(batch).requires_grad
    assert backbone_requires_grad == [False]


def test_checkpointing_is_not_saved_with_the_model(tmp_path: Path) -> None:
    built = build("bert", tmp_path / "backbone")
    (tmp_path / "plain").mkdir()
    (tmp_path / "checkpointed").mkdir()
    built.model.save(tmp_path / "plain")
    checkpoint_gradients(built.model)
    built.model.save(tmp_path / "checkpointed")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "checkpointed" / name).read_bytes()
