"""Data sources of a user's own, as those of training-wizard write them."""

from functools import cached_property
from typing import Any

from training_wizard.specs.dataset import DataSourceSpec  # type: ignore[import-not-found]


class Reviews(DataSourceSpec):  # type: ignore[misc]
    """As many rows as it is told, a label in turn."""

    num_rows: int = 8

    @cached_property
    def dataset(self) -> Any:
        """The rows."""
        from datasets import Dataset

        texts = ["a good film", "bad and boring"] * self.num_rows
        return Dataset.from_dict({"text": texts[: self.num_rows], "labels": [0, 1] * (self.num_rows // 2)})


class Shouted(DataSourceSpec):  # type: ignore[misc]
    """Another source, in capitals."""

    parent: DataSourceSpec

    @cached_property
    def dataset(self) -> Any:
        """The rows."""
        return self.parent.dataset.map(lambda row: {"text": row["text"].upper()}, keep_in_memory=True)


class Broken(DataSourceSpec):  # type: ignore[misc]
    """Fails."""

    @property
    def dataset(self) -> Any:
        """Nothing."""
        raise KeyError("no rows today")
