"""Predicts a file or a stream: windows of rows are read and tokenised ahead, scored, formatted behind, written in their order.

    (survey: all rows read once) --> thread: read, tokenise --> here: score --> thread: add the predictions, format, write

A file is read twice: first to see that every row can be read and written, and in which columns and types, before any work is
done. Standard input can be read but once, so there a row that cannot be written shows when it comes.

Of several ranks only the first one reads and writes. It tells the others the tokens of each window, so that input which can be
read but once (a pipe), or by one machine only, is shared like any other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from textune.ahead import ahead
from textune.batches import TokenStore
from textune.config import Columns, OnBadRow
from textune.data import (
    STANDARD,
    Rows,
    RowWriter,
    SkippedRow,
    StreamOptions,
    Window,
    is_lasting,
    open_rows,
    select_texts,
    stream_name,
    text_columns,
    window_rows,
)
from textune.errors import DataError
from textune.prediction import WINDOW_ROWS, ModelCard, Predictor, label_rows
from textune.run import Tracker
from textune.wording import count, listing

MAX_WINDOW_SCORES = 10_000_000
"""Numbers that a window's scores may have: 80 MB, however many labels there are."""
LABEL, SCORE = "predicted_label", "predicted_score"
_DECIMALS = 6
"""Of probabilities; a predicted value keeps all of its own."""
WINDOW_CHARACTERS = 2_000_000
"""A window of long texts has fewer rows: it bounds the memory, and how long nothing is heard of a slow model."""


@dataclass(frozen=True)
class _Source:
    """The input, how its texts are made, and what is added to its rows."""

    path: str
    options: StreamOptions
    columns: Columns
    rename: Mapping[str, str]
    """The model's names of columns that the input may call otherwise, by the input's."""
    added: list[str]
    max_rows: int
    skips: bool
    """Leave out rows that cannot be read."""

    @property
    def name(self) -> str:
        return stream_name(self.path)

    def place(self, window: Window, index: int) -> str:
        """Where a row of a window stands."""
        return f"{self.name}, {self.options.unit} {window.numbers[index]}"


class _Pass:
    """The input read once, in windows, each with its columns of text."""

    def __init__(self, source: _Source) -> None:
        """DataError for what cannot be opened, has no such column or already has one of the added ones."""
        self.source = source
        self.skipped: list[SkippedRow] = []
        """Rows left out so far."""
        on_bad = self.skipped.append if source.skips else None
        self._rows = open_rows(source.path, source.options, text_column=source.columns.text, on_bad=on_bad)
        self.notes = self._rows.notes
        """What else was noticed."""
        self._wanted = text_columns(source.columns)
        self._found = list(self._wanted)
        """What the input calls the wanted columns."""
        if self.schema is not None:
            self._require_free(self.schema.names)
            self._find_columns(self.schema.names)

    @property
    def schema(self) -> pa.Schema | None:
        """Columns and types, where they are known before the rows."""
        return self._rows.schema

    def windows(self) -> Generator[tuple[Window, Rows]]:
        """DataError at the first row that cannot be used."""
        source = self.source
        texts = {*self._wanted, *source.rename}
        windows = self._rows.windows(texts, max_rows=min(WINDOW_ROWS, source.max_rows), max_characters=WINDOW_CHARACTERS)
        for number, window in enumerate(windows):
            if self.schema is None and isinstance(window.rows, list):
                names = dict.fromkeys(key for row in window.rows for key in row)
                self._require_free(names)
                if number == 0:
                    self._find_columns(names)
            window, rows = self._texts(window)
            if window.numbers:
                yield window, rows

    def _texts(self, window: Window) -> tuple[Window, Rows]:
        """The columns of text of a window, under the model's names; the window without rows that have no usable text."""
        source = self.source
        piece = window_rows(window, source.name, source.options.unit, wanted=self._found)
        if piece.bad and not source.skips:
            first = piece.bad[0]
            advice = "Fix the row, or leave such rows out with --skip-bad-rows."
            raise DataError(f"{first.place}: {first.reason}.", hint=f"{first.hint} {advice}".strip())
        if piece.bad:
            self.skipped.extend(piece.bad)
            window = window.keep(np.isin(window.numbers, piece.places.number_N))
        return window, Rows(piece.table.rename_columns(self._wanted), source.name, "", (), piece.places)

    def _find_columns(self, found: Collection[str]) -> None:
        source = self.source
        old_names = {new: old for old, new in source.rename.items() if old in found}
        self._found = [old_names.get(name, name) for name in self._wanted]
        for column in self._found:
            if column not in found:
                raise DataError(
                    f"{source.name} has no column {column!r}; its columns are: {listing(map(repr, found)) or 'none'}.",
                    hint=self._rows.hint or "Name the text column with --text (and the second of a pair with --text-pair).",
                )

    def _require_free(self, found: Collection[str]) -> None:
        for column in self.source.added:
            if column in found:
                raise DataError(
                    f"{self.source.name} already has a column {column!r}, which the prediction would overwrite.",
                    hint="Rename it in the input first.",
                )


