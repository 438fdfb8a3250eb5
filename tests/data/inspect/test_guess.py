"""Proposals for files that no one has described."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textune.config.sources import Columns, Labels
from textune.data.columns import select_columns
from textune.data.inspect.guess import Guess, guess_layout
from textune.data.inspect.profile import MAX_DISTINCT, Column
from textune.data.labels.infer import infer_labels
from textune.data.reading.sources import read_source
from textune.errors import DataError

_SENTENCES = [f"This is sentence {index} about a film, and it is rather long." for index in range(40)]


def _write(
    path: Path, header: list[str], rows: list[list[Any]], *, delimiter: str = ",", encoding: str = "utf-8"
) -> Guess:
    lines = ([delimiter.join(header)] if header else []) + [delimiter.join(map(str, row)) for row in rows]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return guess_layout([str(path)])


def _usable(guess: Guess) -> int:
    """Read by the proposal; the number of rows."""
    examples = select_columns(read_source(guess.source), guess.columns, with_labels=True)
    infer_labels(examples, [], guess.labels)
    return len(examples)


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", ",")]
)
def test_delimiters(tmp_path: Path, name: str, delimiter: str) -> None:
    rows = [[text.replace(",", ""), index % 2] for index, text in enumerate(_SENTENCES)]
    guess = _write(tmp_path / name, ["review", "label"], rows, delimiter=delimiter)
    own = {"a.csv": ",", "a.tsv": "\t"}[name]
    assert guess.source.delimiter == (None if delimiter == own else delimiter)
    assert guess.columns == Columns(text="review", label="label")
    assert guess.notes == ()
    assert _usable(guess) == 40


@pytest.mark.parity("HF-03")
def test_quoted_csv_with_id(tmp_path: Path) -> None:
    rows = [[f"u-{index}", f'"{text}"', ["good", "bad"][index % 2]] for index, text in enumerate(_SENTENCES)]
    guess = _write(tmp_path / "a.csv", ["user_id", "comment", "verdict"], rows)
    assert guess.columns == Columns(text="comment", label="verdict")
    assert _usable(guess) == 40


@pytest.mark.parametrize("name", ["id", "comment_id", "url", "guid", "hash"])
def test_an_id_is_never_the_text(tmp_path: Path, name: str) -> None:
    ids = [f"{index:064x}-{'x' * 80}" for index in range(40)]
    rows = [[ids[index], text.replace(",", ""), index % 2] for index, text in enumerate(_SENTENCES)]
    assert _write(tmp_path / "a.csv", [name, "words", "label"], rows).columns.text == "words"


def test_file_without_header(tmp_path: Path) -> None:
    guess = _write(
        tmp_path / "a.tsv", [], [["src", index % 2, "", text] for index, text in enumerate(_SENTENCES)], delimiter="\t"
    )
    assert guess.source.column_names == ("column_1", "label", "column_3", "text")
    assert guess.columns == Columns()
    assert "seems to have no header line" in guess.notes[0]
    assert _usable(guess) == 40
    categories = _write(
        tmp_path / "b.csv",
        [],
        [[text.replace(",", ""), ["pos", "neg"][index % 2]] for index, text in enumerate(_SENTENCES)],
    )
    assert categories.source.column_names == ("text", "label")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["index", "sentence1", "sentence2", "label"], ("sentence1", "sentence2", "label")),
        (["Quality", "#1 String", "#2 String", "#1 ID"], ("#1 String", "#2 String", "Quality")),
        (["premise", "hypothesis", "n", "gold_label"], ("premise", "hypothesis", "gold_label")),
        (["index", "question", "sentence", "score"], ("question", "sentence", "score")),
        (["text_a", "text_b", "index", "label"], ("text_a", "text_b", "label")),
    ],
)
def test_pairs(tmp_path: Path, names: list[str], expected: tuple[str, str, str]) -> None:
    values = {name: [text.replace(",", "") for text in _SENTENCES] for name in expected[:2]}
    rows = [[values[name][row] if name in values else row % 3 for name in names] for row in range(40)]
    columns = _write(tmp_path / "a.csv", names, rows).columns
    assert (columns.text, columns.text_pair, columns.label) == expected


def test_multilabel(tmp_path: Path) -> None:
    cells = ["3,17", "17", "3", "4,3", "4"]
    rows = [[text, cells[index % 5]] for index, text in enumerate(_SENTENCES)]
    guess = _write(tmp_path / "a.tsv", ["text", "emotions"], rows, delimiter="\t")
    assert guess.labels == Labels(delimiter=",")
    assert guess.columns.label == "emotions"
    names = _write(
        tmp_path / "b.tsv",
        ["text", "place"],
        [[text, ["Paris, France", "Rome, Italy"][index % 2]] for index, text in enumerate(_SENTENCES)],
        delimiter="\t",
    )
    assert names.labels == Labels()


def test_encodings(tmp_path: Path) -> None:
    rows = [[text.replace(",", " é"), index % 2] for index, text in enumerate(_SENTENCES)]
    for encoding, expected in (
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("latin-1", "latin-1"),
    ):
        guess = _write(tmp_path / "a.csv", ["text", "label"], rows, encoding=encoding)
        assert guess.source.encoding == expected
        assert guess.columns == Columns()
        assert bool(guess.notes) == (expected == "latin-1")
        assert _usable(guess) == 40
    quoted = [[text.replace(",", " “so”"), index % 2] for index, text in enumerate(_SENTENCES)]
    assert _write(tmp_path / "b.csv", ["text", "label"], quoted, encoding="cp1252").source.encoding == "cp1252"


def test_a_bad_byte_far_into_the_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + b"plain words here,1\n" * 80_000 + b"caf\xe9 and more,0\n")
    assert guess_layout([str(path)]).source.encoding == "latin-1"


@pytest.mark.parity("HF-03")
def test_json_parquet_and_arrow(tmp_path: Path) -> None:
    records = [{"uid": f"x{index}", "body": text, "label": index % 2} for index, text in enumerate(_SENTENCES)]
    table = pa.Table.from_pylist(records)
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "a.json").write_text(json.dumps(records, indent=1))
    (tmp_path / "b.json").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "no-ending").write_text("\n".join(map(json.dumps, records)))
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as stream:
        stream.write_table(table)
    for name in ("a.jsonl", "a.json", "b.json", "no-ending", "a.parquet", "a.arrow"):
        guess = guess_layout([str(tmp_path / name)])
        assert guess.columns == Columns(text="body"), name
        assert _usable(guess) == 40
    assert guess_layout([str(tmp_path / "b.json")]).source.format == "jsonl"
    assert guess_layout([str(tmp_path / "a.json")]).source.format == "auto"


def test_text_files(tmp_path: Path) -> None:
    (tmp_path / "a.train").write_text(
        "".join(f"{['NUM', 'LOC'][index % 2]}:x {text}\n" for index, text in enumerate(_SENTENCES))
    )
    guess = guess_layout([str(tmp_path / "a.train")])
    assert (guess.source.format, _usable(guess)) == ("text", 40)
    (tmp_path / "b.txt").write_text("".join(f"__label__{index % 3} {text}\n" for index, text in enumerate(_SENTENCES)))
    assert _usable(guess_layout([str(tmp_path / "b.txt")])) == 40
    (tmp_path / "c_text.txt").write_text("\n".join(_SENTENCES))
    alone = guess_layout([str(tmp_path / "c_text.txt")])
    assert "set data.train.label_files, or data.train.pattern or delimiter" in alone.unsettled[0]
    (tmp_path / "c_labels.txt").write_text("\n".join(str(index % 2) for index in range(40)))
    both = guess_layout([str(tmp_path / "c_text.txt"), str(tmp_path / "c_labels.txt")])
    assert _usable(both) == 40
    (tmp_path / "d.txt").write_text(
        "text\tlabel\n" + "".join(f"{text}\t{index % 2}\n" for index, text in enumerate(_SENTENCES))
    )
    assert guess_layout([str(tmp_path / "d.txt")]).source.format == "tsv"


def test_what_cannot_be_guessed(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"\n\n", "a.csv holds only blank lines"),
        ("b.csv", b"id,n\n1,2\n3,4\n", "b.csv: no column looks like text; columns found: 'id', 'n'"),
        ("c.bin", b"\0\1\2", "NUL bytes"),
        ("a.csv", b"text,label\n", "a.csv holds no rows"),
        (
            "a.json",
            b'["a", "b"]',
            "a.json has no row that can be read: a.json, record 1: '\"a\"' is text, not an object",
        ),
        (
            "a.jsonl",
            (b'{"text": ' + b"[" * 50000 + b"]" * 50000 + b"}\n") * 2,
            "a.jsonl has no row .* nested too deeply",
        ),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            guess_layout([str(tmp_path / name)])
    (tmp_path / "d.csv").write_text("text\n" + "\n".join(text.replace(",", "") for text in _SENTENCES))
    guess = guess_layout([str(tmp_path / "d.csv")])
    assert guess.unsettled == ("No column looks like a label: set data.columns.label.",) and not guess.has_label


# --- the whole file --------------------------------------------------------------------------------------------------

_WORDS = ["a", "film", "the", "plot", "was", "good", "bad", "funny", "slow", "quick", "story", "actor", "rather"]


def _sentence(index: int) -> str:
    """A short text that no other index has."""
    return " ".join(_WORDS[(index * 7 + place * (index % 5 + 1)) % len(_WORDS)] for place in range(6)) + f" x{index}"


_SORTED = [{"body": _sentence(index), "mark": "good" if index < 3000 else "bad"} for index in range(3500)]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.arrow", "a.txt"])
def test_a_file_sorted_by_label_has_a_label(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    delimiter = {"csv": ",", "tsv": "\t", "txt": ";"}.get(name.split(".")[1], "")
    if delimiter:
        text = (
            delimiter.join(["body", "mark"]) + "\n" + "".join(delimiter.join(row.values()) + "\n" for row in _SORTED)
        )
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(_SORTED), path, row_group_size=1000)
    elif name.endswith(".arrow"):
        table = pa.Table.from_pylist(_SORTED)
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=1000)
    else:
        lines = [json.dumps(row) for row in _SORTED]
        path.write_text("\n".join(lines) if name.endswith("jsonl") else f"[{','.join(lines)}]")
    guess = guess_layout([str(path)])
    assert guess.columns == Columns(text="body", label="mark")
    assert (guess.unsettled, guess.num_rows, _usable(guess)) == ((), 3500, 3500)


def test_memory_does_not_grow_with_the_file() -> None:
    """Neither long texts nor many distinct values are kept."""
    column = Column("text")
    for start in range(0, 100_000, 5000):
        column.add([f"{index} {'long ' * 100}" if index % 2 else f"v{index}" for index in range(start, start + 5000)])
    assert column.is_open and len(column.counts) == MAX_DISTINCT
    assert max(map(len, column.counts)) < 200
    assert (column.num_rows, column.num_values, column.num_texts) == (100_000, 100_000, 100_000)


def test_a_quoted_cell_late_in_the_file_decides_the_quoting(tmp_path: Path) -> None:
    rows = [f"{_sentence(index)}\t{index % 2}" for index in range(3000)]
    rows[2900] = '"it said ""so""\nand went on"\t1'
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    guess = guess_layout([str(tmp_path / "a.tsv")])
    assert guess.source.quoting == "standard" and any('quoting = "standard"' in note for note in guess.notes)
    assert _usable(guess) == 3000
    rows[2900] = '"so it said\t1'
    (tmp_path / "b.csv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    guess = guess_layout([str(tmp_path / "b.csv")])
    assert guess.source.quoting == "none" and _usable(guess) == 3000


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doubled", [False, True])
def test_a_quoted_tsv_loses_its_quotes(tmp_path: Path, doubled: bool) -> None:
    cells = [(f'"""{text}"" they said"', "pos") if doubled else (f'"{text}"', '"pos"') for text in _SENTENCES]
    lines = ["\t".join(row).replace("pos", ["pos", "neg"][index % 2]) for index, row in enumerate(cells)]
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    guess = guess_layout([str(tmp_path / "a.tsv")])
    assert guess.source.quoting == "standard"
    table = read_source(guess.source).table
    assert set(table["label"].to_pylist()) == {"pos", "neg"}
    assert table["text"][0].as_py() == (f'"{_SENTENCES[0]}" they said' if doubled else _SENTENCES[0])


