"""ONNX Runtime's forward and backward pass beside PyTorch's (fp32, dropout off): losses, every gradient, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import loader_of, rows_of, store_of
from kits.engines import needs_onnxruntime
from kits.errors import refused
from kits.models import Built, build, random_rows
from kits.problems import CPU, multiclass, multilabel, multitask, regression, rows_and_model

from textune.batches.batch import MicroBatch
from textune.config.adapters import Lora
from textune.config.schema import TrainSection
from textune.config.taskkinds import BinaryTask, MulticlassTask
from textune.config.updaterules import AdamW, LinearSchedule
from textune.data.labels.map import LabelMap
from textune.errors import ModelError
from textune.exitcodes import is_out_of_memory
from textune.model.backbone import TextModel
from textune.tasks.task import Task, build_task
from textune.training.engines import TorchEngine
from textune.training.learner import learner_alone
from textune.training.loop import steps
from textune.training.ort.engine import TOLERANCE, OrtEngine, require_equal
from textune.training.ort.graph import GradientGraph, _explained

pytestmark = needs_onnxruntime

ODD = (1, 1, 2, 3, 5, 7, 9, 13, 23)
STEPS = 20


def binary(num_rows: int) -> tuple[Task, np.ndarray]:
    """One output, with label smoothing and class weights."""
    section = BinaryTask(num_logits=1, label_smoothing=0.1, class_weights={"yes": 3.0})
    task = build_task(section, {"label": LabelMap("binary", ("no", "yes"))})
    return task, np.random.default_rng(1).integers(0, 2, num_rows)


def smoothed(num_rows: int) -> tuple[Task, np.ndarray]:
    """Focal loss with label smoothing and class weights."""
    section = MulticlassTask(loss="focal", gamma=2.0, label_smoothing=0.2, class_weights={"b": 4.0})
    task = build_task(section, {"label": LabelMap("multiclass", ("a", "b", "c"))})
    return task, np.random.default_rng(1).integers(0, 3, num_rows)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, OrtEngine]:
    """Exporting takes longer than what most tests compute."""
    built = build("bert", tmp_path_factory.mktemp("bert"), section={"attention": "padded"})
    return built, OrtEngine(built.model)


def batch_of(built: Built, lengths: Sequence[int], task: Task, targets: np.ndarray) -> MicroBatch:
    rows = random_rows(built, lengths, seed=len(lengths))
    store = store_of([len(row) for row in rows], np.concatenate(rows))
    loader = loader_of(rows_of(store, targets), TrainSection(prefetch=0), layout="padded", pad_id=built.model.pad_id)
    (part,) = next(iter(loader)).micro_batches
    return part


def gradients_of(engine: Any, model: TextModel, part: MicroBatch, task: Task) -> dict[str, torch.Tensor | None]:
    """Of a weighted sum of the row losses; in evaluation mode, without dropout."""
    model.zero_grad(set_to_none=True)
    losses_B = engine(part.tokens, task, part.targets)["label"]
    (losses_B * torch.linspace(0.1, 1.0, len(losses_B))).sum().backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("problem", [multiclass, binary, multilabel, regression, smoothed, multitask])
def test_twenty_steps_are_those_of_pytorch(tmp_path: Path, problem: Any) -> None:
    """Clipping, uneven micro-batches and a last batch of fewer rows, weights of rows and of classes."""
    task, targets = problem(50)
    tiny_backbone("bert", tmp_path)
    found = {}
    for engine in ("torch", "onnxruntime"):
        section = TrainSection(
            engine=engine,
            batch_size=16,
            max_tokens=100,
            optimizer=AdamW(lr=1e-3, eps=1e-4),
            schedule=LinearSchedule(warmup="5 steps"),  # type: ignore[arg-type]
        )
        rows, model = rows_and_model(tmp_path, task, targets, layout="padded", weighted=True)
        loader = loader_of(rows, section, layout="padded", pad_id=model.pad_id)
        learner = learner_alone(model, section, CPU)
        assert isinstance(learner.engine, OrtEngine) == (engine == "onnxruntime")
        results = list(steps(learner, task, loader, section, total_steps=STEPS, warmup_steps=5))
        sizes = {len(part.row_lengths) for part in _parts(loader)}
        assert len(sizes) > 1
        found[engine] = results, {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    (expected, weights), (other, trained) = found["torch"], found["onnxruntime"]
    assert any(float(result.grad_norm) > section.max_grad_norm for result in expected)
    for one, two in zip(expected, other, strict=True):
        assert float(two.loss) == pytest.approx(float(one.loss), abs=1e-5)
        assert float(two.grad_norm) == pytest.approx(float(one.grad_norm), rel=1e-4)
    for name, tensor in weights.items():
        assert (trained[name] - tensor).abs().max() <= 1e-5, name


def _parts(loader: Any) -> list[Any]:
    return [part.tokens for batch, _ in zip(loader, range(4), strict=False) for part in batch.micro_batches]


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "gpt2", "llama"])
def test_every_gradient_is_pytorchs_in_batches_of_every_shape(tmp_path: Path, family: str) -> None:
    """Those of weights that get none included; one graph serves all shapes."""
    built = build(family, tmp_path, section={"attention": "padded"})
    engine = OrtEngine(built.model)
    for lengths in (ODD, (1,), (2, 2), (17, 40)):
        task, targets = multiclass(len(lengths))
        part = batch_of(built, lengths, task, targets)
        expected = gradients_of(TorchEngine(built.model, CPU), built.model, part, task)
        found = gradients_of(engine, built.model, part, task)
        require_equal(expected, found)
        assert any(gradient is not None and gradient.any() for gradient in found.values())


def test_a_wrong_gradient_is_noticed_before_the_first_step(bert: tuple[Built, OrtEngine], monkeypatch: Any) -> None:
    """Of a weight that a part of the rows reads, by little more than the tolerance; and one that is not a number."""
    built, engine = bert
    monkeypatch.setattr(engine, "_is_compared", False)
    task, targets = multiclass(len(ODD))
    part = batch_of(built, ODD, task, targets)
    name, right = "model.hf.bert.embeddings.word_embeddings.weight", GradientGraph.backward
    factors = [1.0]

    def spoilt(graph: GradientGraph, state: object, gradient_BC: torch.Tensor) -> list[torch.Tensor]:
        gradients = right(graph, state, gradient_BC)
        gradients[graph.trained.index(name)] *= factors[-1]
        return gradients

    monkeypatch.setattr(GradientGraph, "backward", spoilt)
    for factor in (1 + 2 * TOLERANCE, float("nan")):
        factors.append(factor)
        with refused(ModelError, key="train.engine", value="onnxruntime", reason=name):
            engine(part.tokens, task, part.targets)
    factors.append(1.0)
    engine(part.tokens, task, part.targets)
    factors.append(2.0)
    engine(part.tokens, task, part.targets)["label"].sum().backward()  # it was compared once


def test_a_gradient_that_only_one_of_the_two_has_is_noticed() -> None:
    one: Mapping[str, Any] = {"a": torch.ones(2), "b": None}
    require_equal(dict(one), dict(one))
    with refused(ModelError, reason="b"):
        require_equal(dict(one), {"a": torch.ones(2), "b": torch.zeros(2)})
    with refused(ModelError, reason="a"):
        require_equal(dict(one), {"a": None, "b": None})
    nearly_nothing = {"a": torch.ones(2), "b": torch.full((2,), 1e-9)}
    require_equal(nearly_nothing, nearly_nothing | {"b": torch.full((2,), -1e-9)})  # rounding of a zero


@pytest.mark.parametrize("frozen", ["embeddings", "backbone"])
def test_frozen_weights_have_no_gradient(tmp_path: Path, frozen: str) -> None:
    built = build("bert", tmp_path, section={"attention": "padded", "freeze": [frozen]})
    built.model.freeze()
    trained = {name for name, p in built.model.named_parameters() if p.requires_grad}
    task, targets = multiclass(len(ODD))
    part = batch_of(built, ODD, task, targets)
    found = gradients_of(OrtEngine(built.model), built.model, part, task)
    assert {name for name, gradient in found.items() if gradient is not None} == trained
    assert 0 < len(trained) < len(found)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_adapters_alone_are_trained(tmp_path: Path, dropout: float) -> None:
    """And the head, as a whole; their gradients are PyTorch's."""
    pytest.importorskip("peft")
    built = build("bert", tmp_path, section={"attention": "padded"})
    built.model.adapt(Lora(r=4, dropout=dropout), seed=1)
    built.model.eval()
    with torch.no_grad():
        for name, parameter in built.model.named_parameters():
            if "lora_B" in name:  # which starts at zero, so that A would have no gradient
                parameter.normal_(std=0.1)
    task, targets = multiclass(len(ODD))
    part = batch_of(built, ODD, task, targets)
    expected = gradients_of(TorchEngine(built.model, CPU), built.model, part, task)
    found = gradients_of(OrtEngine(built.model), built.model, part, task)
    require_equal(expected, found)
    trained = {name for name, gradient in found.items() if gradient is not None}
    assert any("lora_A" in name for name in trained) and any("classifier" in name for name in trained)
    assert not any("base_layer" in name for name in trained)


