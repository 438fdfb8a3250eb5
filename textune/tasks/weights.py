"""Class weights: none, balanced, or a table by label name; for `classes.py` and `labels.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from textune.config import ClassWeights
from textune.data import LabelMap
from textune.errors import ConfigError
from textune.wording import nearest

Balance = Callable[[np.ndarray, int], np.ndarray]
"""(targets of the training rows, number of classes K) to the weights that balance them, [K]."""


def class_weights(
    wanted: ClassWeights, label_map: LabelMap, targets: np.ndarray | None, *, balance: Balance
) -> torch.Tensor | None:
    """float32 [K] in the order of the labels; None if all weigh the same.

    `targets`: those of the training rows, needed for `balanced` weights. ConfigError for an unknown label name, or if
    all weights are 0.
    """
    if wanted == "none":
        return None
    if isinstance(wanted, Mapping):
        return _from_table(wanted, label_map)
    assert targets is not None, "balanced class weights need the training targets"
    return torch.from_numpy(balance(targets, len(label_map.names)).astype(np.float32))


def _from_table(table: Mapping[str, float], label_map: LabelMap) -> torch.Tensor:
    weights = np.ones(len(label_map.names), dtype=np.float32)
    for name, weight in table.items():
        if name not in label_map.ids:
            near = nearest(name, label_map.names)
            raise ConfigError(
                f"task.class_weights names the label {name!r}, which is not among the labels of the data.",
                hint=f"Did you mean {near!r}?" if near else f"The labels are: {', '.join(label_map.names[:20])}.",
            )
        weights[label_map.ids[name]] = weight
    if not weights.any():
        raise ConfigError(
            "task.class_weights: all weights are 0, so nothing would be learned.",
            hint="Give some label a weight above 0.",
        )
    return torch.from_numpy(weights)
