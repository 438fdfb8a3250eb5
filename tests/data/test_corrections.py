"""Corrections of training rows: what they change, what they leave, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textune.config.sources import Columns, DataSection, FilesSource, SplitOff
from textune.data.corrections import Correction, read_corrections, write_corrections
from textune.data.inspect.slicing import content_numbers
from textune.data.prepare import prepare_data
from textune.data.prepared import PreparedData
from textune.errors import DataError

ROWS = 40


@pytest.fixture
def section(tmp_path: Path) -> DataSection:
    lines = [
        f"text number {number},{('neg', 'pos')[number % 2]},{'a;b' if number % 3 else 'c'}" for number in range(ROWS)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,tags", *lines]) + "\n", encoding="utf-8")
    return DataSection(train=FilesSource(files=(str(tmp_path / "rows.csv"),)), validation=SplitOff(ratio=0.25))


def prepared(section: DataSection, kind: str = "auto") -> PreparedData:
    return prepare_data(section, kind=kind)


def line(data: PreparedData, row: int, label: str, proposed: str, **changes: Any) -> Correction:
    content = content_numbers(data.train.examples)[row]
    return replace(Correction(row, "label", label, proposed, f"{int(content):016x}", 0.5, "why"), **changes)


def corrected(section: DataSection, path: Path, *lines: Correction, kind: str = "auto") -> PreparedData:
    write_corrections(lines, path / "corrections.csv")
    return prepared(section.model_copy(update={"corrections": str(path / "corrections.csv")}), kind)


def test_what_is_written_is_read(tmp_path: Path, section: DataSection) -> None:
    data = prepared(section)
    lines = (line(data, 3, "pos", "neg", place="a, line 4", text='say "no", twice\nor more'), line(data, 4, "neg", ""))
    write_corrections(lines, tmp_path / "c.csv")
    read = read_corrections(tmp_path / "c.csv")
    assert [(one.row, one.label, one.proposed, one.content) for one in read.lines] == [
        (one.row, one.label, one.proposed, one.content) for one in lines
    ]


def test_training_rows_change_and_held_out_rows_do_not(tmp_path: Path, section: DataSection) -> None:
    data = prepared(section)
    kept, gone = (int(row) for row in data.train.indices[:2])
    assert data.validation is not None
    aside = int(data.validation.indices[0])
    names = data.label_map.names
    given = {row: names[int(data.train.targets["label"][row])] for row in (kept, gone, aside)}
    other = {name: names[1 - place] for place, name in enumerate(names)}
    after = corrected(
        section,
        tmp_path,
        line(data, kept, given[kept], other[given[kept]]),
        line(data, gone, given[gone], ""),
        line(data, aside, given[aside], other[given[aside]]),
    )
    assert gone not in after.train.indices and len(after.train) == len(data.train) - 1
    changed = np.flatnonzero(after.train.targets["label"] != data.train.targets["label"])
    assert changed.tolist() == [kept]
    assert after.validation is not None
    assert np.array_equal(after.validation.chosen_targets["label"], data.validation.chosen_targets["label"])
    assert after.validation.fingerprint == data.validation.fingerprint
    assert after.train.fingerprint != data.train.fingerprint
    assert after.train.examples is data.train.examples or len(after.train.examples) == ROWS
    assert any("1 label of training rows corrected, 1 row left out" in notice for notice in after.notices)
    assert any("1 line about held-out rows" in notice for notice in after.notices)


def test_labels_of_several_come_and_go(tmp_path: Path, section: DataSection) -> None:
    labels = section.labels.model_copy(update={"delimiter": ";"})
    section = section.model_copy(update={"columns": Columns(label="tags"), "labels": labels})
    data = prepared(section, "multilabel")
    row = int(data.train.indices[0])
    before = dict(zip(data.label_map.names, data.train.targets["label"][row].tolist(), strict=True))
    name = "a"
    sign = "-" if before[name] else "+"
    after = corrected(section, tmp_path, line(data, row, "", sign + name), kind="multilabel")
    now = dict(zip(data.label_map.names, after.train.targets["label"][row].tolist(), strict=True))
    assert now == {**before, name: 1 - before[name]}


WRONG: dict[str, Callable[[PreparedData, int], list[Correction]]] = {
    "another text": lambda data, row: [line(data, row, "neg", "pos", content="0" * 16)],
    "no row": lambda data, row: [replace(line(data, row, "neg", "pos"), row=1_000)],
    "is not a label": lambda data, row: [line(data, row, "neg", "poss")],
    "not 'neg'": lambda data, row: [
        line(data, row, "pos" if row % 2 == 0 else "neg", "neg" if row % 2 == 0 else "pos")
    ],
    "there is no task": lambda data, row: [line(data, row, "neg", "pos", task="tone")],
    "is given": lambda data, row: [line(data, row, "neg", "pos"), line(data, row, "neg", "")],
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_does_not_fit_is_refused(tmp_path: Path, section: DataSection, reason: str) -> None:
    data = prepared(section)
    row = int(data.train.indices[0])
    with pytest.raises(DataError) as caught:
        corrected(section, tmp_path, *WRONG[reason](data, row))
    assert caught.value.key == "data.corrections" and caught.value.hint
    assert reason in caught.value.reason or reason.startswith("not")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("row,label\n1,neg\n", "column"),
        ("row,task,label,proposed,content\nthree,label,neg,pos,00\n", "number"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, section: DataSection, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "c.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        prepared(section.model_copy(update={"corrections": str(tmp_path / "c.csv")}))
    assert caught.value.key == "data.corrections" and reason in caught.value.reason
