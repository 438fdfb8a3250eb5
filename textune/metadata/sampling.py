"""Which types of metadata of which documents are rendered: a pure function of the seed, the epoch and the document's
identity; between `records` and `rendering`.

Every number that is drawn is a hash of (seed, epoch, fingerprint of the shard, number of the row, what it is for).
Only whole numbers and the basic operations of floating point are used, so that every platform draws the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from textune.config import AllTypes, IndependentTypes, Sampling, UniformTypes
from textune.draws import bits_of, fractions_of
from textune.metadata.documents import Documents

HTML = "html"
"""The type that `html_rate` is about."""


@dataclass(frozen=True)
class TypeCounts:
    """In how many documents each type was found."""

    documents: int
    """In all."""
    by_type: Mapping[str, int]

    @property
    def weights(self) -> dict[str, float]:
        """By type: documents in all / documents that have it; one that was not found counts as found once."""
        return {name: self.documents / max(1, found) for name, found in self.by_type.items()}


@dataclass(frozen=True)
class Sampler:
    """Draws which types are rendered."""

    section: Sampling
    seed: int
    counts: TypeCounts | None = None
    """Of the training data; needed for weights of counts."""
    num_documents: int | None = None
    """Documents that the whole run reads; needed for a curriculum."""

    def keep(self, documents: Documents, *, epoch: int, before: int = 0) -> np.ndarray:
        """Which types of each document are rendered, bool [D, T]: none that it does not have.

        `before`: how many documents the run has read before these.
        """
        draws = _Draws(self.seed, epoch, documents)
        keep_DT = documents.has_type
        if self.section.html_rate is not None and HTML in documents.types:
            keep_DT[:, documents.types.index(HTML)] &= draws.fractions("html") < self.section.html_rate
        draw = _KINDS[type(self.section)]
        keep_DT = draw(self, documents.types, keep_DT, draws)
        any_D = draws.fractions("any") < self.probabilities(before + np.arange(len(documents)))
        return np.asarray(keep_DT & any_D[:, None])

    def probabilities(self, numbers: np.ndarray) -> np.ndarray:
        """Probability of any metadata for the documents of these numbers, counted from the beginning of the run;
        float64 [D] of int64 [D]."""
        of_changes = [probability for _, probability in self.section.curriculum]
        return np.array((self.section.probability, *of_changes), np.float64).take(self.changes(numbers))

    def changes(self, numbers: np.ndarray) -> np.ndarray:
        """How many changes of a curriculum the run has passed at the documents of these numbers; int64 [D] of
        int64 [D]."""
        if not self.section.curriculum:
            return np.zeros(len(numbers), np.int64)
        assert self.num_documents is not None, "a curriculum needs the number of documents of the run"
        shares = [share for share, _ in self.section.curriculum]
        return np.asarray(np.searchsorted(shares, numbers / self.num_documents, side="right"))

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the draw without replacement, by type."""
        if not isinstance(self.section, UniformTypes):
            return {}
        if self.section.weights != "counts":
            return self.section.weights
        assert self.counts is not None, "weights of counts need counts"
        return self.counts.weights

    def drawn_together(self, types: tuple[str, ...]) -> list[str]:
        """The types of which nothing has been drawn yet, by name: the order of the configuration must not matter."""
        apart = {HTML} if self.section.html_rate is not None else set()
        return sorted(set(types) - apart)


class _Draws:
    """The numbers of some documents; each is drawn for a purpose, by name."""

    def __init__(self, seed: int, epoch: int, documents: Documents) -> None:
        self._rows = bits_of(seed, epoch, documents.shard, documents.row)

    def bits(self, purpose: str) -> np.ndarray:
        """Random bits, uint64 [D]."""
        return bits_of(self._rows, _number(purpose))

    def fractions(self, purpose: str) -> np.ndarray:
        """Numbers between 0 and 1, float64 [D]."""
        return fractions_of(self._rows, _number(purpose))


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _all(sampler: Sampler, types: tuple[str, ...], has_DT: np.ndarray, draws: _Draws) -> np.ndarray:
    return has_DT


def _independent(sampler: Sampler, types: tuple[str, ...], has_DT: np.ndarray, draws: _Draws) -> np.ndarray:
    section = sampler.section
    assert isinstance(section, IndependentTypes)
    keep_DT = has_DT.copy()
    for name in sampler.drawn_together(types):
        keep_DT[:, types.index(name)] &= draws.fractions(f"type {name}") < section.rates.get(name, section.rate)
    return keep_DT


def _uniform(sampler: Sampler, types: tuple[str, ...], has_DT: np.ndarray, draws: _Draws) -> np.ndarray:
    """Of the weighted types of each document, a random number, drawn one after the other without replacement."""
    weights = sampler.weights
    drawn = [name for name in sampler.drawn_together(types) if name in weights]
    columns = [types.index(name) for name in drawn]
    weights_DC = has_DT[:, columns] * np.array([weights[name] for name in drawn], np.float64)
    num_candidates_D = (weights_DC > 0).sum(axis=1).astype(np.uint64)
    num_kept_D = draws.bits("number") % np.maximum(num_candidates_D, 1) + 1
    kept_DC = np.zeros(weights_DC.shape, bool)
    for number in range(len(drawn)):
        # The sum of a row in order, whose last value is the total of what is left.
        sums_DC = np.cumsum(weights_DC, axis=1)
        total_D = sums_DC[:, -1]
        target_D = np.minimum(draws.fractions(f"pick {number}") * total_D, np.nextafter(total_D, 0))
        chosen_D = (sums_DC > target_D[:, None]).argmax(axis=1)
        rows_D = np.flatnonzero((number < num_kept_D) & (total_D > 0))
        kept_DC[rows_D, chosen_D[rows_D]] = True
        weights_DC[rows_D, chosen_D[rows_D]] = 0
    keep_DT = has_DT.copy()
    keep_DT[:, columns] = kept_DC
    return keep_DT


_KINDS: dict[type[Sampling], Callable[[Sampler, tuple[str, ...], np.ndarray, _Draws], np.ndarray]] = {
    AllTypes: _all,
    UniformTypes: _uniform,
    IndependentTypes: _independent,
}
"""How the types that a document has are drawn."""
