"""Integers that files name their own way become names before pieces are joined, or a sentence says what is not
known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from textune.config.sources import (
    Absent,
    Columns,
    ConcatSource,
    DataSection,
    FilesSource,
    HeldOut,
    Labels,
    PythonSource,
    SavedSource,
    StreamSource,
)
from textune.data.labels.map import LabelMap
from textune.data.prepare import prepare_data, prepare_held_out
from textune.data.prepared import PreparedData
from textune.data.reading.classnames import class_names
from textune.errors import DataError

NEG_POS, POS_NEG = ("neg", "pos"), ("pos", "neg")
LABEL = pa.array([1, 0, 1])


def _metadata(names: Any, **more: Any) -> dict[str, str]:
    features = {"label": {"names": names, "_type": "ClassLabel", **more}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def _write(path: Path, names: Sequence[str] = (), label: pa.Array = LABEL) -> Path:
    """Three rows, the second of the other class; the file's suffix says how they are written."""
    table = pa.table({"text": ["a good film", "a bad film", "a fine plot"], "label": label})
    if names:
        table = table.replace_schema_metadata(_metadata(list(names)))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in table.to_pylist()))
    return path


def _files(*paths: Path) -> FilesSource:
    return FilesSource(files=tuple(map(str, paths)))


def _prepare(train: Any, *, names: tuple[str, ...] = (), validation: HeldOut | None = None) -> PreparedData:
    return prepare_data(
        DataSection(train=train, validation=validation or Absent(), labels=Labels(names=names)),
        kind="auto",
    )


def _labels(data: PreparedData) -> list[str]:
    return [data.label_map.names[index] for index in data.train.chosen_targets["label"].tolist()]


@pytest.mark.parametrize("given", [(), NEG_POS, POS_NEG])
@pytest.mark.parametrize("suffixes", [(".parquet", ".parquet"), (".arrow", ".arrow"), (".parquet", ".arrow")])
def test_files_that_name_their_classes_in_another_order(
    tmp_path: Path, suffixes: tuple[str, str], given: tuple[str, ...]
) -> None:
    one = _write(tmp_path / f"a{suffixes[0]}", NEG_POS, pa.array([1, 0, 1]))
    two = _write(tmp_path / f"b{suffixes[1]}", POS_NEG, pa.array([0, 1, 0]))
    data = _prepare(_files(one, two), names=given)
    assert _labels(data) == ["pos", "neg", "pos"] * 2
    # The order depends on neither file: turned round, the model has the same outputs.
    assert data.label_map.names == (given or NEG_POS)
    assert _prepare(_files(two, one), names=given).label_map == data.label_map
    apart = ConcatSource(sources=(_files(two), _files(one)))
    assert _labels(_prepare(apart, names=given)) == ["pos", "neg", "pos"] * 2


