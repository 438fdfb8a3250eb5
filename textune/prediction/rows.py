"""Rows in, predictions out, as Arrow tables: the one function that the command line, a server and other programs
share.

table --columns, template--> texts --tokenizer, model--> scores --decision--> predicted_label, predicted_score, ...

Nothing is kept between calls. `predict` on the command line calls the three steps apart, each in a thread of its own.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from textune.batches import RowTexts, TokenStore, rows_without_room
from textune.config import Columns
from textune.data import Rows, given_fields, given_rows, select_texts
from textune.errors import Setting, Words
from textune.model import CallerBudget
from textune.prediction.card import ModelCard
from textune.prediction.predictor import Predictor, require_pairs
from textune.prediction.scorer import Scores
from textune.tasks import Answer, Head, shown

LABEL, SCORE = "predicted_label", "predicted_score"
_DECIMALS = 6
"""Of probabilities; a predicted value keeps all of its own."""


def predict_table(
    predictor: Predictor,
    table: object,
    *,
    columns: Columns | None = None,
    all_scores: bool = False,
    budget: CallerBudget | None = None,
) -> pa.Table:
    """Predict each row of a table: an Arrow table of N rows with the columns of `prediction_fields`, in the same
    order.

    `table`: of Arrow, pandas, polars or the datasets library, a dictionary of columns, or a list of dictionaries.
    `columns`: where the text stands in it, by default as in the training data. `budget` as in
    `Scorer.score_batches`. Several threads may call it at once. InputError or DataError where a column is missing
    or a row has no usable text.
    """
    columns = columns or predictor.card.columns
    rows = given_rows(table, columns, predictor.card.metadata)
    predictor.note_without(given_fields(rows, predictor.card.metadata), len(rows))
    scores = predictor.scorer.score_store(encode_rows(predictor, rows, columns), place=rows.place, budget=budget)
    return named_scores(scores, predictor.card, all_scores=all_scores)


def encode_rows(predictor: Predictor, rows: Rows, columns: Columns) -> TokenStore:
    """Tokens of each row's text, or pair of texts, and of the fields before it.

    DataError for a column that cannot be text, or a row that is too long.
    """
    pair_column = Setting("data.columns.text_pair")
    require_pairs(
        predictor.card,
        columns.text_pair is not None,
        give=Words("Name the second column with ", pair_column, "."),
        leave_out=Words("Leave ", pair_column, " out."),
    )
    text, pair = select_texts(rows, columns)
    return predictor.encode_texts(
        text.to_pylist(),
        None if pair is None else pair.to_pylist(),
        fields=given_fields(rows, predictor.card.metadata),
        place=rows.place,
    )


def without_room(predictor: Predictor, rows: Rows, columns: Columns) -> dict[int, str]:
    """By index, the rows whose fields leave no room for their text, each with the reason; `encode_rows` refuses
    them."""
    if predictor.card.metadata is None:
        return {}
    text, pair = select_texts(rows, columns)
    fields = given_fields(rows, predictor.card.metadata)
    return rows_without_room(RowTexts(text, pair, rows.place, fields), predictor.encoder)


def named_scores(scores: Scores, card: ModelCard, *, all_scores: bool = False) -> pa.Table:
    """What the model says of each row; `scores` as `Predictor.score_store` gives them."""
    schema = prediction_fields(card, all_scores=all_scores)
    columns = [
        column
        for head in card.build_task().heads
        for column in _columns(head, scores[head.name], card, all_scores=all_scores)
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _columns(head: Head, scores: np.ndarray, card: ModelCard, *, all_scores: bool) -> list[list[object] | np.ndarray]:
    """The columns of one head, in the order of `prediction_fields`."""
    answers, best_N, scores = shown(head, scores)
    labels: list[object] = [_cell(answer, card.labels.delimiter) for answer in answers]
    if head.label_map.choices:
        best_N, scores = np.round(best_N, _DECIMALS), np.round(scores, _DECIMALS)
    by_label = scores.reshape(len(labels), len(head.labels)).T if all_scores else ()
    return [labels, best_N, *by_label]


def _cell(answer: Answer | None, delimiter: str | None) -> str | float | list[str] | None:
    """An answer as a table holds it: several labels as a list, or as one text where the data had them so; null where
    it is withheld."""
    if not isinstance(answer, tuple):
        return answer
    return list(answer) if delimiter is None else delimiter.join(answer)


def prediction_fields(card: ModelCard, *, all_scores: bool) -> pa.Schema:
    """The columns that a prediction adds, with their types; of several heads, each column names its own."""
    fields: list[tuple[str, pa.DataType]] = []
    for name, label_map in card.label_maps.items():
        of_head, of_label = ("", "") if len(card.heads) == 1 else (f"_{name}", f"{name}/")
        label = pa.string()
        if not label_map.choices:
            label = pa.float64()
        elif label_map.several and card.labels.delimiter is None:
            label = pa.list_(pa.string())
        fields += [(LABEL + of_head, label), (SCORE + of_head, pa.float64())]
        fields += [(f"score_{of_label}{one}", pa.float64()) for one in label_map.names] if all_scores else []
    return pa.schema(fields)
