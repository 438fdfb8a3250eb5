"""Predicts a file or a stream: windows of rows are read and tokenised ahead, scored, formatted behind, written in their order.

thread: read, tokenise --> here: score --> thread: add the predictions, format --> here: write

Of several ranks only the first one reads and writes. It tells the others the tokens of each window, so that input which can be
read but once (a pipe), or by one machine only, is shared like any other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from textune.config.schema import Columns
from textune.data.ahead import ahead
from textune.data.columns import select_texts, text_columns
from textune.data.delimited import wrong_delimiter
from textune.data.rows import listing
from textune.data.rowwriter import RowWriter
from textune.data.stream import (
    STANDARD,
    Row,
    StreamOptions,
    parquet_schema,
    read_rows,
    stream_name,
    window_rows,
)
from textune.data.tokens import TokenStore
from textune.errors import DataError
from textune.prediction import WINDOW_ROWS, ModelCard, Predictor, label_rows
from textune.tracking import Tracker

MAX_WINDOW_SCORES = 10_000_000
"""Numbers that a window's scores may have: 80 MB, however many labels there are."""
LABEL, SCORE = "predicted_label", "predicted_score"
_DECIMALS = 6
"""Of probabilities; a predicted value keeps all of its own."""
WINDOW_CHARACTERS = 2_000_000
"""A window of long texts has fewer rows: it bounds the memory, and how long nothing is heard of a slow model."""


@dataclass(frozen=True)
class _Source:
    """The input, and how its texts are made."""

    path: str
    options: StreamOptions
    columns: Columns
    schema: pa.Schema | None

    @property
    def name(self) -> str:
        return stream_name(self.path)


@dataclass(frozen=True)
class _Window:
    """Consecutive rows with the numbers of their lines, and their tokens."""

    numbers: list[int]
    rows: list[Row]
    store: TokenStore


