"""`textune.json`, the card of a saved model: how to predict with it as its own run did."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from textune.config import Columns, DataSection, FilesSource, Labels, Section, Task, TokensSection, Truncation
from textune.data import LabelMap, PreparedData, names_by_user
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.model import Device, Precision
from textune.prediction.ownfiles import own_sources

CARD_NAME = "textune.json"


class ModelCard(Section):
    """`textune.json`: what a saved model needs beyond its Hugging Face files to predict as it did in its run."""

    version: int = 1
    """Version of this file's form."""
    problem: Literal["binary", "multiclass", "multilabel", "regression"]
    """What is predicted."""
    names: tuple[str, ...]
    """Label names in the order of their ids."""
    multi_hot: bool | None = None
    """Multilabel: whether lists in the data are multi-hot rows."""
    task: Task
    """The task's own section."""
    max_length: int = Field(ge=2)
    """Longest row in tokens."""
    truncate: Truncation
    """Which part of a longer text is kept."""
    columns: Columns
    """Where text was found in the training data."""
    labels: Labels
    """How labels were read; names that were given are here, whatever file they came from."""
    sources: dict[str, FilesSource] = Field(default_factory=dict)
    """How the run's own files were read, by their suffix, where that is not the usual way."""
    precision: Precision
    """Arithmetic of the run's own evaluation."""
    compiled: bool = False
    """Whether the run could use compiled kernels: figures that should be the same again need the same arithmetic."""
    max_tokens: int = Field(default=16384, ge=1)
    """Most tokens computed at once in the run's own evaluation."""
    metric: str = "auto"
    """The run's main metric."""
    data: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the data, by split."""
    step: int | None = None
    """Optimizer steps that made this model."""
    value: float | None = None
    """The main metric on the validation rows; None where there was no evaluation."""

    @property
    def label_map(self) -> LabelMap:
        """The labels and what they are."""
        return LabelMap(self.problem, self.names, self.multi_hot)


def card_of(
    data: DataSection,
    task: Task,
    tokens: TokensSection,
    prepared: PreparedData,
    device: Device,
    *,
    compiled: bool,
    max_tokens: int,
    metric: str,
) -> ModelCard:
    """The card of a run's model, from the run's sections and its data."""
    label_map, section = prepared.label_map, data.labels
    # Only where the user gave the names do integers of later data count into them.
    names = label_map.names if names_by_user(section) else ()
    return ModelCard(
        problem=label_map.problem,
        names=label_map.names,
        multi_hot=label_map.multi_hot,
        task=task,
        max_length=tokens.longest,
        truncate=tokens.truncate,
        columns=data.columns,
        labels=Labels(names=names, delimiter=section.delimiter),
        sources=own_sources(data),
        precision=device.precision,
        compiled=compiled,
        max_tokens=max_tokens,
        metric=metric,
        data=prepared.fingerprints,
    )


def read_card(folder: Path) -> ModelCard:
    """Read `textune.json` of a model folder; RunError where it is broken or of a later version."""
    path = folder / CARD_NAME
    try:
        tree: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("not a JSON object")
        if tree.get("version", 1) != 1:
            raise RunError(f"{path} was written by a later version of textune.", hint="Upgrade textune to read it.")
        return ModelCard.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        reason = str(error).splitlines()[0]
    raise RunError(f"{path} is damaged: {reason}.", hint="Train again, or restore the file from a copy.")
