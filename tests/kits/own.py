"""Tasks of a user's own, for tests: names such as `kits.own:Stars` in configurations."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import torch
from torch.nn import functional


def kappa(targets: np.ndarray, decisions: np.ndarray, scores: np.ndarray) -> float:
    """Cohen's kappa with squared distances: 1 where every answer is right, 0 for answers by chance."""
    observed = ((targets - decisions) ** 2).mean()
    expected = ((targets[:, None] - decisions[None, :]) ** 2).mean()
    return float(1 - observed / expected) if expected else float("nan")


def mean_distance(targets: np.ndarray, decisions: np.ndarray, scores: np.ndarray) -> float:
    """How many stars off the answers are."""
    return float(np.abs(targets - decisions).mean())


class Stars:
    """Stars from 1 to `most`, in their order: an output for each step between two of them (Cao et al. 2020)."""

    answers = "multiclass"
    metrics = MappingProxyType({"kappa": kappa, "distance": mean_distance})
    lower_is_better = ("distance",)

    def __init__(self, *, most: int = 3, symbol: str = "*") -> None:
        self.labels = [f"{number} stars" for number in range(1, most + 1)]
        self.outputs = [f"more than {number}" for number in range(1, most)]
        self.symbol = symbol

    def target(self, label: object) -> int:
        """`**` is the second label."""
        text = str(label).strip()
        if set(text) != {self.symbol}:
            raise ValueError(f"stars are written as {self.symbol * 2}")
        return len(text) - 1

    def row_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """A sigmoid for each step."""
        steps = (targets[:, None] > torch.arange(outputs.shape[1], device=outputs.device)).to(outputs.dtype)
        return functional.binary_cross_entropy_with_logits(outputs, steps, reduction="none").sum(dim=1)

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """The probability of each number of stars, of steps that are taken one after the other."""
        above = torch.cumprod(torch.sigmoid(outputs), dim=1)
        ones, zeros = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return torch.cat([ones, above], dim=1) - torch.cat([above, zeros], dim=1)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The median."""
        return np.asarray((scores.cumsum(axis=1) < 0.5).sum(axis=1)).clip(max=scores.shape[1] - 1)


class Tags:
    """Any of several tags, written as `a+b`, with a loss that weighs what is missing twice."""

    answers = "multilabel"
    labels = ("film", "play", "book")

    def target(self, label: object) -> list[int]:
        """0 or 1 for each."""
        given = str(label).split("+")
        if unknown := set(given) - {*self.labels, "none"}:
            raise ValueError(f"no such tag: {', '.join(sorted(unknown))}")
        return [int(name in given) for name in self.labels]

    def row_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Asymmetric."""
        weight = torch.tensor(2.0, device=outputs.device)
        return functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weight, reduction="none").mean(
            1
        )

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        return torch.sigmoid(outputs)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The most probable one, and whatever is above a half."""
        return np.asarray((scores >= 0.5) | (scores == scores.max(axis=1, keepdims=True))).astype(int)


class Price:
    """A number with a spread: two outputs, the mean of its logarithm and that of its variance."""

    answers = "regression"
    labels = ("price",)
    outputs = ("mean", "log_variance")

    def target(self, label: object) -> float:
        """`12.5 EUR` and 12.5 alike."""
        return float(np.log(float(str(label).removesuffix("EUR"))))

    def row_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood of a normal distribution."""
        mean, log_variance = outputs[:, 0], outputs[:, 1]
        return (log_variance + (targets - mean) ** 2 / log_variance.exp()) / 2

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """The mean."""
        return outputs[:, 0]

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The same."""
        return scores


class Margin:
    """Two classes told apart by one output, with a hinge loss."""

    answers = "binary"
    outputs = ("margin",)

    def __init__(self, *, labels: tuple[str, ...] = ("neg", "pos"), width: float = 1.0) -> None:
        self.labels, self.width = tuple(labels), width

    def target(self, label: object) -> int:
        """The id of its name."""
        return self.labels.index(str(label))

    def row_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """How far a row is from lying beyond the margin on its side."""
        return functional.relu(self.width - outputs[:, 0] * (2 * targets - 1))

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """A probability of each."""
        positive = torch.sigmoid(2 * outputs[:, 0])
        return torch.stack([1 - positive, positive], dim=1)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The side."""
        return (scores[:, 1] >= 0.5).astype(np.int64)


def rows(num_rows: int = 40) -> list[dict[str, str]]:
    """Texts with stars."""
    return [{"text": f"text {number}", "stars": "*" * (number % 3 + 1)} for number in range(num_rows)]
