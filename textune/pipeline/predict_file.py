"""Predicts a file or a stream: windows of rows are read and tokenised ahead, scored, then formatted and written in
order.

    (survey: all rows read once) --> thread: read, tokenise --> here: score --> thread: add predictions, format, write

A file is read twice: first to check, before any work is done, that every row can be read and written, and in which
columns and types. Standard input can only be read once, so a row that cannot be written is found when it comes.

Of several ranks, only the first one reads and writes. It sends the tokens of each window to the others, so input that
can be read only once (a pipe), or by only one machine, is shared like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from textune.ahead import ahead
from textune.batches import TokenStore
from textune.config import Columns, OnBadRow
from textune.data import RowWriter, StreamOptions, Window, going_without, is_lasting, select_texts
from textune.model import CallerBudget
from textune.pipeline.targets import require_target
from textune.prediction import (
    Input,
    InputPass,
    ModelCard,
    Predictor,
    Scores,
    encode_rows,
    named_scores,
    prediction_fields,
    without_room,
)
from textune.run import Tracker
from textune.wording import count

MAX_WINDOW_SCORES = 10_000_000
"""The most numbers in a window's scores: 80 MB, however many labels there are."""


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
    """Predict every row of `source` ("-" is standard input) into `target` ("-" is standard output); returns the number
    of rows.

    All input columns are kept; `predicted_label` and `predicted_score` are added, with `all_scores` also `score_NAME`
    for every label. Texts are made from cells just as in training; `rename` is that of the run's own source. An
    existing `target` is replaced only with `force`. With `on_bad_row` "skip", rows that cannot be read, or whose
    fields leave no room for their text, are left out, counted and reported. Raises DataError with its line for a row
    that cannot be used or written, a missing column, or an added name that the input already uses: where the input is
    a file, before anything is computed (only how long fields are shows later).

    Several ranks (those of `predictor`) all call it: each scores its share of every window.
    """
    budget = predictor.scorer.budget(tracker.notice)
    if not predictor.scorer.ranks.is_first:
        return _score_along(predictor, budget)
    require_target(source, target, force=force)
    card = predictor.card
    added = prediction_fields(card, all_scores=all_scores)
    reading = Input(
        source,
        source_options,
        columns,
        rename or {},
        added.names,
        most_rows(card, all_scores=all_scores),
        skips=on_bad_row == "skip",
        prefix=card.metadata,
    )
    rows = InputPass(reading)
    with RowWriter(target, target_options, schema=rows.schema, added=added) as writer:
        total = 0
        if is_lasting(source):
            total = _survey(rows, writer, tracker)
            rows = InputPass(reading)
        done = _predict_rows(predictor, rows, writer, budget, total=total, all_scores=all_scores, tracker=tracker)
    for note in rows.notes():
        tracker.notice(note)
    if card.metadata is not None and (said := going_without(card.metadata, rows.num_without, rows.num_rows)):
        tracker.notice(said)
    if rows.skipped:
        tracker.notice(
            f"{count(len(rows.skipped), 'row')} left out; the first: {rows.skipped[0].place}: {rows.skipped[0].reason}"
        )
    return done


def most_rows(card: ModelCard, *, all_scores: bool) -> int:
    """Rows of a window at most."""
    # With all scores, each label adds a name and a number to the row.
    return max(1, MAX_WINDOW_SCORES // len(card.names) // (10 if all_scores else 1))


def _survey(rows: InputPass, writer: RowWriter, tracker: Tracker) -> int:
    """Read all rows, for the columns and types that hold them and for the first that cannot be used; returns their
    number."""
    done = 0
    for window, texts in rows.windows():
        select_texts(texts, rows.source.columns)
        writer.survey(window.rows, partial(rows.source.place, window))
        done += len(window.numbers)
        tracker.progress("checking the rows", done, 0)
    writer.settle()
    return done


def _predict_rows(
    predictor: Predictor,
    rows: InputPass,
    writer: RowWriter,
    budget: CallerBudget,
    *,
    total: int,
    all_scores: bool,
    tracker: Tracker,
) -> int:
    """Score and write all rows; returns their number."""

    def write(window: Window, scores: Scores) -> None:
        columns = named_scores(scores, predictor.card, all_scores=all_scores).to_pydict()
        writer.write(writer.format(window.rows, columns, partial(rows.source.place, window)))

    done = 0
    behind: Future[None] | None = None
    windows = ahead(_tokenised(predictor, rows), 1, name="textune-reader")
    with ThreadPoolExecutor(1, "textune-writer") as behind_us, contextlib.closing(windows):
        for window, store in windows:
            store = predictor.scorer.ranks.broadcast(store)
            scores = predictor.scorer.score_store(store, place=partial(rows.source.place, window), budget=budget)
            if behind is not None:
                behind.result()
            behind = behind_us.submit(write, window, scores)
            done += len(window.numbers)
            tracker.progress("predicting", done, max(total, done) if total else 0)
        predictor.scorer.ranks.broadcast(None)
        if behind is not None:
            behind.result()
    return done


def _score_along(predictor: Predictor, budget: CallerBudget) -> int:
    """Score this rank's share of every window that the first rank reads; returns the number of rows of all."""
    done = 0
    nothing: TokenStore | None = None  # only what the first rank gives counts
    while (store := predictor.scorer.ranks.broadcast(nothing)) is not None:
        predictor.scorer.score_store(store, budget=budget)
        done += store.num_examples
    return done


def _tokenised(predictor: Predictor, rows: InputPass) -> Generator[tuple[Window, TokenStore]]:
    columns = rows.source.columns
    for window, texts in rows.windows():
        if rows.source.skips and (reasons := without_room(predictor, texts, columns)):
            window, texts = rows.leave_out(window, texts, reasons)
        if window.numbers:
            yield window, encode_rows(predictor, texts, columns)
