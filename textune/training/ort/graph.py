"""A model's forward and backward pass as one ONNX graph, run by ONNX Runtime in two halves; below `engine.py`.

    TextModel --torch.onnx--> forward pass --repaired--> with its gradients --onnxruntime--> forward, then backward

The forward half ends in the model's outputs, and the backward half begins with their gradient: what a task makes of
outputs, and how rows are weighed, stays PyTorch's. Weights are inputs of the graph and are read where PyTorch holds
them, so the graph holds no copy of them.

The gradients are those of onnxruntime-training's own graph builder, of which 1.19.2 is the last release.

Shapes: B rows of L tokens, C outputs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.utils.dlpack import from_dlpack

from textune.errors import ModelError
from textune.imports import quietly
from textune.model import ClassifierFace, TextModel, attention_written_out
from textune.wording import shorten

if TYPE_CHECKING:
    import onnx_ir

OPSET = 18
DROPOUT = "dropout"
"""Input of the graph: every rate of dropout is multiplied by it, so that 0 turns dropout off."""
_OUTPUTS = "outputs"
_EXAMPLE = (3, 7)
"""Rows and tokens of the batch that the exporter sees: no two sizes alike, and none of them 1."""
_EXTRA_OUTPUTS = {"LayerNormalization": ("mean", "inv_std"), "Dropout": ("mask",)}
"""What the gradients of an operator read, and its node must therefore give out."""
_MISSING = (
    (re.compile(r"find an implementation for (\w+)\("), "it lacks the operator {} for some of the model's numbers"),
    (re.compile(r"gradient builder has not been registered: (\w+)"), "it lacks the gradient of the operator {}"),
    (re.compile(r"Cannot compute the partial derivative for '([^']+)'"), "it finds no gradient of the weight {}"),
    (re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'"), "it cannot write the operation {} in ONNX"),
    (re.compile(r"find a compatible OpOverload for ([\w.]+)"), "it cannot write the operation {} in ONNX"),
)
"""What ONNX Runtime and the exporter say of what they lack, and the same in plain words."""


class Pass(NamedTuple):
    """A forward pass: the outputs float32 [B, C], and what ONNX Runtime keeps of it for the backward pass."""

    outputs: torch.Tensor
    state: Any


class PaddedModel(nn.Module):
    """A text model as the exporter calls it: tensors [B, L] in, outputs [B, C] out."""

    def __init__(self, model: TextModel) -> None:
        """ModelError where the outputs are no logits."""
        super().__init__()
        self.model = model
        if not isinstance(model.face, ClassifierFace):
            raise ModelError(
                f'train.engine = "onnxruntime" trains classifiers, and this is a {model.face.name}.',
                hint='Use train.engine = "torch".',
                key="train.engine",
                value="onnxruntime",
                reason=model.face.name,
            )
        self._face = model.face

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The tensors are those of `TextModel.padded_inputs`."""
        tensors = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            tensors["token_type_ids"] = token_type_ids
        return self._face.logits(tensors)


class GradientGraph:
    """The graph of one model: its weights are read in place, whatever changes them between two passes."""

    def __init__(self, model: TextModel) -> None:
        """ModelError where the exporter or the graph builder cannot take the model."""
        whole = PaddedModel(model)
        self.parameters = dict(whole.named_parameters())
        """All weights, by their names in the graph."""
        self.inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if model.reads_types else []))
        """Names of the tensors that `forward` is given."""
        family = model.hf.config.model_type
        exported = _export(whole, self.inputs, family)
        held = [name for name in self.parameters if name in exported.graph.initializers]
        trained = [name for name in held if self.parameters[name].requires_grad]
        _take_as_inputs(exported, held)
        self.has_dropout = _repair(exported)
        self._session = _Session(_serialised(exported), held, trained, family)

    @property
    def trained(self) -> list[str]:
        """Names of the weights that get a gradient, in the order in which `backward` gives them."""
        return self._session.gradients

    def forward(self, inputs: Mapping[str, torch.Tensor], *, dropout: bool) -> Pass:
        """Compute a batch; `inputs` are int64 [B, L] by name. Masks of dropout follow from PyTorch's generator."""
        import onnxruntime

        if dropout and self.has_dropout:
            onnxruntime.set_seed(int(torch.randint(2**31 - 1, ())))
        factor = torch.tensor(float(dropout))
        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
        return self._session.forward({**weights, **inputs, DROPOUT: factor})

    def backward(self, state: object, gradient_BC: torch.Tensor) -> list[torch.Tensor]:
        """The gradient of each weight in `trained`; `state` is that of the forward pass, and `gradient_BC` that of its
        outputs."""
        return self._session.backward(state, gradient_BC)


