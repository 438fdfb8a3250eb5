"""What sampling needs to know of the training data before the first step; found once and kept in the loader's
state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textune.metadata.sampling import TypeCounts


@dataclass(frozen=True)
class DocumentFacts:
    """Each is None where nothing needs it, or nobody knows."""

    counts: TypeCounts | None = None
    """In how many documents each type was found."""
    num_documents: int | None = None
    """Documents that the whole run reads."""
    chunks_per_epoch: int | None = None
    """About how many rows of tokens an epoch has; None where the number of documents is not known."""

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object without what is None."""
        facts: dict[str, Any] = {}
        if self.counts is not None:
            facts["counts"] = {"documents": self.counts.documents, "by_type": dict(self.counts.by_type)}
        numbers = {"num_documents": self.num_documents, "chunks_per_epoch": self.chunks_per_epoch}
        return facts | {name: number for name, number in numbers.items() if number is not None}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> DocumentFacts:
        """The facts that `to_dict` wrote."""
        counts = state.get("counts")
        return cls(
            None if counts is None else TypeCounts(**counts), state.get("num_documents"), state.get("chunks_per_epoch")
        )