def predict_file(
    predictor: Predictor,
    *,
    source: str,
    source_options: StreamOptions,
    target: str,
    target_options: StreamOptions,
    columns: Columns,
    rename: Mapping[str, str] | None = None,
    all_scores: bool = False,
    on_bad_row: OnBadRow = "error",
    force: bool = False,
    tracker: Tracker,
) -> int:
    """Predict every row of `source` ("-" is standard input) into `target` ("-" is standard output); returns the number of rows.

    All input columns are kept; `predicted_label` and `predicted_score` are added, with `all_scores` also `score_NAME` for
    every label. Texts are made of cells just as in training; `rename` is that of the run's own source. An existing `target` is
    replaced with `force` only. With `on_bad_row` "skip", rows that cannot be read are left out, counted and said.
    Raises DataError with its line for a row that cannot be read or written, a missing column, or an added name that the input
    already uses: where the input is a file, before anything is computed.

    Several ranks (those of `predictor`) all call it: each scores its share of every window.
    """
    if not predictor.ranks.is_first:
        return _score_along(predictor)
    require_target(source, target, force=force)
    predictor.on_notice = tracker.notice
    card = predictor.card
    added = _added_fields(card, all_scores=all_scores)
    # Each label of a row with all scores becomes a name and a number in the row.
    max_rows = max(1, MAX_WINDOW_SCORES // len(card.names) // (10 if all_scores else 1))
    reading = _Source(source, source_options, columns, rename or {}, added.names, max_rows, skips=on_bad_row == "skip")
    rows = _Pass(reading)
    with RowWriter(target, target_options, schema=rows.schema, added=added) as writer:
        total = 0
        if is_lasting(source):
            total = _survey(rows, writer, tracker)
            rows = _Pass(reading)
        done = _predict_rows(predictor, rows, writer, total=total, all_scores=all_scores, tracker=tracker)
    for note in rows.notes():
        tracker.notice(note)
    if rows.skipped:
        tracker.notice(
            f"{count(len(rows.skipped), 'row')} left out, the first: {rows.skipped[0].place}: {rows.skipped[0].reason}"
        )
    return done


def _survey(rows: _Pass, writer: RowWriter, tracker: Tracker) -> int:
    """Read all rows, for the columns and types that hold them and for the first that cannot be used; returns their number."""
    done = 0
    for window, texts in rows.windows():
        _select(texts, rows.source.columns)
        writer.survey(window.rows, partial(rows.source.place, window))
        done += len(window.numbers)
        tracker.progress("checking the rows", done, 0)
    writer.settle()
    return done


def _predict_rows(
    predictor: Predictor, rows: _Pass, writer: RowWriter, *, total: int, all_scores: bool, tracker: Tracker
) -> int:
    """Score and write all rows; returns their number."""

    def write(window: Window, scores: np.ndarray) -> None:
        columns = _prediction_columns(scores, predictor.card, all_scores=all_scores)
        writer.write(writer.format(window.rows, columns, partial(rows.source.place, window)))

    done = 0
    behind: Future[None] | None = None
    windows = ahead(_tokenised(predictor, rows), 1, name="textune-reader")
    with ThreadPoolExecutor(1, "textune-writer") as behind_us, contextlib.closing(windows):
        for window, store in windows:
            scores = predictor.score_store(predictor.ranks.broadcast(store), place=partial(rows.source.place, window))
            if behind is not None:
                behind.result()
            behind = behind_us.submit(write, window, scores)
            done += len(window.numbers)
            tracker.progress("predicting", done, max(total, done) if total else 0)
        predictor.ranks.broadcast(None)
        if behind is not None:
            behind.result()
    return done


def _score_along(predictor: Predictor) -> int:
    """Score this rank's share of every window that the first rank reads; returns the number of rows of all."""
    done = 0
    while (store := predictor.ranks.broadcast(None)) is not None:
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
        raise DataError(
            f"--output {target} is not a regular file.", hint="Choose another, or leave --output out and use a pipe."
        )
    if not force:
        raise DataError(f"--output {target} exists already.", hint="Choose another file, or add --force to replace it.")


def _same_file(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return Path(one).resolve() == Path(other).resolve()


def _tokenised(predictor: Predictor, rows: _Pass) -> Generator[tuple[Window, TokenStore]]:
    columns = rows.source.columns
    for window, texts in rows.windows():
        text, pair = _select(texts, columns)
        with _hints_of_options(columns):
            store = predictor.encode(text.to_pylist(), None if pair is None else pair.to_pylist(), place=texts.place)
        yield window, store


def _select(texts: Rows, columns: Columns) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    with _hints_of_options(columns):
        return select_texts(texts, columns)


@contextlib.contextmanager
def _hints_of_options(columns: Columns) -> Iterator[None]:
    """The keys that hints name belong to the config of a run; here there are options only."""
    try:
        yield
    except DataError as error:
        hint = error.hint
        if "data.columns" in hint:
            hint = "Name the text column with --text (and the second of a pair with --text-pair)."
        elif "tokens." in hint:
            hint = 'Shorten or split the text: the run was trained with tokens.truncate = "error".'
        elif "second texts" in hint:
            hint = "Name the second column with --text-pair." if columns.text_pair is None else "Leave --text-pair out."
        raise DataError(error.message, hint=hint) from None


def _added_fields(card: ModelCard, *, all_scores: bool) -> pa.Schema:
    """The columns that a prediction adds, in the types that they have in parquet."""
    label = pa.string()
    if card.problem == "regression":
        label = pa.float64()
    elif card.problem == "multilabel" and card.labels.delimiter is None:
        label = pa.list_(pa.string())
    scores = [(f"score_{name}", pa.float64()) for name in card.names] if all_scores else []
    return pa.schema([(LABEL, label), (SCORE, pa.float64()), *scores])


def _prediction_columns(scores: np.ndarray, card: ModelCard, *, all_scores: bool) -> dict[str, list[Any]]:
    """What the model says, by the column that it is added as."""
    labels, best_N = label_rows(scores, card)
    if card.problem == "multilabel":
        delimiter = card.labels.delimiter
        labels = [list(names) if delimiter is None else delimiter.join(names) for names in labels]
    if card.problem != "regression":
        best_N, scores = np.round(best_N, _DECIMALS), np.round(scores, _DECIMALS)
    columns = {LABEL: labels, SCORE: best_N.tolist()}
    if all_scores:
        by_name = scores.reshape(len(labels), len(card.names)).T.tolist()
        columns |= {f"score_{name}": values for name, values in zip(card.names, by_name, strict=True)}
    return columns
