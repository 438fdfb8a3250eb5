"""The columns that a rows file has for each kind of head: names for class ids, lists of names for label sets, numbers;
for `rowsfile.py`.

Shapes: n rows of a head, C classes or labels, D bytes of a label set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from textune.evaluation.scored import Scored
from textune.tasks import BYTES, CHARACTERS, TOKENS, Answers, Head

NAME = pa.dictionary(pa.int32(), pa.string())
NAMES = pa.list_(pa.string())
SCORES = pa.list_(pa.float64())
Fields = dict[str, pa.DataType]
Columns = Mapping[str, pa.Array]
Arrays = dict[str, np.ndarray]
"""Fields of `Scored`, by name."""


class Unreadable(Exception):
    """A file holds what no evaluation writes; the message is the end of a sentence."""


class HeadColumns(Protocol):
    """How the rows of a head stand in a file."""

    def fields(self) -> Fields:
        """The columns."""

    def written(self, scored: Scored) -> dict[str, pa.Array]:
        """The columns of some rows."""

    def read(self, columns: Columns) -> Arrays:
        """The inverse, for rows that have a label; Unreadable for impossible values."""


def columns_of(head: Head) -> HeadColumns:
    """Those of this head."""
    answers = head.answers
    if answers.measures.of_texts:
        return _TextColumns()
    if answers.label_map.exclusive:
        return _ClassColumns(answers)
    return _LabelColumns(answers) if answers.label_map.several else _NumberColumns()


class _ClassColumns:
    """A class by its name, with the probability of the predicted one and the negative logarithm of that of the true
    one."""

    def __init__(self, answers: Answers) -> None:
        self._names = pa.array(answers.label_map.names, pa.string())

    def fields(self) -> Fields:
        return {"target": NAME, "prediction": NAME, "score": pa.float64(), "loss": pa.float64()}

    def written(self, scored: Scored) -> dict[str, pa.Array]:
        assert scored.sureness is not None and scored.loss is not None
        return {
            "target": _named(scored.targets, self._names),
            "prediction": _named(scored.predictions, self._names),
            "score": pa.array(scored.sureness),
            "loss": pa.array(scored.loss),
        }

    def read(self, columns: Columns) -> Arrays:
        return {
            "targets": ids_in(columns["target"], self._names),
            "predictions": ids_in(columns["prediction"], self._names),
            "sureness": _probabilities(columns["score"], "score"),
            "loss": numbers_in(columns["loss"], "loss"),
        }


class _LabelColumns:
    """Label sets as lists of names; `suspect` is the label that a row is most wrong about, if any, and `score` its
    probability."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._names = pa.array(answers.label_map.names, pa.string())

    def fields(self) -> Fields:
        lists = {"target": NAMES, "prediction": NAMES}
        return lists | {"suspect": NAME, "score": pa.float64(), "loss": pa.float64()}

    def written(self, scored: Scored) -> dict[str, pa.Array]:
        assert scored.sureness is not None and scored.loss is not None and scored.suspect is not None
        return {
            "target": self._lists(scored.targets),
            "prediction": self._lists(scored.predictions),
            "suspect": _named(scored.suspect, self._names),
            "score": pa.array(scored.sureness),
            "loss": pa.array(scored.loss),
        }

    def _lists(self, bits_ND: np.ndarray) -> pa.Array:
        choices = self._answers.choices
        assert choices is not None
        row_K, label_K = np.nonzero(choices.hits(bits_ND))
        stops = np.searchsorted(row_K, np.arange(len(bits_ND) + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(stops), self._names.take(pa.array(label_K)))

    def read(self, columns: Columns) -> Arrays:
        return {
            "targets": self._bits(columns["target"]),
            "predictions": self._bits(columns["prediction"]),
            "suspect": ids_in(columns["suspect"], self._names, may_lack=True),
            "sureness": _probabilities(columns["score"], "score"),
            "loss": numbers_in(columns["loss"], "loss"),
        }

    def _bits(self, lists: pa.Array) -> np.ndarray:
        ids = ids_in(lists.flatten(), self._names)
        given = np.zeros((len(lists), len(self._names)), bool)
        given[np.asarray(pc.list_parent_indices(lists)), ids] = True
        return self._answers.store(given)


class _NumberColumns:
    """A number; its error says how wrong it is."""

    def fields(self) -> Fields:
        return {"target": pa.float64(), "prediction": pa.float64()}

    def written(self, scored: Scored) -> dict[str, pa.Array]:
        return {"target": pa.array(scored.targets), "prediction": pa.array(scored.predictions)}

    def read(self, columns: Columns) -> Arrays:
        return {
            "targets": numbers_in(columns["target"], "target"),
            "predictions": numbers_in(columns["prediction"], "prediction"),
        }


class _TextColumns:
    """How much of a document was scored (its `tokens` stand there for every kind of head), and how unlikely that
    was."""

    def fields(self) -> Fields:
        whole = {"characters": pa.int64(), "bytes": pa.int64()}
        return whole | {"nats": pa.float64(), "bits_per_character": pa.float64()}

    def written(self, scored: Scored) -> dict[str, pa.Array]:
        characters = scored.targets[:, CHARACTERS]
        bits = scored.predictions / np.log(2) / np.maximum(characters, 1)
        return {
            "characters": pa.array(characters),
            "bytes": pa.array(scored.targets[:, BYTES]),
            "nats": pa.array(scored.predictions),
            "bits_per_character": pa.array(bits, mask=characters == 0),
        }

    def read(self, columns: Columns) -> Arrays:
        targets = np.zeros((len(columns["tokens"]), 3), np.int64)
        for place, name in ((TOKENS, "tokens"), (CHARACTERS, "characters"), (BYTES, "bytes")):
            targets[:, place] = numbers_in(columns[name], name)
        if (targets < 0).any():
            raise Unreadable("a document has fewer than 0 scored tokens, characters or bytes")
        return {"targets": targets, "predictions": numbers_in(columns["nats"], "nats")}


def score_lists(scores_nC: np.ndarray) -> pa.Array:
    """A list of C numbers for each row."""
    num, width = scores_nC.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(num + 1, dtype=np.int32) * width), pa.array(scores_nC.ravel()))


