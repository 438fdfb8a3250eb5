"""The text itself: the head of a language model, and what an evaluation keeps of its rows.

A row is a chunk of a document. The model computes the one output of a row: the negative log-likelihood of its scored
tokens in nats, summed. Targets are numbers of what was scored: tokens, and the characters and UTF-8 bytes of the
source text that these cover. All four are sums, so the rows of a document, and those of several ranks, are added.

Shapes: B rows; N rows of an evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from textune.config import Task
from textune.data import LABEL, LabelMap
from textune.errors import DataError
from textune.tasks.answers import Answer, Constant, Measures
from textune.tasks.decision import USUAL, Decision

TOKENS, CHARACTERS, BYTES = range(3)
"""The columns of targets."""

LANGUAGE = Measures(
    ("bits_per_character", "bits_per_byte", "perplexity"),
    main="bits_per_character",
    of_texts=True,
)


@dataclass(frozen=True)
class LanguageHead:
    """The next tokens of a chunk. Targets are int64 [B, 3]: scored tokens, their characters and bytes.

    In training, where nobody asks for the last two, they are 0. A row's loss is the mean over its scored tokens and
    its weight their number, so the loss of a batch is the mean over the tokens of the batch, however it is cut.
    """

    label_map: LabelMap
    name: str = LABEL

    @property
    def labels(self) -> tuple[str, ...]:
        """The one name of the output."""
        return self.label_map.names

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    @property
    def answers(self) -> LanguageAnswers:
        """What an evaluation keeps of each row."""
        return LanguageAnswers(self.label_map)

    def row_losses(self, outputs_BC: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of the average scored token of each row, in nats, [B]; 0 for a row without any."""
        return outputs_BC[:, 0] / targets[:, TOKENS].clamp(min=1)

    def row_weights(self, targets: torch.Tensor, weights_B: torch.Tensor | None) -> torch.Tensor:
        """Scored tokens of each row, float32 [B], times its weight in the data, if any."""
        tokens_B = targets[:, TOKENS].float()
        return tokens_B if weights_B is None else tokens_B * weights_B

    def scores(self, outputs_BC: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of all scored tokens of each row, in nats, [B]."""
        return outputs_BC[:, 0]

    @property
    def decision(self) -> Decision:
        """There is nothing to decide."""
        return USUAL

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """The scores as they are."""
        return scores

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The sums [N] themselves."""
        return scores


@dataclass(frozen=True)
class LanguageAnswers:
    """Sums of what was scored, and of its negative log-likelihood."""

    label_map: LabelMap

    @property
    def measures(self) -> Measures:
        """Bits per unit of text, and perplexity."""
        return LANGUAGE

    @property
    def num_scores(self) -> int:
        """One: the sum."""
        return 1

    @property
    def ranked(self) -> range:
        """The sum."""
        return range(1)

    @property
    def choices(self) -> None:
        """A text is not a choice among labels."""
        return None

    def score_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N]."""
        return (num_rows,)

    def target_shape(self, num_rows: int) -> tuple[int, ...]:
        """[N, 3]."""
        return (num_rows, 3)

    def check(self, targets: np.ndarray, scores: np.ndarray) -> None:
        """DataError for a negative number of anything."""
        if (targets < 0).any():
            raise DataError("a row has fewer than 0 scored tokens, characters or bytes.")

    def zeros(self, num_rows: int) -> dict[str, np.ndarray]:
        """Numbers of what was scored, and the sums."""
        return {"targets": np.zeros((num_rows, 3), np.int64), "predictions": np.zeros(num_rows)}

    def reduce(self, targets: np.ndarray, scores: np.ndarray, decided: np.ndarray) -> dict[str, np.ndarray]:
        """The same of a batch."""
        return {"targets": targets, "predictions": decided}

    def store(self, given: np.ndarray) -> np.ndarray:
        """The numbers as they are."""
        return np.asarray(given)

    def right(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """bool [N]: no text is right or wrong as a whole."""
        return np.zeros(len(targets), bool)

    def mistake_sizes(
        self, targets: np.ndarray, predictions: np.ndarray, sureness: np.ndarray | None, suspect: np.ndarray | None
    ) -> np.ndarray:
        """float64 [N] nats per character."""
        return np.asarray(predictions / np.maximum(targets[:, CHARACTERS], 1))

    def answer_rows(self, scores: np.ndarray, decided: np.ndarray) -> tuple[list[Answer], np.ndarray]:
        """The sum, twice."""
        return decided.tolist(), scores

    def named(self, stored: np.ndarray) -> float:
        """The sum."""
        return float(stored)

    def constant(self, known: np.ndarray) -> Constant:
        """None makes sense; 0 nats would be a text that was known beforehand."""
        nothing = np.asarray(0.0)
        return Constant(nothing, nothing)

    def constant_loss(self, targets: np.ndarray, constant: np.ndarray) -> None:
        """A sum of nats has no probability of its own."""
        return None

    def notes(self, targets: np.ndarray, predictions: np.ndarray) -> list[str]:
        """None: the report has notes on the metrics."""
        return []


def build_language(
    section: Task, name: str, label_map: LabelMap, targets: np.ndarray | None, decision: Decision
) -> LanguageHead:
    """The head of that name for a text; the other arguments as in `build_task`, but there is nothing to decide."""
    return LanguageHead(label_map, name)