def test_stray_quotes_in_a_tsv_stay(tmp_path: Path) -> None:
    lines = [f'"so" says {text}\t{index % 2}' for index, text in enumerate(_SENTENCES)]
    (tmp_path / "a.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    assert guess_layout([str(tmp_path / "a.tsv")]).source.quoting == "auto"


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
@pytest.mark.parametrize("name", ["a.txt", "a.data", "a"])
@pytest.mark.parametrize("with_header", [True, False])
def test_columns_in_a_text_file(tmp_path: Path, name: str, delimiter: str, with_header: bool) -> None:
    lines = [f"{_sentence(index)}{delimiter}{['joy', 'anger'][index % 2]}" for index in range(40)]
    (tmp_path / name).write_text("\n".join([f"text{delimiter}label_name"] * with_header + lines) + "\n")
    guess = guess_layout([str(tmp_path / name)])
    assert guess.columns == Columns(label="label_name" if with_header else "label")
    assert guess.source.column_names == (() if with_header else ("text", "label"))
    assert _usable(guess) == 40


@pytest.mark.parametrize(
    "line",
    [
        "{label} {text}",
        "{text} {label}",
        "{label}: {text}",
        "{text} ||| {label}",
        "{text} @@ {label}",
        "{label}\t{text}; it is",
    ],
)
def test_a_label_in_each_line(tmp_path: Path, line: str) -> None:
    words = ["positive", "negative", "mixed"]
    text = "".join(line.format(label=words[index % 3], text=_sentence(index)) + "\n" for index in range(60))
    (tmp_path / "a.all").write_text(text)
    guess = guess_layout([str(tmp_path / "a.all")])
    table = read_source(guess.source).table
    assert sorted(set(table["label"].to_pylist())) == sorted(words)
    assert table["text"].to_pylist()[59].startswith(_sentence(59))
    assert _usable(guess) == 60


def test_fasttext_with_several_labels(tmp_path: Path) -> None:
    lines = [f"__label__{'abc'[index % 3]} {'__label__x ' * (index % 2)}{_sentence(index)}" for index in range(60)]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n")
    guess = guess_layout([str(tmp_path / "a.txt")])
    label_map, _ = infer_labels(
        select_columns(read_source(guess.source), guess.columns, with_labels=True), [], guess.labels
    )
    assert (label_map.problem, label_map.names) == ("multilabel", ("a", "b", "c", "x"))


def test_plain_sentences_have_no_label(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{_sentence(index).capitalize()}, so it ends.\n" for index in range(300)))
    guess = guess_layout([str(tmp_path / "a.txt")])
    assert guess.unsettled and not guess.has_label and guess.source.pattern is None


# --- which column is what --------------------------------------------------------------------------------------------


def test_pairs_without_a_header(tmp_path: Path) -> None:
    names = ["neutral", "entailment", "contradiction"]
    rows = [[names[index % 3], _sentence(index), _sentence(index + 500)] for index in range(60)]
    guess = _write(tmp_path / "a.tsv", [], rows, delimiter="\t")
    assert guess.source.column_names == ("label", "text", "text_pair")
    assert guess.columns == Columns(text_pair="text_pair")
    assert _usable(guess) == 60


@pytest.mark.parametrize("names", [("q_1", "q_2"), ("sentence_a", "sentence_b"), ("Question 1", "Question 2")])
def test_numbered_columns_are_a_pair(tmp_path: Path, names: tuple[str, str]) -> None:
    rows = [[index % 2, _sentence(index), _sentence(index + 500)] for index in range(40)]
    guess = _write(tmp_path / "a.csv", ["gold", *names], rows)
    assert (guess.columns.text, guess.columns.text_pair, guess.columns.label) == (*names, "gold")


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("Bucket", "via"), "Bucket"),
        (("source", "Queue (final)"), "Queue (final)"),
        (("lang", "id"), "lang"),
    ],
)
def test_where_a_row_is_from_is_the_label_only_where_nothing_else_is(
    tmp_path: Path, names: tuple[str, str], label: str
) -> None:
    """Also where some rows have no label: they are the ones to be predicted."""
    own, other = ("x", "y", "z"), ("web", "mail")
    rows = []
    for index in range(60):
        values = {name: other[index % 2] if name in ("via", "source") else own[index % 3] for name in names}
        values[label] = "" if index % 20 == 7 and label != "lang" else values[label]
        rows.append([_sentence(index), *(index if name == "id" else values[name] for name in names)])
    assert _write(tmp_path / "a.csv", ["Customer Message", *names], rows).columns.label == label


