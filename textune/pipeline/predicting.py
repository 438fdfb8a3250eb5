"""Predicts a file or a stream: reads windows of rows, adds what the model says, writes them in the same order."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path
from typing import Any

from textune.config.schema import Columns
from textune.data.columns import Template
from textune.data.stream import Row, RowWriter, StreamOptions, parquet_schema, read_rows
from textune.errors import DataError
from textune.prediction import WINDOW_ROWS, Prediction, Predictor
from textune.tracking import Tracker

LABEL, SCORE = "predicted_label", "predicted_score"


def predict_file(
    predictor: Predictor,
    *,
    source: str,
    source_options: StreamOptions,
    target: str,
    target_options: StreamOptions,
    columns: Columns,
    all_scores: bool = False,
    tracker: Tracker,
) -> int:
    """Predict every row of `source` ("-" is standard input) into `target` ("-" is standard output); returns the number of rows.

    All input columns are kept; `predicted_label` and `predicted_score` are added, with `all_scores` also `score_NAME` for
    every label.
    Raises DataError with its line for a row that cannot be read, a missing column, or an added name that the input already
    uses.
    """
    if target != "-" and source != "-" and Path(target).absolute() == Path(source).absolute():
        raise DataError(f"--output {target} is the input itself.", hint="Choose another file: nothing is overwritten.")
    rows = read_rows(source, source_options, text_column=columns.text)
    done = 0
    with contextlib.closing(rows), RowWriter(target, target_options, schema=parquet_schema(source, source_options)) as writer:  # type: ignore[type-var]
        while window := list(islice(rows, WINDOW_ROWS)):
            if done == 0:
                _require_columns(window[0][1], columns, predictor, all_scores=all_scores, name=source)
            texts = [_text(place, row, columns) for place, row in window]
            pairs = None if columns.text_pair is None else [_cell(place, row, columns.text_pair) for place, row in window]
            predictions = predictor.predict(texts, pairs)
            writer.write([{**row, **_added(p, predictor, all_scores)} for (_, row), p in zip(window, predictions, strict=True)])
            done += len(window)
            tracker.progress("predicting", done, 0)
    return done


def _require_columns(row: Row, columns: Columns, predictor: Predictor, *, all_scores: bool, name: str) -> None:
    wanted = Template(columns.template).names if columns.template else [columns.text]
    for column in [*wanted, *([columns.text_pair] if columns.text_pair else [])]:
        if column not in row:
            place = "standard input" if name == "-" else name
            raise DataError(
                f"{place} has no column {column!r}; its columns are: {', '.join(map(str, row))}.",
                hint="Name the text column with --text (and the second of a pair with --text-pair).",
            )
    added = [LABEL, SCORE, *([f"score_{label}" for label in predictor.card.names] if all_scores else [])]
    if taken := [column for column in added if column in row]:
        raise DataError(
            f"{name} already has a column {taken[0]!r}, which the prediction would overwrite.",
            hint="Rename it in the input first.",
        )


def _text(place: str, row: Row, columns: Columns) -> str:
    if columns.template is None:
        return _cell(place, row, columns.text)
    template = Template(columns.template)
    return template.fill({name: _cell(place, row, name) for name in template.names})


def _cell(place: str, row: Row, column: str) -> str:
    if column not in row:
        raise DataError(f"{place} has no {column!r}.", hint="Every row needs the text column.")
    value = row[column]
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise DataError(f"{place}: {column!r} holds {str(value)[:40]!r}, which is no text.", hint="Give texts as strings.")


def _added(prediction: Prediction, predictor: Predictor, all_scores: bool) -> dict[str, Any]:
    label: Any = prediction.label
    if isinstance(label, tuple):
        delimiter = predictor.card.labels.delimiter
        label = list(label) if delimiter is None else delimiter.join(label)
    added: dict[str, Any] = {LABEL: label, SCORE: round(prediction.score, 6)}
    if all_scores:
        added |= {f"score_{name}": round(score, 6) for name, score in prediction.scores.items()}
    return added
