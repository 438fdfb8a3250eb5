"""Held-out pairs that share a text with training pairs, and what label it has there; used by `audit.py`.

WNLI is the known case: its validation pairs repeat the sentences of training pairs, mostly under the other label, so
a model that remembers sentences scores below chance. Only a 64-bit key is kept of each text (`duplicates.py`).

Legend: N training rows, M held-out rows of K texts each: 2 for pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from textune.data.inspect.duplicates import EMPTY_KEY

MIN_SHARING = 0.1
"""Share of the held-out pairs from which shared texts are worth a word."""
MIN_EFFECT = 0.1
"""Change of the score of a model that remembers texts from which there is a warning."""
MAX_CHANCE = 0.001
"""A count that chance alone reaches less often than this is not chance."""


@dataclass(frozen=True)
class Overlap:
    """What training rows say of the held-out rows that share a text with them."""

    other: np.ndarray
    """int64, ascending: held-out rows whose texts have another label in most of these training rows."""
    same: np.ndarray
    """int64, ascending: those whose texts have the same label in most of them."""
    undecided: np.ndarray
    """int64, ascending: those in between."""
    agreement: float
    """Mean over the sharing rows of the share of those training rows that have their label; 1 where none shares."""
    expected: float
    """The same if labels had nothing to do with the shared texts."""

    @property
    def num_sharing(self) -> int:
        """Held-out rows that share a text with a training row."""
        return len(self.other) + len(self.same) + len(self.undecided)

    def effect(self, num_rows: int) -> Literal["", "misleads", "helps"]:
        """What the shared texts do to the score of a model that remembers them, of so many held-out rows.

        It is a tenth of the whole score or more, and further from chance than accident would bring it (one-sided, as
        if each row shared one text); else nothing.
        """
        if not self.num_sharing:
            return ""
        difference = self.agreement - self.expected
        deviation = max(math.sqrt(self.expected * (1 - self.expected) / self.num_sharing), 1e-9)
        if (
            abs(difference) * self.num_sharing < MIN_EFFECT * num_rows
            or normal_tail(abs(difference) / deviation) > MAX_CHANCE
        ):
            return ""
        return "helps" if difference > 0 else "misleads"


def overlap(key_KM: np.ndarray, target_M: np.ndarray, train_key_KN: np.ndarray, train_target_N: np.ndarray) -> Overlap:
    """Compare held-out rows with training rows by the texts that they share, in whichever column.

    Targets are one number for each row (`one_number` of both together). A shared text counts with each of its training
    rows; empty texts are not shared.
    """
    texts, text_KN = np.unique(train_key_KN, return_inverse=True)
    text_KN = text_KN.reshape(train_key_KN.shape)
    counted_KN = _first_of_row(train_key_KN)
    labels, label = np.unique(np.concatenate([train_target_N, target_M]), return_inverse=True)
    train_label_N, label_M = np.split(label, [len(train_target_N)])
    by_text = np.bincount(text_KN[counted_KN], minlength=len(texts))
    # A text under a label, as one number.
    labelled, by_labelled = np.unique((text_KN * len(labels) + train_label_N)[counted_KN], return_counts=True)

    text_KM, found_KM = _find(texts, key_KM)
    found_KM &= _first_of_row(key_KM)
    place_KM, seen_KM = _find(labelled, text_KM * len(labels) + label_M)
    all_M, same_M = np.zeros(len(label_M), np.int64), np.zeros(len(label_M), np.int64)
    for found_M, seen_M, text_M, place_M in zip(found_KM, seen_KM, text_KM, place_KM, strict=True):
        all_M[found_M] += by_text[text_M[found_M]]
        same_M[found_M & seen_M] += by_labelled[place_M[found_M & seen_M]]
    sharing = np.flatnonzero(all_M)
    # Without a link, a row meets training rows whose labels are drawn from all of them.
    share_C = np.bincount(train_label_N, minlength=len(labels)) / max(len(train_label_N), 1)
    return Overlap(
        other=np.flatnonzero(2 * same_M < all_M),
        same=np.flatnonzero(2 * same_M > all_M),
        undecided=sharing[2 * same_M[sharing] == all_M[sharing]],
        agreement=float((same_M[sharing] / all_M[sharing]).mean()) if len(sharing) else 1.0,
        expected=float(share_C[label_M[sharing]].mean()) if len(sharing) else 1.0,
    )


def _first_of_row(key_KN: np.ndarray) -> np.ndarray:
    """Whether each text counts, bool [K, N]: it is not empty, nor the same as the row's first one."""
    counted_KN = key_KN != EMPTY_KEY
    counted_KN[1:] &= key_KN[1:] != key_KN[0]
    return np.asarray(counted_KN)


def _find(sorted_keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `wanted` stands in `sorted_keys` (any place if it does not), and whether it does."""
    if not len(sorted_keys):
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, bool)
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return place, sorted_keys[place] == wanted


def normal_tail(deviations: float) -> float:
    """How often a normal variable lies this many standard deviations above its mean, or further."""
    return 0.5 * math.erfc(deviations / math.sqrt(2))
