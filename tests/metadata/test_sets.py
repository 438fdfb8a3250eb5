"""Held-out documents as sets: for each type those that have it and nothing else, and some without metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused
from kits.records import given_rows, listed, read

from textune.config.documents import MetadataSection
from textune.config.sources import GivenSource
from textune.errors import DataError
from textune.metadata.rendering.render import render
from textune.metadata.sets import DocumentSet, sets_of, with_types

TYPES = ("html", "title", "url")


def row(number: int) -> dict[str, Any]:
    """A document with a url if its number is even, and a title and HTML if it can be divided by 3."""
    row: dict[str, Any] = {"text": f"text {number}"}
    row["metadata_url"] = [{"type": "global", "value": f"u/{number}"}] if number % 2 == 0 else []
    if number % 3 == 0:
        row["metadata_title"] = [{"type": "global", "value": f"T{number}"}]
        row["metadata_html"] = [
            {"type": "local", "value": name, "char_start_idx": 0, "char_end_idx": 4} for name in ("b", "i")
        ]
    return row


ROWS = [row(number) for number in range(13)]


def sets(rows: list[dict[str, Any]] | None = None, **keys: Any) -> dict[str, DocumentSet]:
    given = given_rows(ROWS if rows is None else rows)
    source = GivenSource(name="rows", **keys)
    found = sets_of("validation", source, given, read(given, TYPES).documents, key="data.validation")
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def numbers(found: DocumentSet) -> list[int]:
    return [int(text.split()[1]) for text in found.documents.texts]


def test_without_by_type_there_is_one_set() -> None:
    (only,) = sets().values()
    assert only.name == "validation" and numbers(only) == list(range(13))


def test_each_set_has_only_the_documents_with_its_type_and_only_that() -> None:
    found = sets(by_type=("url", "html"))
    assert list(found) == ["validation", "validation-url", "validation-html", "validation-no-metadata"]
    assert numbers(found["validation-url"]) == [0, 2, 4, 6, 8, 10, 12]
    assert numbers(found["validation-html"]) == [0, 3, 6, 9, 12]
    assert numbers(found["validation-no-metadata"]) == list(range(13))
    assert {entry[0] for entry in listed(found["validation-url"].documents)} == {"url"}
    assert listed(found["validation-no-metadata"].documents) == []
    for one in found.values():
        assert [place.rpartition(" ")[2] for place in one.places] == [str(n + 1) for n in numbers(one)]
        assert one.documents.row.tolist() == numbers(one)
        render(one.documents, MetadataSection(types=TYPES))


def test_the_metadata_that_stays_is_what_it_was() -> None:
    whole = sets()["validation"].documents
    chosen = np.array([3, 4, 12])
    kept = with_types(whole, chosen, {"html"})
    at = {3: 0, 12: 2}
    wanted = [entry for entry in listed(whole) if entry[0] == "html" and entry[2] in at]
    assert listed(kept) == [(*entry[:2], at[entry[2]], *entry[3:]) for entry in wanted] and len(wanted) == 4
    assert kept.shard.tolist() == whole.shard[chosen].tolist() and kept.row.tolist() == [3, 4, 12]
    assert listed(with_types(whole, np.arange(13), TYPES)) == listed(whole)


@pytest.mark.parametrize("most", [1, 3, 5, 100])
def test_a_set_has_at_most_so_many_documents(most: int) -> None:
    found = sets(by_type=("url", "title"), by_type_rows=most)
    assert numbers(found["validation-url"]) == [0, 2, 4, 6, 8, 10, 12][:most]
    assert numbers(found["validation-title"]) == [0, 3, 6, 9, 12][:most]
    assert len(found["validation-no-metadata"]) == min(13, most)
    assert len(found["validation-no-metadata"].places) == min(13, most)
    assert len(found["validation"]) == 13


def test_a_set_without_a_row_is_refused(tmp_path: Path) -> None:
    rows = [{"text": "a", "metadata_url": []}, {"text": "b", "metadata_title": None}]
    reason = "none of 2 documents has it"
    with refused(DataError, key="data.validation.by_type", value="title", place="rows", reason=reason):
        sets([rows[0] | {"metadata_url": [{"type": "global", "value": "u"}]}, rows[1]], by_type=("url", "title"))
