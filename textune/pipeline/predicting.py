"""Predicts a file or a stream: reads windows of rows, adds what the model says, writes them in the same order."""

from __future__ import annotations

import contextlib
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.config.schema import Columns
from textune.data.columns import select_texts, text_columns
from textune.data.rows import listing
from textune.data.stream import STANDARD, Row, RowWriter, StreamOptions, parquet_schema, read_rows, stream_name, window_rows
from textune.errors import DataError
from textune.prediction import WINDOW_ROWS, ModelCard, Prediction, Predictor
from textune.tracking import Tracker

LABEL, SCORE = "predicted_label", "predicted_score"
_DECIMALS = 6
"""Of probabilities; a predicted value keeps all of its own."""


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
    """
    require_target(source, target, force=force)
    schema = parquet_schema(source, source_options)
    added = _added_fields(predictor.card, all_scores=all_scores)
    unit = "row" if source_options.format == "parquet" else "line"
    rows = read_rows(source, source_options, text_column=columns.text)
    done = 0
    with (
        contextlib.closing(rows),  # type: ignore[type-var]
        RowWriter(target, target_options, schema=_written_schema(schema, added)) as writer,
    ):
        while window := list(islice(rows, WINDOW_ROWS)):
            _require_columns([row for _, row in window], columns, added.names, name=stream_name(source), first=done == 0)
            predictions = _predict(predictor, window, source, source_options, columns, schema)
            places = [f"{stream_name(source)}, {unit} {number}" for number, _ in window]
            written = [
                {**row, **_added(prediction, predictor.card, all_scores=all_scores)}
                for (_, row), prediction in zip(window, predictions, strict=True)
            ]
            writer.write(written, places)
            done += len(window)
            tracker.progress("predicting", done, 0)
    if writer.num_changed:
        tracker.notice(
            f"{writer.num_changed:,} cells held a delimiter or a line end, which {target_options.format} without quotes cannot"
            " hold; blanks stand there now. Write jsonl, or use --quoting standard, to keep them."
        )
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


def _predict(
    predictor: Predictor,
    window: list[tuple[int, Row]],
    source: str,
    options: StreamOptions,
    columns: Columns,
    schema: pa.Schema | None,
) -> list[Prediction]:
    try:
        rows = window_rows(window, source, options, wanted=text_columns(columns), schema=schema)
        text, pair = select_texts(rows, columns)
        return predictor.predict(text.to_pylist(), None if pair is None else pair.to_pylist(), place=rows.place)
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


def _require_columns(rows: list[Row], columns: Columns, added: list[str], *, name: str, first: bool) -> None:
    found = dict.fromkeys(key for row in rows for key in row)
    if first:
        for column in text_columns(columns):
            if column not in found:
                raise DataError(
                    f"{name} has no column {column!r}; its columns are: {listing(map(repr, found)) or 'none'}.",
                    hint="Name the text column with --text (and the second of a pair with --text-pair).",
                )
    if taken := [column for column in added if column in found]:
        raise DataError(
            f"{name} already has a column {taken[0]!r}, which the prediction would overwrite.",
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


def _added(prediction: Prediction, card: ModelCard, *, all_scores: bool) -> Row:
    decimals = None if card.problem == "regression" else _DECIMALS
    label: Any = prediction.label
    if isinstance(label, tuple):
        delimiter = card.labels.delimiter
        label = list(label) if delimiter is None else delimiter.join(label)
    added: Row = {LABEL: label, SCORE: _rounded(prediction.score, decimals)}
    if all_scores:
        added |= {f"score_{name}": _rounded(score, decimals) for name, score in prediction.scores.items()}
    return added


def _rounded(value: float, decimals: int | None) -> float:
    return value if decimals is None else round(value, decimals)