def test_every_choice_is_told(tmp_path: Path) -> None:
    rows = [
        [_sentence(index), f"{_sentence(index + 700)} and more", ["a", "b"][index % 2], ["x", "y", "z"][index % 3]]
        for index in range(60)
    ]
    guess = _write(tmp_path / "a.csv", ["title", "body", "verdict", "country"], rows)
    assert guess.columns == Columns(text="body", label="verdict")
    told = " ".join(guess.notes)
    assert "so could be `country`: data.columns.label decides" in told
    assert "so could be `title`" in told and "data.columns.text_pair = 'title'" in told
    assert 'data.columns.template = "{title}\\n{body}"' in told


def test_numbers_as_people_write_them_are_told(tmp_path: Path) -> None:
    rows = [[text.replace(",", ""), f"{index % 17},{index:02}"] for index, text in enumerate(_SENTENCES)]
    guess = _write(tmp_path / "a.csv", ["text", "score"], rows, delimiter=";")
    assert any(note.startswith("`score` is not a label") and "with a decimal point" in note for note in guess.notes)


@pytest.mark.parametrize(
    "below", [["string,category", "feature,target"], ["object,int"], ["string,d", ",class"], ["str,label"]]
)
def test_lines_of_types_below_the_names_are_skipped(tmp_path: Path, below: list[str]) -> None:
    rows = [f"{text.replace(',', '')},{('pos', 'neg')[index % 2]}" for index, text in enumerate(_SENTENCES)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["body,kind", *below, *rows]) + "\n")
    guess = guess_layout([str(path)])
    assert guess.source.skip_lines == 1 + len(below) and guess.source.column_names == ("body", "kind")
    assert _usable(guess) == len(rows)


