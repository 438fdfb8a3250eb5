"""Columns that nobody named are found where only one can be meant, and asked for everywhere else."""

from typing import Any

import pytest
from kits.errors import refused
from kits.records import given_rows

from textune.data.inspect.unnamed import unnamed_columns
from textune.errors import DataError

TEXTS = [f"a film of {number} words, or so" for number in range(8)]
KINDS = ["good", "bad"] * 4


def found(columns: dict[str, list[Any]], text: str | None = None, label: str | None = None) -> dict[str, str]:
    rows = given_rows([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    return dict(unnamed_columns(rows, text=text, label=label))


@pytest.mark.parametrize(
    ("columns", "known", "expected"),
    [
        ({"review": TEXTS, "stars": KINDS}, {}, {"text": "review", "label": "stars"}),
        ({"words": TEXTS, "what": KINDS}, {}, {"text": "words", "label": "what"}),
        ({"words": TEXTS, "what": KINDS, "id": list(range(8))}, {}, {"text": "words", "label": "what"}),
        (
            {"question1": TEXTS, "question2": TEXTS[::-1], "label": KINDS},
            {"label": "label"},
            {"text": "question1", "text_pair": "question2", "label": "label"},
        ),
        # What is known settles what would be doubtful.
        ({"text": TEXTS, "title": TEXTS[::-1], "stars": KINDS}, {"text": "text"}, {"text": "text", "label": "stars"}),
        (
            {"body": TEXTS, "label": KINDS, "kind": KINDS[::-1]},
            {"label": "label"},
            {"text": "body", "label": "label"},
        ),
    ],
)
def test_the_only_answer_is_taken(
    columns: dict[str, list[Any]], known: dict[str, str], expected: dict[str, str]
) -> None:
    assert found(columns, **known) == expected


@pytest.mark.parametrize(
    ("columns", "known", "key"),
    [
        ({"body": TEXTS}, {}, "data.columns.text"),
        ({"text": TEXTS}, {"text": "text"}, "data.columns.label"),
        ({"body": TEXTS, "title": TEXTS[::-1], "stars": KINDS}, {}, "data.columns.text"),
        ({"body": TEXTS, "label": KINDS, "topic": KINDS[::-1]}, {}, "data.columns.text"),
        ({"body": TEXTS, "a": KINDS, "b": [one / 7 for one in range(8)]}, {}, "data.columns.text"),
        ({"body": TEXTS, "toxic": [0, 1] * 4, "rude": [1, 0] * 4}, {}, "data.columns.text"),
        ({"id": list(range(8)), "stars": KINDS}, {"label": "stars"}, ""),
    ],
)
def test_anything_else_is_asked_for(columns: dict[str, list[Any]], known: dict[str, str], key: str) -> None:
    with refused(DataError, key=key):
        found(columns, **known)