def test_files_that_name_their_classes_alike_keep_their_order(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.parquet", POS_NEG)
    two = _write(tmp_path / "b.parquet", POS_NEG)
    data = _prepare(_files(one, two))
    assert data.label_map.names == POS_NEG
    assert _labels(data) == ["neg", "pos", "neg"] * 2


def test_more_names_in_one_file(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.parquet", ("neg", "pos"))
    two = _write(tmp_path / "b.parquet", ("neg", "neutral", "pos"), pa.array([0, 1, 2]))
    data = _prepare(_files(one, two))
    assert _labels(data) == ["pos", "neg", "pos", "neg", "neutral", "pos"]


def test_names_beside_names_as_text(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.parquet", POS_NEG)
    two = _write(tmp_path / "b.csv", label=pa.array(["neg", "pos", "neg"]))
    three = _write(
        tmp_path / "c.parquet", label=pa.array(["neg", "pos", None]).dictionary_encode().slice(0, 2).take([0, 1, 0])
    )
    assert _labels(_prepare(_files(one, two, three))) == ["neg", "pos", "neg"] * 3


@pytest.mark.parametrize("other", ["b.parquet", "b.jsonl", "b.csv"])
@pytest.mark.parametrize("apart", [False, True])
def test_only_one_file_names_its_classes(tmp_path: Path, other: str, apart: bool) -> None:
    one, two = _write(tmp_path / "a.parquet", POS_NEG), _write(tmp_path / other)
    for first, second in ((one, two), (two, one)):
        source = ConcatSource(sources=(_files(first), _files(second))) if apart else _files(first, second)
        with pytest.raises(DataError) as caught:
            _prepare(source)
        assert str(caught.value).startswith(
            f"Column 'label' of {other} holds integers, such as 1, without names for them, where a.parquet names its"
            f" classes"
            " ('pos', 'neg'). Nothing says which class an integer means. Set data.labels.names"
        )
        # The user may say what the bare ones mean; those that are named keep their own names.
        expected = {one.name: ["neg", "pos", "neg"], two.name: ["pos", "neg", "pos"]}
        assert _labels(_prepare(source, names=NEG_POS)) == expected[first.name] + expected[second.name]


def test_names_that_are_integers_themselves(tmp_path: Path) -> None:
    """1 could be the name or the place of one: no guess."""
    one = _write(tmp_path / "a.parquet", ("1", "2"), pa.array([0, 1, 0]))
    two = _write(tmp_path / "b.csv", label=pa.array([1, 0, 1]))
    with pytest.raises(DataError, match=r"b.csv holds integers, such as 1, without names"):
        _prepare(_files(one, two))
    with pytest.raises(DataError, match=r"b.csv holds integers, such as 1, without names"):
        _prepare(_files(one), validation=_files(two))


def test_a_column_that_is_not_used_stops_nothing(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.parquet", POS_NEG)
    two = _write(tmp_path / "b.parquet")
    for path, label in ((one, ["x", "y", "x"]), (two, ["y", "x", "y"])):
        pq.write_table(pq.read_table(path).append_column("tone", pa.array(label)), path)
    data = prepare_data(
        DataSection(train=_files(one, two), validation=Absent(), columns=Columns(label="tone")),
        kind="auto",
    )
    assert _labels(data) == ["x", "y", "x", "y", "x", "y"]


@pytest.mark.parametrize("given", [(), NEG_POS])
def test_validation_names_its_classes_in_another_order(tmp_path: Path, given: tuple[str, ...]) -> None:
    one = _write(tmp_path / "a.parquet", NEG_POS)
    two = _write(tmp_path / "b.parquet", POS_NEG)
    data = _prepare(_files(one), validation=_files(two), names=given)
    assert data.validation is not None
    assert data.validation.targets["label"].tolist() == [0, 1, 0]


@pytest.mark.parametrize("other", ["b.parquet", "b.csv", "b.jsonl"])
def test_only_training_or_only_validation_names_its_classes(tmp_path: Path, other: str) -> None:
    one, two = _write(tmp_path / "a.parquet", POS_NEG), _write(tmp_path / other)
    for train, validation in ((one, two), (two, one)):
        with pytest.raises(DataError, match=rf"Column 'label' of {other} holds integers, such as 1, without names"):
            _prepare(_files(train), validation=_files(validation))
        data = _prepare(_files(train), validation=_files(validation), names=NEG_POS)
        assert data.validation is not None
        expected = {one.name: [0, 1, 0], two.name: [1, 0, 1]}
        assert data.train.targets["label"].tolist() == expected[train.name]
        assert data.validation.targets["label"].tolist() == expected[validation.name]


def test_data_for_a_model_that_is_trained(tmp_path: Path) -> None:
    """Evaluating: the map is the model's; integers count into its names only where the user gave these."""
    label_map = LabelMap("binary", NEG_POS)

    def targets(path: Path, labels: Labels) -> list[int]:
        part = prepare_held_out(
            _files(path), columns=Columns(), labels=labels, label_maps={"label": label_map}, on_bad_row="error"
        )
        return list(part.targets["label"].tolist())

    turned, bare = _write(tmp_path / "turned.parquet", POS_NEG), _write(tmp_path / "bare.parquet")
    assert targets(turned, Labels()) == targets(turned, Labels(names=NEG_POS)) == [0, 1, 0]
    assert targets(bare, Labels(names=NEG_POS)) == [1, 0, 1]
    with pytest.raises(DataError, match=r"'1' is not one of the 2 labels .* if data.labels.names gives the order"):
        targets(bare, Labels())


def test_saved_folders_and_python_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    for name, names in (("one", NEG_POS), ("two", POS_NEG)):
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))}
        )
        label = [names.index("pos"), names.index("neg")]
        datasets.Dataset.from_dict({"text": ["good", "bad"], "label": label}, features=features).save_to_disk(
            str(tmp_path / name)
        )
    (tmp_path / "own_classes.py").write_text(
        f"import datasets\ndef two(): return datasets.load_from_disk({str(tmp_path / 'two')!r})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    one, two = SavedSource(folder=str(tmp_path / "one")), SavedSource(folder=str(tmp_path / "two"))
    own = PythonSource(object="own_classes:two")
    assert _labels(_prepare(ConcatSource(sources=(one, two, own)))) == ["pos", "neg"] * 3
    data = _prepare(own, validation=one)
    assert data.label_map.names == POS_NEG
    assert data.validation is not None
    assert data.validation.targets["label"].tolist() == [0, 1]


def test_a_stream_reads_each_shard_by_its_own_names(tmp_path: Path) -> None:
    paths = [_write(tmp_path / "a.parquet", NEG_POS), _write(tmp_path / "b.parquet", POS_NEG, pa.array([0, 1, 0]))]
    source = StreamSource(files=tuple(map(str, paths)))
    data = prepare_data(DataSection(train=source, validation=Absent(), labels=Labels(names=NEG_POS)), kind="binary")
    good = {"a good film": 1, "a bad film": 0, "a fine plot": 1}
    found = zip(data.train.examples.text.to_pylist(), data.train.targets["label"].tolist(), strict=True)
    assert [(text, good[text]) for text, _ in found] == list(
        zip(data.train.examples.text.to_pylist(), data.train.targets["label"].tolist(), strict=True)
    )


def test_lists_of_classes(tmp_path: Path) -> None:
    paths = []
    for name, names in (("a", ["x", "y", "z"]), ("b", ["z", "y", "x"])):
        lists = [[names.index("x"), names.index("y")], [], [names.index("z")], None]
        features = {"label": {"feature": {"names": names, "_type": "ClassLabel"}, "length": -1, "_type": "Sequence"}}
        table = pa.table({"text": list("abcd"), "label": lists})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        paths.append(tmp_path / f"{name}.parquet")
    section = DataSection(train=_files(*paths), validation=Absent(), on_bad_row="skip")
    data = prepare_data(section, kind="auto")
    assert data.label_map == LabelMap("multilabel", ("x", "y", "z"), multi_hot=False)
    assert data.train.targets["label"].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]] * 2


