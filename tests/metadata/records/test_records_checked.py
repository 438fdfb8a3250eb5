"""Every entry that cannot be rendered as it says is refused by place, field, value and reason, or left out and
counted."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused
from kits.records import Row, given_rows, listed, read, rows_in

from textune.config.documents import MetadataSection
from textune.config.sources import FilesSource
from textune.data.reading.sources import read_source
from textune.errors import DataError
from textune.metadata.records.nesting import against_the_rules
from textune.metadata.rendering.render import render

_TOY = Path(__file__).parents[3].parent / "shared" / "data" / "metadata"
TEXT = "An apple is an edible fruit."
URL = {"key": "url", "type": "global", "value": "http://a.b/c"}
DATE = {"key": "timestamp", "type": "global", "value": "2018-12-10"}


def tag(start: Any, end: Any, opens: Any = None, closes: Any = None, **more: Any) -> Row:
    """An entry of HTML; the last two are its positions among the tags there."""
    entry = {"key": "html", "type": "local", "value": "b", "char_start_idx": start, "char_end_idx": end}
    orders = {"relative_start_pos": opens, "relative_end_pos": closes}
    return entry | {key: value for key, value in orders.items() if value is not None} | more


def without(entry: Row, *keys: str) -> Row:
    """The entry without some of its keys."""
    return {key: value for key, value in entry.items() if key not in keys}


BAD: dict[str, tuple[list[Any], str, str, Any]] = {
    "end beyond the text": ([URL, tag(3, 99)], "span", "metadata[1].char_end_idx", 99),
    "all beyond the text": ([tag(90, 99)], "span", "metadata[0].char_start_idx", 90),
    "before the text": ([tag(-1, 3)], "span", "metadata[0].char_start_idx", -1),
    "start after end": ([tag(4, 2)], "span", "metadata[0].char_start_idx", 4),
    "no start": ([without(tag(1, 2), "char_start_idx")], "span", "metadata[0].char_start_idx", None),
    "no end": ([tag(1, None)], "span", "metadata[0].char_end_idx", None),
    "start in words": ([tag("1", 3)], "span", "metadata[0].char_start_idx", "1"),
    "half a character": ([tag(1.5, 3)], "span", "metadata[0].char_start_idx", 1.5),
    "true as a place": ([tag(True, 3)], "span", "metadata[0].char_start_idx", True),
    "more than 64 bits": ([tag(1, 2**70)], "span", "metadata[0].char_end_idx", 2**70),
    "one without positions": ([tag(0, 2, 0, 0), tag(3, 4)], "order", "metadata[1].relative_start_pos", None),
    "the first without": ([tag(0, 2), tag(3, 4, 0, 0)], "order", "metadata[0].relative_start_pos", None),
    "one of two positions": ([tag(0, 2, 0)], "order", "metadata[0].relative_end_pos", None),
    "the other of two": ([tag(0, 2, None, 0)], "order", "metadata[0].relative_start_pos", None),
    "position in words": ([tag(0, 2, "0", 0)], "order", "metadata[0].relative_start_pos", "0"),
    "position below 0": ([tag(0, 2, 0, -1)], "order", "metadata[0].relative_end_pos", -1),
    "equal positions": ([tag(0, 2, 0, 0), tag(0, 3, 0, 0)], "order", "metadata[1].relative_start_pos", 0),
    "equal when both close": ([tag(0, 3, 0, 1), tag(1, 3, 0, 1)], "order", "metadata[1].relative_start_pos", 0),
    "equal to its own": ([tag(2, 2, 0, 0)], "order", "metadata[0].relative_start_pos", 0),
    "one opens, one closes": ([tag(0, 2, 0, 5), tag(2, 3, 5, 0)], "order", "metadata[1].relative_start_pos", 5),
    "empty and reversed": ([tag(2, 2, 1, 0)], "order", "metadata[0].relative_start_pos", 1),
    "crossing": ([tag(0, 4, 0, 0), tag(2, 6, 0, 0)], "nesting", "metadata[1].relative_start_pos", 0),
    "crossing at the end": ([tag(0, 4, 0, 0), tag(2, 4, 0, 1)], "nesting", "metadata[1].relative_start_pos", 0),
    "a local url": ([URL | {"type": "local", "char_start_idx": 0}], "scope", "metadata[0].type", "local"),
    "a global tag": ([tag(0, 2) | {"type": "global"}], "scope", "metadata[0].type", "global"),
    "an unknown scope": ([URL | {"type": "Global"}], "scope", "metadata[0].type", "Global"),
    "a scope that is a list": ([URL | {"type": ["global"]}], "scope", "metadata[0].type", ["global"]),
    "no scope": ([without(URL, "type")], "scope", "metadata[0].type", None),
    "no value": ([without(URL, "value")], "value", "metadata[0].value", None),
    "a list as value": ([URL | {"value": ["a"]}], "value", "metadata[0].value", ["a"]),
    "infinity": ([URL | {"value": float("inf")}], "value", "metadata[0].value", float("inf")),
    "half a character of UTF-16": ([URL | {"value": "\ud800"}], "value", "metadata[0].value", "\ud800"),
    "a date in words": ([DATE | {"value": "last May"}], "value", "metadata[0].value", "last May"),
    "no date": ([DATE | {"value": "2018-13-01"}], "value", "metadata[0].value", "2018-13-01"),
    "no key": ([without(URL, "key")], "key", "metadata[0].key", None),
    "a number as key": ([URL | {"key": 3}], "key", "metadata[0].key", 3),
    "text as entry": ([URL, "url"], "shape", "metadata[1]", "url"),
    "no entry": ([URL, None], "shape", "metadata[1]", None),
    "attributes without values": (
        [tag(0, 2, html_attrs={"attrs": ["id"], "values": []})],
        "attributes",
        "metadata[0].html_attrs",
        {"attrs": ["id"], "values": []},
    ),
    "attributes in words": ([tag(0, 2, html_attrs="id")], "attributes", "metadata[0].html_attrs", "id"),
    "a list as attribute": (
        [tag(0, 2, html_attrs={"attrs": ["id"], "values": [[1]]})],
        "attributes",
        "metadata[0].html_attrs",
        {"attrs": ["id"], "values": [[1]]},
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_entry_that_cannot_be_rendered_is_refused(case: str) -> None:
    entries, _, field, value = BAD[case]
    rows = given_rows([{"text": TEXT, "metadata": [URL]}, {"text": TEXT, "metadata": entries}])
    with refused(DataError, key=field, value=value, place="rows, row 2"):
        read(rows, ("html", "url", "timestamp"))


@pytest.mark.parametrize("case", BAD)
def test_or_left_out_and_counted(case: str) -> None:
    entries, kind, field, value = BAD[case]
    rows = given_rows([{"text": TEXT, "metadata": [URL]}, {"text": TEXT, "metadata": entries}])
    result = read(rows, ("html", "url", "timestamp"), on_bad_metadata="report")
    assert result.bad.counts == {kind: 1}
    [(document, example)] = result.bad.examples[kind]  # type: ignore[index]
    assert (document, example.place, example.field, example.value) == (1, "rows, row 2", field, value)
    assert example.reason
    assert len(listed(result.documents)) == 1 + len(entries) - 1


def staircase(number: int) -> list[Row]:
    """So many spans without positions that all cross each other."""
    return [tag(at, at + number) for at in range(number)]


def test_a_span_that_crosses_very_many_others_is_refused() -> None:
    rows = given_rows([{"text": "x" * 200, "metadata": staircase(65)}, {"text": "x" * 200, "metadata": staircase(66)}])
    with refused(DataError, key="metadata[65].char_end_idx", value=131, place="rows, row 2"):
        read(rows, ("html",))
    result = read(rows, ("html",), on_bad_metadata="report")
    assert result.bad.counts == {"crossing": 1} and len(listed(result.documents)) == 130
    assert not read(rows, ("html",), compat="bsmetadata").bad.counts


def test_texts_do_not_grow_with_the_square_of_the_spans_that_cross() -> None:
    lengths = []
    for number in (400, 1600):
        rows = given_rows([{"text": "x" * (2 * number), "metadata": staircase(number)}])
        found = render(read(rows, ("html",), on_bad_metadata="report").documents, MetadataSection(types=("html",)))
        lengths.append(len(found.texts[0]))
    assert lengths[0] < lengths[1] < 6 * lengths[0] < 1_000_000


def test_names_beside_paragraphs_are_no_tags_that_have_to_nest() -> None:
    names = [tag(0, 9, order, order) | {"key": "entity_paragraph", "value": f"E{order}"} for order in range(3)]
    result = read(given_rows([{"text": TEXT, "metadata": names}]), ("entity_paragraph",))
    assert [value for _, value, *_ in listed(result.documents)] == ["E0", "E1", "E2"]


@pytest.mark.parametrize("cell", [URL, "url", 3, [[URL]], True])
def test_a_cell_that_is_no_list_of_entries(tmp_path: Path, cell: Any) -> None:
    rows = rows_in(tmp_path, [{"text": TEXT, "metadata": [URL]}] * 3 + [{"text": TEXT, "metadata": cell}])
    field = "metadata[0]" if isinstance(cell, list) else "metadata"
    with refused(DataError, key=field, place="train.jsonl, line 4"):
        read(rows, ("url",))
    assert read(rows, ("url",), on_bad_metadata="report").bad.counts == {"shape": 1}


def test_text_that_is_not_json_is_no_metadata() -> None:
    with refused(DataError, key="metadata", value="[{]", place="row 1"):
        read(given_rows([{"text": TEXT, "metadata": "[{]"}]), ("url",))


def test_the_first_of_all_bad_entries_in_the_order_of_rows_is_named() -> None:
    rows = given_rows(
        [
            {"text": TEXT, "metadata": [URL]},
            {"text": TEXT, "metadata": [URL, tag(0, 2, 0)]},
            {"text": TEXT, "metadata": [without(URL, "value"), "x"]},
        ]
    )
    with refused(DataError, key="metadata[1].relative_end_pos", place="row 2"):
        read(rows, ("html", "url", "timestamp"))


def test_examples_are_the_first_rows_and_the_count_is_of_all() -> None:
    rows = given_rows([{"text": TEXT, "metadata": [tag(0, 99), tag(0, 98)]} for _ in range(5)])
    bad = read(rows, ("html",), on_bad_metadata="report").bad
    assert (bad.counts, bad.total) == ({"span": 10}, 10)
    assert [(document, one.value) for document, one in bad.examples["span"]] == [(0, 99), (0, 98), (1, 99)]


def test_values_that_are_not_text_are_written_by_rule() -> None:
    values = [6, -1.5, 1e300, True, False, "x", ""]
    rows = given_rows([{"text": TEXT, "metadata": [URL | {"value": value} for value in values]}])
    documents = read(rows, ("url",)).documents
    assert documents.entries.value == ["6", "-1.5", "1e+300", "true", "false", "x", ""]
    original = read(rows, ("url",), compat="bsmetadata").documents
    assert original.entries.value == ["6", "-1.5", "1e+300", "True", "False", "x", ""]


def test_an_attribute_without_a_value_has_an_empty_one() -> None:
    rows = given_rows(
        [
            {"text": TEXT, "metadata": [tag(0, 2, html_attrs={"attrs": ["disabled", "x"], "values": [None, 3]})]},
            {"text": TEXT, "metadata": [tag(0, 2, html_attrs={"attrs": None, "values": []}), tag(0, 2)]},
        ]
    )
    documents = read(rows, ("html",)).documents
    assert documents.entries.attributes == [(("disabled", ""), ("x", "3")), (), ()]


def test_whole_numbers_with_a_decimal_point_are_whole_numbers() -> None:
    documents = read(given_rows([{"text": TEXT, "metadata": [tag(1.0, 3.0, 0.0, 0.0)]}]), ("html",)).documents
    assert (documents.entries.start.tolist(), documents.entries.end_order.tolist()) == ([1], [0])


def test_the_original_takes_either_scope_and_no_positions_where_the_first_has_none() -> None:
    row = {"text": TEXT, "metadata": [URL | {"type": "local", "char_start_idx": 0, "char_end_idx": 2}]}
    found = listed(read(given_rows([row]), ("url",), compat="bsmetadata").documents)
    assert found == [("url", "http://a.b/c", 0, 0, 2, -1, -1, ())]
    row = {"text": TEXT, "metadata": [tag(0, 2), tag(2, 6, 0, 0), tag(1, 4, 7, 0)]}
    found = listed(read(given_rows([row]), ("html",), compat="bsmetadata").documents)
    assert [entry[3:7] for entry in found] == [(0, 2, -1, -1), (2, 6, -1, -1), (1, 4, -1, -1)]
    row["metadata"].reverse()
    with refused(DataError, key="metadata[2].relative_start_pos"):
        read(given_rows([row]), ("html",), compat="bsmetadata")


@pytest.mark.parametrize("name", ["val.jsonl", "val.parquet"])
def test_spans_beyond_short_texts_are_named(tmp_path: Path, name: str) -> None:
    entity = {"key": "entity", "type": "local", "char_start_idx": 132, "char_end_idx": 137, "value": "Galal Yafai"}
    rows = [{"text": "a" * length, "metadata": [entity]} for length in (400, 110, 137, 136, 132)]
    found = rows_in(tmp_path, rows, name)
    result = read(found, ("entity",), on_bad_metadata="report")
    assert result.bad.counts == {"span": 3}
    examples = [(one.field, one.value, one.place[-1]) for _, one in result.bad.examples["span"]]
    assert examples == [
        ("metadata[0].char_start_idx", 132, "2"),
        ("metadata[0].char_end_idx", 137, "4"),
        ("metadata[0].char_end_idx", 137, "5"),
    ]
    assert [entry[2] for entry in listed(result.documents)] == [0, 2]
    with refused(DataError, key="metadata[0].char_start_idx", value=132, place=name):
        read(found, ("entity",))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_characters_are_code_points(tmp_path: Path, name: str) -> None:
    text = "\U0001f600e\u0301\U0001f1e9\U0001f1ea\u65e5"  # 6 code points, 9 units of UTF-16, 19 bytes
    found = read(rows_in(tmp_path, [{"text": text, "metadata": [tag(1, 3), tag(5, 6)]}], name), ("html",))
    assert render(found.documents, MetadataSection(types=("html",))).texts == [
        "\U0001f600<b>e\u0301</b>\U0001f1e9\U0001f1ea<b>\u65e5</b>"
    ]
    rows = rows_in(tmp_path, [{"text": text, "metadata": [tag(5, 7)]}], name)
    with refused(DataError, key="metadata[0].char_end_idx", value=7, reason="only 6 characters"):
        read(rows, ("html",))


@pytest.mark.skipif(not _TOY.is_dir(), reason=f"the toy rows are not in {_TOY}")
def test_the_wrong_spans_of_the_toy_rows_are_named() -> None:
    rows = read_source(FilesSource(files=(str(_TOY / "val_toy_wikitext_with_metadata.jsonl"),)))
    bad = read(rows, ("entity", "url", "timestamp"), on_bad_metadata="report").bad
    assert bad.counts == {"span": 3}
    assert [document for document, _ in bad.examples["span"]] == [4, 5, 6]
    train = read_source(FilesSource(files=(str(_TOY / "train_toy_wikitext_with_metadata.jsonl"),)))
    assert read(train, ("entity", "url", "timestamp")).bad.total == 0


# --- nesting, beside a slow twin ------------------------------------------------------------------------------------


def _nests(entries: list[tuple[int, int, int, int]]) -> bool:
    """Whether tags written out one after the other close in the reverse order of opening."""
    tags = [((start, first), number, True) for number, (start, _, first, _) in enumerate(entries)]
    tags += [((end, last), number, False) for number, (_, end, _, last) in enumerate(entries)]
    stack: list[int] = []
    for _, number, opens in sorted(tags):
        if opens:
            stack.append(number)
        elif not stack or stack.pop() != number:
            return False
    return not stack


def _random_entries(draw: random.Random) -> list[tuple[int, int, int, int]]:
    """Spans in a short text whose tags have different positions at each character, in any order."""
    spans = [sorted((draw.randrange(4), draw.randrange(4))) for _ in range(draw.randrange(6))]
    positions = draw.sample(range(40), 2 * len(spans))
    return [(start, end, positions.pop(), positions.pop()) for start, end in spans]


def test_what_is_left_nests_and_nothing_is_left_out_that_nested() -> None:
    draw = random.Random(0)
    groups = [_random_entries(draw) for _ in range(2000)]
    flat = np.array(list(itertools.chain(*groups)), np.int64).reshape(-1, 4)
    group = np.repeat(np.arange(len(groups)), [len(entries) for entries in groups])
    left_out = against_the_rules(group, *flat.T)
    num_nested = 0
    for number, entries in enumerate(groups):
        out = left_out[group == number].tolist()
        assert _nests([entry for entry, is_out in zip(entries, out, strict=True) if not is_out])
        if _nests(entries):
            assert not any(out)
            num_nested += 1
        else:
            assert any(out)
    assert 200 < num_nested < 1800
