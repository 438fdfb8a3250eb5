"""Compiled layers: the same numbers and names, few compilations, and a word of why not. Without a GPU the graphs are
run as they are, which proves everything but the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.flash import flash_attention_on_cpu, on_gpu
from kits.models import Built, build, gradients, lay_out, random_rows, without_dropout
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from textune.errors import ModelError
from textune.model import attention, compiled, varlen
from textune.model.attention import PACKED, packed_attention
from textune.model.compiled import MIN_STEPS, compile_on_gpu, compiler_obstacle

# While tracing, torch reads `.grad` of a layer's inputs and hides its own warning, which it cannot where warnings are
# errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

CPU = torch.device("cpu")
LONG_RUN = {"dtype": torch.bfloat16, "num_steps": MIN_STEPS}
BATCHES = ((1, 1, 2, 3, 5, 9, 23), (4, 5, 6), (2, 2, 70, 70))


@dataclass
class Compiler:
    """Stands for the compiler: runs the graphs as they are, and counts them."""

    with_backward: bool = False
    """Split them into graphs of the forward and the backward pass, as the real one does; slower."""
    num_graphs: int = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        self.num_graphs += 1
        return aot_eager(graph, inputs) if self.with_backward else graph.forward


@pytest.fixture(autouse=True)
def own_state() -> Iterator[None]:
    """Compiled code, bounds and registered functions are global in torch and transformers."""
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = limit
    ALL_ATTENTION_FUNCTIONS.register(PACKED, packed_attention)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    compiler = Compiler()
    monkeypatch.setattr(compiled, "BACKEND", compiler)
    monkeypatch.setattr(compiled, "compiler_obstacle", lambda device: "")
    # Every batch gets filler, so that its number of tokens is one of few.
    monkeypatch.setattr(attention, "ROUND_FROM", 1)
    yield compiler


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flash attention of variable length, on its stand-in."""
    monkeypatch.setattr(varlen, "varlen_obstacle", lambda *arguments: "")
    with flash_attention_on_cpu():
        yield


def results(built: Built, device: torch.device = CPU, *, two_groups: bool = False) -> list[torch.Tensor]:
    """Logits and gradients of several batches while training, then logits while evaluating."""
    found = []
    for index, lengths in enumerate(BATCHES):
        rows = random_rows(built, lengths, seed=index)
        groups = (1 + index % 2, len(rows) - 1 - index % 2) if two_groups else (1,) * len(rows)
        batch = lay_out(built, rows, groups if built.model.layout == "packed" else None).to(device)
        labels = (torch.arange(len(rows)) % 3).to(device)
        built.model.train()
        logits_BC = built.model(batch)
        grads = gradients(built.hf, functional.cross_entropy(logits_BC, labels))
        built.model.eval()
        with torch.inference_mode():
            found += [
                logits_BC.detach(),
                torch.cat([grad.flatten() for grad in grads.values()]),
                built.model(batch).clone(),
            ]
    return found


