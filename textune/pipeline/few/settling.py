"""The weights of a run with few labels, before it begins: the backbone as it is or after learning from pairs, and the
head that fits it; between `linear.py`, `contrastive.py` and `choosing.py`."""

from __future__ import annotations

import numpy as np
import torch

from textune.batches import TokenRows
from textune.errors import ModelError
from textune.model import last_layer, read_by_head
from textune.pipeline.few.linear import Labelled, Linear, as_outputs, choose_strength, fit_linear
from textune.run import Parts, scorer_of


def features_of(parts: Parts, rows: TokenRows) -> np.ndarray:
    """float64 [N, F]: what the last layer of the head reads of each row, without dropout."""
    layer = last_layer(parts.model.hf)
    found_NF = np.zeros((len(rows), layer.in_features))
    with read_by_head(layer) as caught:
        for batch in scorer_of(parts).score_batches(rows.store, rows.examples):
            read_BF = caught.pop()
            if read_BF.ndim != 2:
                raise ModelError(
                    f"task.few needs a head that reads one vector of each text; that of {parts.settings.backbone}"
                    " reads every token.",
                    hint='Set task.few = "off", or choose a family that runs packed (docs/architecture.md).',
                    key="task.few",
                )
            found_NF[batch.positions] = read_BF.double().cpu().numpy()
            caught.clear()
    return found_NF


def labelled(parts: Parts, rows: TokenRows) -> Labelled:
    """The features of rows, with their targets and with the weights that training would give them."""
    (head,) = parts.task.heads
    targets = {name: torch.from_numpy(values) for name, values in rows.targets.items()}
    weights = None if rows.weights is None else torch.from_numpy(rows.weights)
    weights_N = parts.task.row_weights(targets, weights)[head.name].double().numpy()
    return Labelled(
        features_of(parts, rows), rows.targets[head.name].astype(np.int64), weights_N, len(head.label_map.names)
    )


def fitted(parts: Parts, rows: Labelled) -> Linear:
    """The head of these rows, as outputs of the model; how strongly it is penalised is chosen by cross-validation."""
    has_bias = last_layer(parts.model.hf).bias is not None
    strength = choose_strength(rows, parts.settings.train.seed, bias=has_bias)
    return as_outputs(fit_linear(rows, strength, bias=has_bias), parts.task.num_outputs)


def put_head(parts: Parts, linear: Linear) -> None:
    """Give the last layer of the model these weights."""
    layer = last_layer(parts.model.hf)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(linear.weight_OF))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(linear.bias_O))