def test_ids_without_a_name_and_no_label(tmp_path: Path) -> None:
    """-1 means no label; an id beyond the file's own names is no place in anybody else's."""
    one = _write(tmp_path / "a.parquet", POS_NEG, pa.array([0, -1, 2]))
    two = _write(tmp_path / "b.parquet", ("neg", "neutral", "pos"), pa.array([2, 1, 0]))
    section = DataSection(train=_files(one, two), validation=Absent(), on_bad_row="skip")
    for labels in (Labels(), Labels(names=("neg", "neutral", "pos"))):
        data = prepare_data(section.model_copy(update={"labels": labels}), kind="auto")
        assert [row.reason for row in data.skipped] == [
            "the label is missing",
            "the label '2 without a name' is not one of the 3 labels ('neg', 'neutral', 'pos')",
        ]
        assert _labels(data) == ["pos", "pos", "neutral", "neg"]


def test_rows_are_chosen_by_name_or_integer(tmp_path: Path) -> None:
    one = _write(tmp_path / "a.parquet", POS_NEG).rename(tmp_path / "c.parquet")
    for value in ("neg", "1"):
        source = _files(one).model_copy(update={"where": {"label": (value,)}, "rename": {"label": "y"}})
        data = prepare_data(
            DataSection(
                train=ConcatSource(sources=(source, _files(one).model_copy(update={"rename": {"label": "y"}}))),
                validation=Absent(),
                columns=Columns(label="y"),
            ),
            kind="auto",
        )
        assert _labels(data) == ["neg", "neg", "neg", "pos", "neg"]
    with pytest.raises(DataError, match="no row has 'none' in column 'label'; found there: 'neg', 'pos'"):
        _prepare(_files(one).model_copy(update={"where": {"label": ("none",)}}))


@pytest.mark.parametrize(
    "feature",
    [
        {"names": ["neg", "pos"], "_type": "ClassLabel"},
        {"num_classes": 2, "names": ["neg", "pos"], "names_file": None, "id": None, "_type": "ClassLabel"},
        {"names": {"1": "pos", "0": "neg"}, "_type": "ClassLabel"},
        {"names": [" neg", "pos "], "_type": "ClassLabel"},
        {"feature": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "length": -1, "id": None, "_type": "Sequence"},
        {"feature": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "_type": "LargeList"},
        [{"num_classes": 2, "names": ["neg", "pos"], "_type": "ClassLabel"}],
        {"dtype": {"class_label": {"names": {"0": "neg", "1": "pos"}}}},
        {"sequence": {"class_label": {"names": ["neg", "pos"]}}},
    ],
)
def test_forms_of_the_metadata(feature: Any) -> None:
    def names(features: Any, *, encode: Any = lambda value: value) -> dict[str, tuple[str, ...]]:
        metadata = {"huggingface": json.dumps({"info": encode({"features": encode(features)})})}
        return class_names(pa.schema([("label", pa.int64())], metadata=metadata))

    expected = {"label": NEG_POS}
    assert names({"label": feature, "text": {"dtype": "string", "_type": "Value"}}) == expected
    assert names({"label": feature}, encode=json.dumps) == expected
    if isinstance(feature, dict):
        assert names([{"name": "label", **feature}, {"name": "text", "dtype": "string"}]) == expected


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"info": 3}',
        b'{"info": {"features": "no"}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1, 2]}}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": {"0": "a", "2": "c"}}}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": {"a": "a"}}}}}',
        b'{"info": {"features": {"label": {"_type": "ClassLabel", "names_file": "names.txt", "num_classes": 2}}}}',
    ],
)
def test_metadata_without_names(metadata: bytes) -> None:
    assert class_names(pa.schema([("label", pa.int64())], metadata={b"huggingface": metadata})) == {}
    assert class_names(pa.schema([("label", pa.int64())])) == {}


def test_given_names_are_trimmed_as_cells_are(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", label=pa.array([" pos", "neg ", "pos"]))
    assert _prepare(_files(path), names=("neg", "pos ")).train.targets["label"].tolist() == [1, 0, 1]
