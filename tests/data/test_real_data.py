"""Public data sets as published, from `shared/data` beside the repository: all load from configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from textune.config.sources import Absent, Columns, DataSection, FilesSource, Labels
from textune.data.columns import Examples, select_columns
from textune.data.inspect.audit import audit_data
from textune.data.inspect.findings import Finding
from textune.data.inspect.guess import guess_layout
from textune.data.labels.encode import encode_labels
from textune.data.labels.infer import infer_labels
from textune.data.labels.map import LabelMap
from textune.data.prepare import prepare_data
from textune.data.reading.sources import read_source

_DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not _DATA.is_dir(), reason=f"the public data sets are not in {_DATA}")

_LANGUAGES = ["arabic", "english", "french", "german", "hindi", "spanish"]
_TREC = {"format": "text", "encoding": "latin-1", "pattern": r"(?P<label>[^:]+):\S+ (?P<text>.*)"}
_COLA = {"column_names": ("source", "label", "mark", "sentence")}
_GOEMOTIONS = {"column_names": ("text", "labels", "id")}

_ROWS: list[tuple[str, int, dict[str, Any]]] = [
    ("glue/SST-2/train.tsv", 67_349, {}),
    ("glue/SST-2/dev.tsv", 872, {}),
    ("glue/CoLA/train.tsv", 8_551, _COLA),
    ("glue/CoLA/dev.tsv", 1_043, _COLA),
    ("glue/MRPC/train.tsv", 3_668, {}),
    ("glue/MRPC/dev.tsv", 408, {}),
    ("glue/MRPC/msr_paraphrase_test.txt", 1_725, {"format": "tsv"}),
    ("glue/RTE/train.tsv", 2_490, {}),
    ("glue/RTE/dev.tsv", 277, {}),
    ("glue/WNLI/train.tsv", 635, {}),
    ("glue/WNLI/dev.tsv", 71, {}),
    ("glue/STS-B/train.tsv", 5_749, {}),
    ("glue/STS-B/dev.tsv", 1_500, {}),
    ("glue/QNLI/dev.tsv", 5_463, {}),
    *(
        (f"glue_10k/{task}/{part}.json", rows, {})
        for task in ("MNLI", "QNLI", "QQP")
        for part, rows in (("train", 8_999), ("dev", 1_000))
    ),
    ("trec/TREC.train", 5_452, _TREC),
    ("trec/TREC.test", 500, _TREC),
    ("banking77/train.csv", 10_003, {}),
    ("banking77/test.csv", 3_080, {}),
    ("goemotions/train.tsv", 43_410, _GOEMOTIONS),
    ("goemotions/dev.tsv", 5_426, _GOEMOTIONS),
    ("goemotions/test.tsv", 5_427, _GOEMOTIONS),
    *(
        (
            f"multilingual/{language}/{part}_text.txt",
            rows,
            {"label_files": (f"multilingual/{language}/{part}_labels.txt",)},
        )
        for language in _LANGUAGES
        for part, rows in (("train", 1_839), ("val", 324), ("test", 870))
    ),
    ("web/html_pages.jsonl.gz", 258, {}),
    ("web/c4_sample_1000.jsonl", 1_000, {}),
    ("metadata/train_toy_raw_wikitext.jsonl", 6, {}),
    ("metadata/train_toy_wikitext_with_metadata.jsonl", 6, {}),
    ("metadata/val_toy_wikitext_with_metadata.jsonl", 7, {}),
    ("training_wizard/sequence_classification.tsv", 20, {}),
    ("training_wizard/sequence_regression.tsv", 20, {}),
    ("training_wizard/multi_task_classification.jsonl", 20, {}),
]


def _source(file: str, options: dict[str, Any]) -> FilesSource:
    absolute = {
        key: tuple(str(_DATA / one) for one in value) if key == "label_files" else value
        for key, value in options.items()
    }
    return FilesSource(files=(str(_DATA / file),), **absolute)


@pytest.mark.every_day(5)
@pytest.mark.parametrize(("file", "num_rows", "options"), _ROWS)
def test_number_of_rows(file: str, num_rows: int, options: dict[str, Any]) -> None:
    assert len(read_source(_source(file, options))) == num_rows


def _labelled(file: str, columns: Columns, **options: Any) -> Examples:
    return select_columns(read_source(_source(file, options)), columns, with_labels=True)


def _learn(train: Examples, section: Labels | None = None) -> tuple[LabelMap, Any]:
    labels = section or Labels()
    label_map, notes = infer_labels(train, [], labels)
    assert notes == ()
    return label_map, encode_labels(train, label_map, labels)[1]


def test_raw_quotes_of_glue() -> None:
    mrpc = _labelled("glue/MRPC/train.tsv", Columns(text="#1 String", text_pair="#2 String", label="Quality"))
    assert mrpc.text[0].as_py().count('"') == 2
    assert mrpc.text_pair is not None
    assert mrpc.place(3667) == "train.tsv, line 3669"
    assert _learn(mrpc)[0] == LabelMap("binary", ("0", "1"))


def test_similarity_is_regression() -> None:
    label_map, targets = _learn(
        _labelled("glue/STS-B/train.tsv", Columns(text="sentence1", text_pair="sentence2", label="score"))
    )
    assert label_map.problem == "regression"
    assert (targets.min(), targets.max()) == (0.0, 5.0)


def test_entailment_names() -> None:
    label_map, _ = _learn(_labelled("glue/RTE/train.tsv", Columns(text="sentence1", text_pair="sentence2")))
    assert label_map == LabelMap("binary", ("entailment", "not_entailment"))


def test_coarse_question_types() -> None:
    train = _labelled("trec/TREC.train", Columns(), **_TREC)
    assert _learn(train)[0].names == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert any("sisterðcity" in text for text in train.text.to_pylist())


def test_intents_with_cells_over_several_lines() -> None:
    train = _labelled("banking77/train.csv", Columns(label="category"))
    assert len(_learn(train)[0].names) == 77
    # 10,017 lines: some cells hold line feeds, and places still name the line in the file.
    assert train.place(10_002) == "train.csv, line 10017"


def test_emotions_by_position_in_the_file_of_names() -> None:
    section = Labels(names_file=str(_DATA / "goemotions" / "labels.txt"), delimiter=",")
    label_map, targets = _learn(_labelled("goemotions/train.tsv", Columns(label="labels"), **_GOEMOTIONS), section)
    assert (label_map.problem, len(label_map.names), label_map.names[27]) == ("multilabel", 28, "neutral")
    assert targets.shape == (43_410, 28)
    assert int(targets.sum()) == 51_103
    assert targets[0].argmax() == 27


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("file", "columns"),
    [
        ("glue/SST-2/train.tsv", Columns(text="sentence")),
        ("glue/CoLA/train.tsv", Columns()),
        ("glue/MRPC/msr_paraphrase_test.txt", Columns(text="#1 String", text_pair="#2 String", label="Quality")),
        ("glue/STS-B/train.tsv", Columns(text="sentence1", text_pair="sentence2", label="score")),
        ("glue/QNLI/dev.tsv", Columns(text="question", text_pair="sentence")),
        ("glue_10k/MNLI/dev.json", Columns(text="text_a", text_pair="text_b")),
        ("banking77/train.csv", Columns(label="category")),
        ("goemotions/train.tsv", Columns()),
        ("trec/TREC.train", Columns()),
        ("training_wizard/sequence_regression.tsv", Columns(label="labels")),
    ],
)
def test_guess(file: str, columns: Columns) -> None:
    guess = guess_layout([str(_DATA / file)])
    assert guess.columns == columns
    examples = select_columns(read_source(guess.source), guess.columns, with_labels=True)
    label_map, _ = infer_labels(examples, [], guess.labels)
    encode_labels(examples, label_map, guess.labels)


def _audited(train: str, held_out: str, columns: Columns, **options: Any) -> dict[str, Finding]:
    paths = {"train": str(_DATA / train), "validation": str(_DATA / held_out)}
    sources = {name: FilesSource(files=(path,), **options) for name, path in paths.items()}
    data = prepare_data(DataSection(**sources, test=Absent(), columns=columns), kind="auto")  # type: ignore[arg-type]
    return {finding.code: finding for finding in audit_data(data)}


_PAIR = Columns(text="sentence1", text_pair="sentence2")


def test_wnli_is_known_by_its_shared_sentences() -> None:
    found = _audited("glue/WNLI/train.tsv", "glue/WNLI/dev.tsv", _PAIR)["shared-texts"]
    assert (found.level, found.count) == ("warning", 65)
    assert "59 mostly under another label, 3 mostly under the same one" in found.message
    assert len(found.examples) == 3 and all("dev.tsv, line" in text and "train.tsv" in text for text in found.examples)


@pytest.mark.parametrize(
    ("train", "held_out", "columns", "options"),
    [
        ("glue/RTE/train.tsv", "glue/RTE/dev.tsv", _PAIR, {}),
        (
            "glue/MRPC/train.tsv",
            "glue/MRPC/dev.tsv",
            Columns(text="#1 String", text_pair="#2 String", label="Quality"),
            {},
        ),
        ("glue/CoLA/train.tsv", "glue/CoLA/dev.tsv", Columns(text="sentence"), _COLA),
        *(
            (
                f"glue_10k/{task}/train.json",
                f"glue_10k/{task}/dev.json",
                Columns(text="text_a", text_pair="text_b"),
                {},
            )
            for task in ("MNLI", "QNLI", "QQP")
        ),
        ("trec/TREC.train", "trec/TREC.test", Columns(), _TREC),
        ("banking77/train.csv", "banking77/test.csv", Columns(label="category"), {}),
    ],
)
def test_other_data_sets_raise_no_such_alarm(
    train: str, held_out: str, columns: Columns, options: dict[str, Any]
) -> None:
    found = _audited(train, held_out, columns, **options)
    assert {found[code].level for code in ("shared-texts", "label-shift") if code in found} <= {"note"}