def test_weights_are_read_where_they_are(bert: tuple[Built, OrtEngine]) -> None:
    """What changes a weight between two passes changes the next one."""
    built, engine = bert
    task, targets = multiclass(len(ODD))
    part = batch_of(built, ODD, task, targets)
    before = engine(part.tokens, task, part.targets)["label"]
    with torch.no_grad():
        for parameter in built.model.parameters():
            parameter.mul_(1.1)
    after = engine(part.tokens, task, part.targets)["label"]
    expected = task.row_losses(built.model(part.tokens), part.targets)["label"]
    assert not torch.allclose(before, after) and torch.allclose(after, expected, atol=1e-5)


def test_dropout_follows_from_the_seed_and_is_off_in_evaluation(bert: tuple[Built, OrtEngine]) -> None:
    built, engine = bert
    task, targets = multiclass(len(ODD))
    part = batch_of(built, ODD, task, targets)

    def losses(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return engine(part.tokens, task, part.targets)["label"].detach()

    assert torch.equal(losses(1), losses(2))
    built.model.train()
    try:
        assert torch.equal(losses(1), losses(1)) and not torch.equal(losses(1), losses(2))
    finally:
        built.model.eval()


def test_memory_that_runs_out_is_told_as_everywhere(bert: tuple[Built, OrtEngine]) -> None:
    session = bert[1]._graph._session
    with pytest.raises(MemoryError) as caught, session._telling_memory():
        raise session._capi.RuntimeException("bfc_arena.cc: Failed to allocate memory for requested buffer of size 9")
    assert is_out_of_memory(caught.value)
    with pytest.raises(session._capi.Fail), session._telling_memory():
        raise session._capi.Fail("another reason")


def test_a_family_that_does_not_export_is_refused_in_one_line(tmp_path: Path) -> None:
    built = build("t5", tmp_path, section={"attention": "padded"})
    with pytest.raises(ModelError) as caught:
        OrtEngine(built.model)
    found = caught.value
    assert (found.key, found.value) == ("train.engine", "onnxruntime") and "the operator Where" in found.reason
    assert "t5" in str(found) and "node" not in str(found)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "[ONNXRuntimeError] : 9 : Could not find an implementation for Where(16) node with name 'n'",
            "operator Where",
        ),
        (
            "/a/b.cc:1 The gradient builder has not been registered: NonZero for node m/n",
            "gradient of the operator NonZero",
        ),
        (
            "2 : Cannot compute the partial derivative for 'model.a.weight' as it's",
            "gradient of the weight model.a.weight",
        ),
        (
            "No ONNX function found for <OpOverload(op='aten.unsqueeze', overload=",
            "the operation aten.unsqueeze in ONNX",
        ),
        ("Cannot find a compatible OpOverload for aten.sub with the provided", "the operation aten.sub in ONNX"),
        ("[ONNXRuntimeError] : 1 : something else", "RuntimeError: '1 : something else'"),
    ],
)
def test_why_there_is_no_graph_is_said_in_words(said: str, words: str) -> None:
    with refused(ModelError, key="train.engine", reason=words), _explained("bert", "ONNX Runtime cannot compute it"):
        raise ValueError("the graph is wrong") from RuntimeError(said)
