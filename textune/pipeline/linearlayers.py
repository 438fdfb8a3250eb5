"""What the linear layers of a backbone hold, by name: for whoever chooses targets of adapters; no weights are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from textune.config import ModelSection
from textune.errors import ConfigError
from textune.model import backbone_outline, linears, output_layer
from textune.wording import nearest

ALL = "all-linear"


@dataclass(frozen=True)
class LinearLayers:
    """The linear layers of a backbone, and those that are targets."""

    parameters: int
    """Of the backbone, without any head."""
    possible: tuple[str, ...]
    """The last parts of the names of all linear layers, but for the one that makes words of states."""
    targets: tuple[str, ...]
    in_targets: int
    """Weights and biases of the targets."""
    in_possible: int
    shapes: tuple[tuple[tuple[int, int], int], ...]
    """Outputs and inputs of the targets' weights, and how many have them, in the order of the model."""

    @property
    def share(self) -> float:
        """Of all parameters, from 0 to 1."""
        return self.in_targets / max(self.parameters, 1)

    @property
    def share_of_possible(self) -> float:
        """Of the parameters of all linear layers, from 0 to 1."""
        return self.in_targets / max(self.in_possible, 1)


def num_parameters(pretrained: str) -> int:
    """The parameters of a backbone without a head, as `transformers.AutoModel` has it.

    `pretrained`: a folder or a name on the hub. Raises ModelError where it is neither.
    """
    return sum(weight.numel() for weight in backbone_outline(ModelSection(pretrained=pretrained)).parameters())


def linear_layers(pretrained: str, targets: Sequence[str] = (), *, kind: str = "") -> LinearLayers:
    """The linear layers of a backbone; `targets`: last parts of names, by default all of them.

    `kind`: the head that it has meanwhile, of `textune.model.HEADS`; without one it is the backbone alone. Raises
    ModelError where there is no such model, and ConfigError for a target that no layer has.
    """
    hf = backbone_outline(ModelSection(pretrained=pretrained), kind=kind)
    words = output_layer(hf)
    layers = {name: layer for name, layer in linears(hf).items() if layer is not words}
    possible = sorted({name.rpartition(".")[2] for name in layers})
    chosen = possible if not targets or list(targets) == [ALL] else sorted(set(targets))
    for target in chosen:
        if target not in possible:
            close = nearest(target, possible)
            hint = f"Did you mean {close}?" if close else f"It has {', '.join(possible)}."
            raise ConfigError(f"{pretrained} has no linear layer {target}.", hint=hint, key="targets", value=target)
    adapted = {name: layer for name, layer in layers.items() if set(name.split(".")) & set(chosen)}
    shapes = Counter((int(layer.weight.shape[0]), int(layer.weight.shape[1])) for layer in adapted.values())
    return LinearLayers(
        parameters=sum(weight.numel() for weight in hf.parameters()),
        possible=tuple(possible),
        targets=tuple(chosen),
        in_targets=sum(weight.numel() for layer in adapted.values() for weight in layer.parameters()),
        in_possible=sum(weight.numel() for layer in layers.values() for weight in layer.parameters()),
        shapes=tuple(shapes.items()),
    )
