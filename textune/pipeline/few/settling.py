"""The weights of a run with few labels, before it begins: the backbone as it is or after learning from pairs, and the
head that fits it; between `linear.py`, `contrastive.py` and `choosing.py`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from textune.batches import TokenRows
from textune.errors import ModelError
from textune.model import last_layer, read_by_head
from textune.pipeline.few.linear import Labelled, Linear, as_outputs, choose_strength, fit_linear
from textune.run import Parts, scorer_of


def why_unfit(parts: Parts) -> str:
    """Why no linear head can be fitted to what this model reads; empty where one can. Computes one row."""
    try:
        read = [read_BF for _, read_BF in _read(parts, parts.rows["train"].at(np.arange(1)))]
    except ModelError as error:
        return error.reason
    return "" if all(read_BF.ndim == 2 for read_BF in read) else "its head reads every token, not one vector of a text"


def features_of(parts: Parts, rows: TokenRows) -> np.ndarray:
    """float64 [N, F]: what the last layer of the head reads of each row, without dropout."""
    found_NF = np.zeros((len(rows), last_layer(parts.model.hf).in_features))
    for positions, read_BF in _read(parts, rows):
        found_NF[positions] = read_BF.double().cpu().numpy()
    return found_NF


def _read(parts: Parts, rows: TokenRows) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """The positions of the rows of each batch, and what the last layer reads of them."""
    with read_by_head(last_layer(parts.model.hf)) as caught:
        for batch in scorer_of(parts).score_batches(rows.store, rows.examples):
            yield batch.positions, caught.pop()
            caught.clear()


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
