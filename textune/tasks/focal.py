"""Focal loss (Lin et al. 2017, arXiv:1708.02002): cross-entropy whose terms count less the surer the model is.

The term of a class with probability p is -(1 - p)^gamma log p, times its share of the target: that of the paper where
a row has one class. Class weights, the paper's alpha, and label smoothing are those of cross-entropy.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def focal_classes(
    outputs_BC: torch.Tensor,
    targets: torch.Tensor,
    *,
    gamma: float,
    smoothing: float,
    weights_K: torch.Tensor | None,
) -> torch.Tensor:
    """Loss of each row, [B], for class ids int64 [B]; each class that smoothing gives a share counts with its own
    weight."""
    terms_BK = _terms(functional.log_softmax(outputs_BC, dim=1), gamma)
    num_classes = terms_BK.shape[1]
    shares_BK = functional.one_hot(targets, num_classes) * (1 - smoothing) + smoothing / num_classes
    return (shares_BK * terms_BK if weights_K is None else shares_BK * weights_K * terms_BK).sum(dim=1)


def focal_labels(
    outputs_BK: torch.Tensor, shares_BK: torch.Tensor, *, gamma: float, weights_K: torch.Tensor | None
) -> torch.Tensor:
    """Loss of each output, [B, K]: `shares_BK` of the target are on its label, with `weights_K`, the rest is not."""
    given_BK = shares_BK * _terms(functional.logsigmoid(outputs_BK), gamma)
    if weights_K is not None:
        given_BK = given_BK * weights_K
    return given_BK + (1 - shares_BK) * _terms(functional.logsigmoid(-outputs_BK), gamma)


def _terms(log_p: torch.Tensor, gamma: float) -> torch.Tensor:
    """-(1 - p)^gamma log p of each number; its gradient is finite where p rounds to 1, too."""
    unsure = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    return -(unsure**gamma) * log_p