def test_an_id_or_a_date_is_no_label(tmp_path: Path) -> None:
    rows = [[f"T{index}", _sentence(index), f"2024-01-{index % 9 + 1:02}"] for index in range(60)]
    guess = _write(tmp_path / "a.csv", ["label", "words", "day"], rows)
    assert not guess.has_label
    assert "`label` is not a label despite its name: it has 60 distinct values in 60 rows." in guess.notes
    assert "`label` (60 distinct values in 60 rows)" in guess.unsettled[0]


def test_names_are_preferred_to_their_numbers(tmp_path: Path) -> None:
    rows = [[_sentence(index), index % 3, ["low", "mid", "high"][index % 3]] for index in range(61)]
    assert _write(tmp_path / "a.csv", ["text", "label", "label_text"], rows).columns.label == "label_text"


def test_ratings_are_classes_and_scores_of_many_values_numbers(tmp_path: Path) -> None:
    rows = [[_sentence(index), index % 5 + 1, index % 100] for index in range(300)]
    few = _write(tmp_path / "a.csv", ["review", "stars", "n"], rows)
    assert (few.columns.label, few.task) == ("stars", "auto")
    many = _write(tmp_path / "b.csv", ["review", "n", "score"], rows)
    assert (many.columns.label, many.task) == ("score", "regression")