# --- what it computes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "num_kinds", "with_backward"),
    [
        ("bert", 1, False),
        pytest.param("bert", 1, True, marks=pytest.mark.slow),
        pytest.param("modernbert", 3, True, marks=pytest.mark.slow),
        pytest.param("gemma3", 2, True, marks=pytest.mark.slow),
    ],
)
def test_compiled_layers_compute_the_same_with_one_graph_for_each_kind_of_layer(
    family: str, num_kinds: int, with_backward: bool, tmp_path: Path, compiler: Compiler, flash: None
) -> None:
    """ModernBERT's first layer has no norm, and its global and local ones differ, as do Gemma's."""
    compiler.with_backward = with_backward
    built = build(family, tmp_path)
    without_dropout(built.hf)
    names = list(built.model.state_dict())
    expected = results(built)
    num_layers = built.hf.config.num_hidden_layers
    assert compile_on_gpu(built.hf, mode="auto", **LONG_RUN) == f"{num_layers} layers compiled"
    for ours, theirs in zip(results(built), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    # Training and evaluation; not one for each batch.
    assert counters["stats"]["unique_graphs"] == 2 * num_kinds
    assert not counters["graph_break"]
    assert list(built.model.state_dict()) == names


def test_autocast_and_dropout_are_compiled_along(tmp_path: Path, compiler: Compiler, flash: None) -> None:
    built = build("bert", tmp_path)
    built.model.train()
    compile_on_gpu(built.hf, mode="auto", **LONG_RUN)
    batch = lay_out(built, random_rows(built, (3, 4, 5)), (1, 1, 1))

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return built.model(batch)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert compiler.num_graphs > 0


@pytest.mark.slow
def test_a_padded_backbone_is_compiled_too(tmp_path: Path, compiler: Compiler) -> None:
    built = build("deberta-v2", tmp_path, section={"attention": "padded"})
    without_dropout(built.hf)
    assert built.model.layout == "padded"
    expected = results(built)
    assert compile_on_gpu(built.hf, mode="auto", **LONG_RUN) == "2 layers compiled"
    for ours, theirs in zip(results(built), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert compiler.num_graphs > 0


def test_a_saved_model_is_the_same_after_compiling(tmp_path: Path, compiler: Compiler, flash: None) -> None:
    built = build("bert", tmp_path / "backbone")
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        built.model.save(tmp_path / name)
        compile_on_gpu(built.hf, mode="auto", **LONG_RUN)
        built.model(lay_out(built, random_rows(built, (3, 4)), (1, 1)))
    before, after = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("before", "after"))
    assert before == after


# --- attention group by group ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_attention_group_by_group_stays_outside_the_graphs(tmp_path: Path, compiler: Compiler) -> None:
    """Groups differ from batch to batch; compiled along, each batch would compile anew."""
    built = build("bert", tmp_path)
    without_dropout(built.hf)
    expected = results(built, two_groups=True)
    phrase = compile_on_gpu(built.hf, mode="on", **LONG_RUN)
    assert phrase == "2 layers compiled, attention left out"
    first = results(built, two_groups=True)
    num_graphs = compiler.num_graphs
    for ours, theirs in zip(first, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    results(built)
    assert compiler.num_graphs == num_graphs


# --- whether it compiles ---------------------------------------------------------------------------------------------


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("mode", "num_steps", "phrase"),
    [
        ("off", 10**6, "not compiled"),
        ("auto", MIN_STEPS - 1, "not compiled: it pays from 2,000 steps on"),
        ("auto", MIN_STEPS, "2 layers compiled"),
        ("on", 1, "2 layers compiled"),
    ],
)
def test_the_length_of_the_run_decides(
    mode: Any, num_steps: int, phrase: str, tmp_path: Path, compiler: Compiler, flash: None
) -> None:
    built = build("bert", tmp_path)
    assert compile_on_gpu(built.hf, dtype=torch.bfloat16, num_steps=num_steps, mode=mode) == phrase
    built.model(lay_out(built, random_rows(built, (3, 4)), (1, 1)))
    assert compiler.num_graphs == (1 if phrase == "2 layers compiled" else 0)


def test_auto_leaves_a_model_alone_whose_attention_goes_group_by_group(tmp_path: Path, compiler: Compiler) -> None:
    built = build("bert", tmp_path)
    assert compile_on_gpu(built.hf, mode="auto", **LONG_RUN) == "not compiled: attention goes group by group"
    results(built)
    assert compiler.num_graphs == 0


def failing(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
    raise RuntimeError(
        "Cannot find a working triton installation. Either the package is not installed or it is too old."
    )


def test_without_a_compiler_on_is_an_error_and_auto_goes_on(
    tmp_path: Path, flash: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", failing)
    built = build("bert", tmp_path)
    with pytest.raises(ModelError) as caught:
        compile_on_gpu(built.hf, mode="on", **LONG_RUN)
    assert caught.value.message == (
        'model.compile = "on", but nothing can be compiled here: Cannot find a working triton installation.'
    )
    assert 'Use "auto", or install' in caught.value.hint
    phrase = compile_on_gpu(built.hf, mode="auto", **LONG_RUN)
    assert phrase == "not compiled: Cannot find a working triton installation"
    results(built)


def test_the_compiler_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Compiler()
    monkeypatch.setattr(compiled, "BACKEND", compiler)
    assert compiler_obstacle(CPU) == ""
    assert compiler.num_graphs == 1


# --- on a GPU --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "gemma3"])
@on_gpu
def test_on_a_gpu_compiled_layers_are_as_near_to_fp32_as_the_others(family: str, tmp_path: Path) -> None:
    device = torch.device("cuda")
    built = build(family, tmp_path)
    without_dropout(built.hf)
    built.model.to(device)
    exact = results(built, device)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        plain = results(built, device)
        assert compile_on_gpu(built.hf, mode="on", **LONG_RUN).endswith("layers compiled")
        ours = results(built, device)
    assert not counters["graph_break"]
    for mine, other, true in zip(ours, plain, exact, strict=True):
        assert (mine - true).norm() < 2 * (other - true).norm() + 0.005 * true.norm()


@on_gpu
@pytest.mark.parity("gpu")
def test_on_a_gpu_the_compiler_works() -> None:
    assert compiler_obstacle(torch.device("cuda")) == ""