def scores_in(lists: pa.Array, width: int) -> np.ndarray:
    """float64 [n, C] probabilities; Unreadable where a list has another length than C."""
    if not (np.asarray(pc.list_value_length(lists)) == width).all():
        raise Unreadable(f"a row has not {width:,} scores")
    return _probabilities(lists.flatten(), "scores").reshape(-1, width)


def numbers_in(column: pa.Array, name: str) -> np.ndarray:
    """The numbers of a column that has no gaps."""
    if column.null_count:
        raise Unreadable(f"{name} is missing in {column.null_count:,} rows")
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unreadable(f"{name} is not a number in some rows")
    return np.asarray(values)


def _probabilities(column: pa.Array, name: str) -> np.ndarray:
    values = numbers_in(column, name)
    if len(values) and not (values.min() >= 0 and values.max() <= 1 + 1e-6):
        raise Unreadable(f"{name} is no probability in some rows")
    return values


def _named(ids: np.ndarray, names: pa.Array) -> pa.Array:
    """Names of ids; null for -1."""
    return pa.DictionaryArray.from_arrays(pa.array(ids.astype(np.int32), mask=ids < 0), names)


def ids_in(column: pa.Array, names: pa.Array, *, may_lack: bool = False) -> np.ndarray:
    """int32 [n] the inverse; Unreadable for a name that is none of these, or a gap that may not be."""
    if column.null_count and not may_lack:
        raise Unreadable(f"a label is missing in {column.null_count:,} rows")
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    known = pc.index_in(encoded.dictionary, names)
    if known.null_count:
        unknown = encoded.dictionary.filter(pc.is_null(known))[0].as_py()
        raise Unreadable(f"{unknown!r:.60} is not a label of the model")
    ids = known.take(encoded.indices)
    return np.asarray(pc.fill_null(ids, -1)).astype(np.int32)