class _Session:
    """The graph with its gradients, opened by ONNX Runtime."""

    def __init__(self, model: bytes, held: Sequence[str], trained: Sequence[str], family: str) -> None:
        """`held` are the weights among the inputs of `model`, `trained` those that want a gradient."""
        import onnxruntime
        from onnxruntime.capi import _pybind_state as capi

        onnxruntime.set_default_logger_severity(3)  # errors: it warns of every initializer that is not used
        self._capi = capi
        builder, keys = capi.OrtModuleGraphBuilder(), capi.OrtModuleGraphBuilderConfiguration()
        keys.initializer_names, keys.initializer_names_to_train = list(held), list(trained)
        keys.build_gradient_graph = True
        keys.loglevel = capi.Severity.ERROR
        transformations = capi.TrainingGraphTransformerConfiguration()
        transformations.propagate_cast_ops_config = capi.PropagateCastOpsConfiguration()
        transformations.propagate_cast_ops_config.level = -1  # nothing to propagate in fp32
        with _explained(family, "ONNX Runtime cannot compute it"):
            builder.initialize(model, keys)
            builder.build(transformations)
            whole: bytes = builder.get_gradient_model()
            session = onnxruntime.InferenceSession(whole, _options(), ["CPUExecutionProvider"])
        self._feeds = [value.name for value in session.get_inputs()]
        fetches = [value.name for value in session.get_outputs()]
        self.gradients = [name.removesuffix("_grad") for name in fetches]
        self._session = session  # the agent does not keep it
        place = capi.OrtDevice(capi.OrtDevice.cpu(), capi.OrtDevice.default_memory(), 0)
        self._agent = capi.TrainingAgent(session._sess, self._feeds, [place], fetches, [place] * len(fetches), 0)

    def forward(self, values: Mapping[str, torch.Tensor]) -> Pass:
        """Run the first half on inputs and weights by name."""
        state, outputs = self._capi.PartialGraphExecutionState(), self._capi.OrtValueVector()
        with self._telling_memory():
            self._agent.run_forward(self._shared([values[name] for name in self._feeds]), outputs, state, None)
        (outputs_BC,) = outputs.to_dlpacks(from_dlpack)
        return Pass(outputs_BC, state)

    def backward(self, state: object, gradient_BC: torch.Tensor) -> list[torch.Tensor]:
        """Run the second half."""
        gradients = self._capi.OrtValueVector()
        with self._telling_memory():
            self._agent.run_backward(self._shared([gradient_BC]), gradients, state)
        found: list[torch.Tensor] = gradients.to_dlpacks(from_dlpack)
        return found

    def _shared(self, tensors: Sequence[torch.Tensor]) -> Any:
        """The same memory, as ONNX Runtime sees it."""
        vector = self._capi.OrtValueVector()
        vector.reserve(len(tensors))
        for tensor in tensors:
            vector.push_back(tensor.contiguous().__dlpack__(), False)
        return vector

    @contextlib.contextmanager
    def _telling_memory(self) -> Iterator[None]:
        """Raise what Python raises where ONNX Runtime finds no memory."""
        try:
            yield
        except (self._capi.RuntimeException, self._capi.Fail) as error:
            if "allocate memory" in str(error):
                raise MemoryError(str(error)) from error
            raise