def test_tags_that_never_stand_alone(tmp_path: Path) -> None:
    tags = ["a", "b", "c", "d", "e"]
    rows = [[_sentence(index), f"{tags[index % 5]}|{tags[(index // 5 + index + 1) % 5]}"] for index in range(60)]
    guess = _write(tmp_path / "a.csv", ["text", "genres"], rows)
    assert (guess.columns.label, guess.labels.delimiter) == ("genres", "|")


# --- several files ---------------------------------------------------------------------------------------------------


def _table(path: Path, num: int, *, start: int = 0, labelled: bool = True) -> str:
    lines = [f"{_sentence(start + index)}{f',{index % 2}' if labelled else ''}" for index in range(num)]
    path.write_text("\n".join(["text,label" if labelled else "text", *lines]) + "\n")
    return str(path)


def test_files_are_dealt_out_by_their_names(tmp_path: Path) -> None:
    train, dev, test = (_table(tmp_path / f"x_{name}.csv", 20) for name in ("train", "dev", "test"))
    guess = guess_layout([test, dev, train])
    assert guess.source.files == (train,)
    assert guess.validation is not None and guess.validation.files == (dev,)
    assert guess.test is not None and guess.test.files == (test,)
    assert guess.notes == (
        "Going by their names, the files are x_train.csv for training, x_dev.csv for validation, x_test.csv for the"
        " test.",
    )