def predict_file(
    predictor: Predictor,
    *,
    source: str,
    source_options: StreamOptions,
    target: str,
    target_options: StreamOptions,
    columns: Columns,
    all_scores: bool = False,
    force: bool = False,
    tracker: Tracker,
) -> int:
    """Predict every row of `source` ("-" is standard input) into `target` ("-" is standard output); returns the number of rows.

    All input columns are kept; `predicted_label` and `predicted_score` are added, with `all_scores` also `score_NAME` for
    every label. Texts are made of cells just as in training. An existing `target` is replaced with `force` only.
    Raises DataError with its line for a row that cannot be read, a missing column, or an added name that the input already
    uses.

    Several ranks (those of `predictor`) all call it: each scores its share of every window.
    """
    if not predictor.ranks.is_first:
        return _score_along(predictor)
    require_target(source, target, force=force)
    predictor.on_notice = tracker.notice
    reading = _Source(source, source_options, columns, parquet_schema(source, source_options))
    card = predictor.card
    added = _added_fields(card, all_scores=all_scores)
    writer = RowWriter(target, target_options, schema=_written_schema(reading.schema, added))
    unit = "row" if source_options.format == "parquet" else "line"

    def write(window: _Window, scores: np.ndarray) -> None:
        _add_predictions(window.rows, scores, card, all_scores=all_scores)
        writer.write(writer.format(window.rows, lambda index: f"{reading.name}, {unit} {window.numbers[index]}"))

    done = 0
    # Each label of a row with all scores becomes a name and a number in the row.
    max_rows = max(1, MAX_WINDOW_SCORES // len(card.names) // (10 if all_scores else 1))
    behind: Future[None] | None = None
    windows = ahead(_windows(predictor, reading, added.names, max_rows=max_rows), 1, name="textune-reader")
    with writer, ThreadPoolExecutor(1, "textune-writer") as behind_us, contextlib.closing(windows):
        for window in windows:
            scores = predictor.score_store(predictor.ranks.told(window.store))
            if behind is not None:
                behind.result()
            behind = behind_us.submit(write, window, scores)
            done += len(window.rows)
            tracker.progress("predicting", done, 0)
        predictor.ranks.told(None)
        if behind is not None:
            behind.result()
    if writer.num_changed:
        tracker.notice(
            f"{writer.num_changed:,} cells held a delimiter or a line end, which {target_options.format} without quotes cannot"
            " hold; blanks stand there now. Write jsonl, or use --quoting standard, to keep them."
        )
    return done


def _score_along(predictor: Predictor) -> int:
    """Score this rank's share of every window that the first rank reads; returns the number of rows of all."""
    done = 0
    while (store := predictor.ranks.told(None)) is not None:
        predictor.score_store(store)
        done += len(store)
    return done


def require_target(source: str, target: str, *, force: bool) -> None:
    """DataError where `target` is the input itself, under whatever name, or exists without `force`."""
    if target == STANDARD:
        return
    if source != STANDARD and _same_file(source, target):
        raise DataError(f"--output {target} is the input itself.", hint="Choose another file: the input is never overwritten.")
    if not os.path.lexists(target):
        return
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError(f"--output {target} is no regular file.", hint="Choose another, or leave --output out and use a pipe.")
    if not force:
        raise DataError(f"--output {target} exists already.", hint="Choose another file, or add --force to replace it.")


def _same_file(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return Path(one).resolve() == Path(other).resolve()


def _windows(predictor: Predictor, source: _Source, added: list[str], *, max_rows: int) -> Generator[_Window]:
    """The input in windows of at most so many rows.

    DataError for what cannot be read, has no such column or already has one of the `added` ones.
    """
    rows = read_rows(source.path, source.options, text_column=source.columns.text, notice=predictor.on_notice)
    with contextlib.closing(rows):
        for number, window in enumerate(_cut(rows, text_columns(source.columns), max_rows=min(WINDOW_ROWS, max_rows))):
            _require_columns([row for _, row in window], source, added, first=number == 0)
            yield _Window([line for line, _ in window], [row for _, row in window], _tokenise(predictor, window, source))


def _cut(rows: Iterable[tuple[int, Row]], texts: tuple[str, ...], *, max_rows: int) -> Iterator[list[tuple[int, Row]]]:
    """Rows in windows of at most `max_rows` and, but for the last row, WINDOW_CHARACTERS in the columns `texts`."""
    window: list[tuple[int, Row]] = []
    num_characters = 0
    for item in rows:
        window.append(item)
        for column in texts:
            cell = item[1].get(column)
            num_characters += len(cell) if isinstance(cell, str) else 0
        if len(window) >= max_rows or num_characters >= WINDOW_CHARACTERS:
            yield window
            window, num_characters = [], 0
    if window:
        yield window


def _tokenise(predictor: Predictor, window: list[tuple[int, Row]], source: _Source) -> TokenStore:
    columns = source.columns
    try:
        rows = window_rows(window, source.path, source.options, wanted=text_columns(columns), schema=source.schema)
        text, pair = select_texts(rows, columns)
        return predictor.encode(text.to_pylist(), None if pair is None else pair.to_pylist(), place=rows.place)
    except DataError as error:
        # The keys that such hints name belong to the config of a run; here there are options only.
        hint = error.hint
        if "data.columns" in hint:
            hint = "Name the text column with --text (and the second of a pair with --text-pair)."
        elif "tokens." in hint:
            hint = 'Shorten or split the text: the run was trained with tokens.truncate = "error".'
        elif "second texts" in hint:
            hint = "Name the second column with --text-pair." if columns.text_pair is None else "Leave --text-pair out."
        raise DataError(error.message, hint=hint) from None


def _require_columns(rows: list[Row], source: _Source, added: list[str], *, first: bool) -> None:
    found = set().union(*rows)
    if first:
        for column in text_columns(source.columns):
            if column not in found:
                names = tuple(dict.fromkeys(key for row in rows for key in row))
                cells = source.options.format in {"csv", "tsv"}
                wrong = wrong_delimiter(names, source.options.separator) if cells else ""
                raise DataError(
                    f"{source.name} has no column {column!r}; its columns are: {listing(map(repr, names)) or 'none'}.",
                    hint=wrong.replace("set delimiter =", "add --delimiter")
                    or "Name the text column with --text (and the second of a pair with --text-pair).",
                )
    if taken := [column for column in added if column in found]:
        raise DataError(
            f"{source.name} already has a column {taken[0]!r}, which the prediction would overwrite.",
            hint="Rename it in the input first.",
        )


def _added_fields(card: ModelCard, *, all_scores: bool) -> pa.Schema:
    """The columns that a prediction adds, in the types that they have in parquet."""
    label = pa.string()
    if card.problem == "regression":
        label = pa.float64()
    elif card.problem == "multilabel" and card.labels.delimiter is None:
        label = pa.list_(pa.string())
    scores = [(f"score_{name}", pa.float64()) for name in card.names] if all_scores else []
    return pa.schema([(LABEL, label), (SCORE, pa.float64()), *scores])


def _written_schema(schema: pa.Schema | None, added: pa.Schema) -> pa.Schema:
    kept = [field for field in schema or () if field.name not in added.names]
    return pa.schema([*kept, *added])


def _add_predictions(rows: list[Row], scores: np.ndarray, card: ModelCard, *, all_scores: bool) -> None:
    """Write what the model says into the rows."""
    labels, best_N = label_rows(scores, card)
    if card.problem == "multilabel":
        delimiter = card.labels.delimiter
        labels = [list(names) if delimiter is None else delimiter.join(names) for names in labels]
    if card.problem != "regression":
        best_N = np.round(best_N, _DECIMALS)
    for row, label, best in zip(rows, labels, best_N.tolist(), strict=True):
        row[LABEL] = label
        row[SCORE] = best
    if all_scores:
        columns = [f"score_{name}" for name in card.names]
        scores = scores if card.problem == "regression" else np.round(scores, _DECIMALS)
        for row, values in zip(rows, scores.reshape(len(rows), len(columns)).tolist(), strict=True):
            row.update(zip(columns, values, strict=True))
