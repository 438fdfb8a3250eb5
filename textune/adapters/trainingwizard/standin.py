"""A stand-in for `training_wizard.specs`, where that is not installed: what a data source of the user's own imports.

`Spec`, `DataSourceSpec` and the data sources for classification, with the same fields and the same meaning. It is
there while such a class is imported and asked for its rows, and only then.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import string
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, model_validator

from textune.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset


class Spec(BaseModel):
    """A table of a file of specs; `spec_class` names the class below this one that takes the table."""

    model_config = ConfigDict(extra="forbid")

    spec_class: str = ""

    @model_validator(mode="wrap")
    @classmethod
    def _by_class(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        named = value.get("spec_class") if isinstance(value, Mapping) else None
        if named:
            module, _, name = str(named).rpartition(".")
            found = getattr(importlib.import_module(module), name)
            if found is not cls:
                return found.model_validate(value)
        if isinstance(value, Mapping) and inspect.isabstract(cls):
            raise ValueError("spec_class is not set, which says what kind of source this is")
        return handler(value)


class DataSourceSpec(Spec, ABC):
    """Where rows come from."""

    @property
    @abstractmethod
    def dataset(self) -> Dataset:
        """The rows."""


class TokenLengthFilter(BaseModel):
    """Leaves out rows with too many tokens, special tokens included."""

    column: str | list[str]
    max_length: int
    pretrained_name: str
    aggregation: Literal["max", "sum"] = "sum"

    def apply(self, dataset: Dataset) -> Dataset:
        """The rows that are short enough, by the sum of their columns or by the longest of them."""
        columns = [self.column] if isinstance(self.column, str) else self.column
        count = _token_counter(self.pretrained_name)
        together: Callable[[list[int]], int] = sum if self.aggregation == "sum" else max

        def fits(batch: dict[str, list[str]]) -> list[bool]:
            lengths = [count(batch[column]) for column in columns]
            return [together(list(row)) <= self.max_length for row in zip(*lengths, strict=True)]

        return dataset.filter(fits, batched=True, batch_size=1000)


def _token_counter(pretrained: str) -> Callable[[list[str]], list[int]]:
    # Where rows are read, a run has imported transformers already; nothing else here needs it.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(pretrained)
    return lambda texts: [len(ids) for ids in tokenizer(texts, padding=False, verbose=False)["input_ids"]]


class PreProcessingSpec(Spec):
    """Chooses columns and rows, in the order of its fields; `shuffle` does nothing."""

    select_columns: list[str] | None = None
    rename_columns: dict[str, str] | None = None
    shuffle: bool = True
    take: int | None = None
    token_length_filter: TokenLengthFilter | None = None

    def apply(self, dataset: Dataset) -> Dataset:
        """What is chosen of the rows."""
        if self.select_columns:
            dataset = dataset.select_columns(self.select_columns)
        if self.rename_columns:
            dataset = dataset.rename_columns(self.rename_columns)
        if self.take and len(dataset) > self.take:
            dataset = dataset.select(range(self.take))
        return dataset if self.token_length_filter is None else self.token_length_filter.apply(dataset)


class SimpleDataSourceSpec(DataSourceSpec):
    """Files."""

    data_files: str | list[str]
    loader: Literal["csv", "text", "json"] = "json"
    load_dataset_kwargs: dict[str, Any] = Field(default_factory=dict)
    preprocessing: PreProcessingSpec = Field(default_factory=PreProcessingSpec)

    @cached_property
    def dataset(self) -> Dataset:
        """The rows of the files, held in memory; the library's copy of them on disk is removed."""
        load_dataset = _of_datasets("load_dataset")
        files = [self.data_files] if isinstance(self.data_files, str) else self.data_files
        options = {**self.load_dataset_kwargs, "keep_in_memory": True}
        with tempfile.TemporaryDirectory() as folder:
            options["cache_dir"] = folder
            return self.preprocessing.apply(load_dataset(self.loader, data_files=files, split="train", **options))


class MultiDataSourceSpec(DataSourceSpec):
    """Several sources, one after the other."""

    parents: list[DataSourceSpec]

    @cached_property
    def dataset(self) -> Dataset:
        """All their rows."""
        found: Dataset = _of_datasets("concatenate_datasets")([parent.dataset for parent in self.parents])
        return found


class SequenceClassificationDatasourceSpec(DataSourceSpec):
    """Text made of columns, and the column of the label."""

    parent: DataSourceSpec
    text_template: str = "{text}"
    label_column: str = "label"
    keep_columns: list[str] = []

    @cached_property
    def dataset(self) -> Dataset:
        """Rows of `text`, `labels` and what is kept."""
        rows = self.parent.dataset
        dropped = [name for name in rows.column_names if name not in self.keep_columns]
        fill = string.Formatter().vformat
        return rows.map(
            lambda row: {"text": fill(self.text_template, (), row), "labels": row[self.label_column]},
            remove_columns=dropped,
            keep_in_memory=True,
        )


def _of_datasets(name: str) -> Any:
    if importlib.util.find_spec("datasets") is None:
        raise ConfigError(
            "A data source that is a class needs the datasets library.",
            hint='Run `pip install "textune[datasets]"`.',
            key="spec_class",
        )
    return getattr(importlib.import_module("datasets"), name)


_DATASET = (
    *(DataSourceSpec, SimpleDataSourceSpec, MultiDataSourceSpec, SequenceClassificationDatasourceSpec),
    *(PreProcessingSpec, TokenLengthFilter),
)
_MODULES: dict[str, tuple[type[BaseModel], ...]] = {
    "training_wizard": (),
    "training_wizard.specs": (),
    "training_wizard.specs.spec": (Spec,),
    "training_wizard.specs.dataset": (Spec, *_DATASET),
}


@contextmanager
def stand_in() -> Iterator[None]:
    """`training_wizard.specs` can be imported meanwhile, from here where it is not installed."""
    if "training_wizard" in sys.modules or importlib.util.find_spec("training_wizard") is not None:
        yield
        return
    for path, classes in _MODULES.items():
        made = ModuleType(path, "A stand-in of textune's.")
        made.__path__ = []
        vars(made).update({one.__name__: one for one in classes})
        sys.modules[path] = made
        above, _, name = path.rpartition(".")
        if above:
            setattr(sys.modules[above], name, made)
    try:
        yield
    finally:
        for path in _MODULES:
            sys.modules.pop(path, None)