def test_held_out_files_beside_are_found(tmp_path: Path) -> None:
    train = _table(tmp_path / "train.csv", 20)
    valid = _table(tmp_path / "valid.csv", 10, start=90)
    _table(tmp_path / "test.csv", 10, labelled=False)
    guess = guess_layout([train])
    assert guess.validation is not None and guess.validation.files == (valid,) and guess.test is None
    told = " ".join(guess.notes)
    assert "valid.csv, next to the training file" in told
    assert "test.csv is left out: it has no column 'label'" in told


def test_one_held_out_file_alone_is_for_training(tmp_path: Path) -> None:
    dev = _table(tmp_path / "dev.csv", 20)
    _table(tmp_path / "train.csv", 20)
    guess = guess_layout([dev])
    assert guess.source.files == (dev,) and guess.validation is None


def test_label_files_beside_are_found(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / f"{part}_text.txt").write_text("\n".join(_SENTENCES) + "\n")
        (tmp_path / f"{part}_labels.txt").write_text("\n".join(str(index % 2) for index in range(40)) + "\n")
    guess = guess_layout([str(tmp_path / "train_text.txt")])
    assert guess.source.label_files == (str(tmp_path / "train_labels.txt"),)
    assert guess.validation is not None and guess.validation.label_files == (str(tmp_path / "val_labels.txt"),)
    assert _usable(guess) == 40


def test_patterns_stay_patterns(tmp_path: Path) -> None:
    for index in range(3):
        _table(tmp_path / f"part-{index}.csv", 20, start=index * 20)
    guess = guess_layout([str(tmp_path / "part-*.csv")])
    assert guess.source.files == (str(tmp_path / "part-*.csv"),) and _usable(guess) == 60


def test_repeated_names_are_said_with_those_that_stand_for_them(tmp_path: Path) -> None:
    rows = "".join(f"a text of its own {number},{number},{'ab'[number % 2]}\n" for number in range(20))
    (tmp_path / "two.csv").write_text("body,body,label\n" + rows, encoding="utf-8")
    guess = guess_layout([str(tmp_path / "two.csv")])
    [note] = [note for note in guess.notes if "two.csv" in note]
    assert "body, column_2, label" in note and "data.train.column_names" in note and "to skip" not in note