def _options() -> Any:
    """How the session computes: as many threads as PyTorch has; nothing of a pass is reused before its second half."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = options.enable_mem_reuse = False
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    # Weights change between two passes.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


# --- the exported graph ----------------------------------------------------------------------------------------------


def _export(whole: PaddedModel, names: Sequence[str], family: str) -> onnx_ir.Model:
    """The forward pass of training, with any number of rows and of tokens, by the exporter of torch.export."""
    example = tuple(torch.ones(_EXAMPLE, dtype=torch.int64) for _ in names)
    sizes = tuple({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for _ in names)
    was_training = whole.model.training
    try:
        with (
            attention_written_out(whole.model.hf),
            torch.random.fork_rng(devices=[]),
            quietly("torch.onnx"),  # of packages that the exporter does not need, and of its own deprecated parts
            _explained(family, "PyTorch cannot export it"),
        ):
            program = torch.onnx.export(
                whole.train(),
                example,
                dynamo=True,
                optimize=False,
                opset_version=OPSET,
                dynamic_shapes=sizes,
                input_names=list(names),
                output_names=[_OUTPUTS],
                verbose=False,
            )
    finally:
        whole.train(was_training)
    assert program is not None, "torch.onnx.export(dynamo=True) returns a program"
    return program.model


def _repair(model: onnx_ir.Model) -> bool:
    """Give nodes the inputs and outputs that their gradients read, and dropout its factor; returns whether there is
    dropout."""
    import onnx_ir

    graph, found = model.graph, False
    factor = onnx_ir.val(DROPOUT, onnx_ir.DataType.FLOAT, [])
    graph.inputs.append(factor)
    for node in list(graph):
        more = _EXTRA_OUTPUTS.get(node.op_type, ())
        if more and len(node.outputs) == 1:
            node.resize_outputs(1 + len(more))
            for output, name in zip(node.outputs[1:], more, strict=True):
                output.name = f"{node.outputs[0].name}_{name}"
        if node.op_type == "LayerNormalization" and len(node.inputs) == 2:  # a norm without a bias
            scale = node.inputs[1]
            assert scale is not None and scale.shape is not None, "weights have a shape"
            zeros = onnx_ir.tensor(torch.zeros(scale.shape.numpy()).numpy(), name=f"{node.outputs[0].name}_bias")
            bias = onnx_ir.val(zeros.name, const_value=zeros)
            graph.register_initializer(bias)
            node.resize_inputs(3)
            node.replace_input_with(2, bias)
        if node.op_type == "Dropout":
            found = True
            rate = onnx_ir.node("Mul", [node.inputs[1], factor])
            graph.insert_before(node, rate)
            node.replace_input_with(1, rate.outputs[0])
    return found


def _take_as_inputs(model: onnx_ir.Model, names: Sequence[str]) -> None:
    """Make inputs of weights that the graph holds; then fold constants, which these are no longer.

    Folding also turns sequences of tensors, which have no gradient, into plain operators.
    """
    from onnxscript import optimizer

    for name in names:
        weight = model.graph.initializers.pop(name)
        weight.const_value = None
        model.graph.inputs.append(weight)
    optimizer.fold_constants(model)


def _serialised(model: onnx_ir.Model) -> bytes:
    import onnx_ir

    return bytes(onnx_ir.to_proto(model).SerializeToString())


@contextlib.contextmanager
def _explained(family: str, what: str) -> Iterator[None]:
    """Say in one line why a model has no graph."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # those of the exporter and of ONNX Runtime have no other class in common
        reason = f"{what}: {_in_words(error)}"
        raise ModelError(
            f'train.engine = "onnxruntime" cannot train a model of type {family}. {reason}.',
            hint='Use train.engine = "torch".',
            key="train.engine",
            value="onnxruntime",
            reason=reason,
        ) from error


def _in_words(error: BaseException) -> str:
    """Why there is no graph, without places in another library's source."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = str(error).partition("[ONNXRuntimeError] : ")[2] or str(error)
    for pattern, words in _MISSING:
        if found := pattern.search(said):
            return words.format(found[1])
    return f"{type(error).__name__}: {shorten(said, 200)}"
