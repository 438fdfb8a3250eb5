"""Files predicted: the same texts as in training, every row and column kept, nothing overwritten, or one sentence."""

from __future__ import annotations

import datetime
import decimal
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.backbones import why_no_kernels
from kits.errors import refused
from kits.patience import wait_until
from kits.predictions import Parrot, card_of, predict, read
from kits.runs import Listener, reviews
from safetensors.torch import load_file, save_file

import textune
from textune.cli import main
from textune.config.sources import Columns, FilesSource
from textune.data.columns import select_columns
from textune.data.reading.sources import read_source
from textune.data.reading.streamoptions import StreamOptions, stream_format
from textune.data.reading.windows import OpenRows, Window, read_rows
from textune.errors import DataError, ModelError, RunError, TextuneError
from textune.model import device as device_module
from textune.model import processor
from textune.pipeline.predict_file import predict_file
from textune.prediction.load import load
from textune.prediction.predictor import Predictor
from textune.prediction.scorer import Scorer

# --- the same texts as in training -----------------------------------------------------------------------------------

DAY = datetime.date(2024, 1, 2)
TABLE = {
    "text": pa.array(["a", None, "c"]),
    "int": pa.array([1, None, -3]),
    "float": pa.array([1.0, 2.5, None]),
    "small": pa.array([0.1, 1e10, 3.0], pa.float32()),
    "flag": pa.array([True, False, None]),
    "date": pa.array([DAY, None, DAY]),
    "time": pa.array([1, None, 1_000_000_007], pa.timestamp("ns")),
    "price": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.00")]),
    "word": pa.array(["x", "y", "x"]).dictionary_encode(),
    "nothing": pa.nulls(3),
}
RECORDS: dict[str, list[Any]] = {
    "text": ["a", None, "c"],
    "int": [1, None, -3],
    "float": [1.0, 2.5, None],
    "mixed": [1, 2.5, 3],
    "large": [1e20, 1e-7, 12345678.0],
    "flag": [True, False, None],
    "date": ["2024-01-02", None, "01"],
    "nothing": [None, None, None],
}


def seen_by_both(path: Path, columns: Columns, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    examples = select_columns(read_source(FilesSource(files=(str(path),))), columns, with_labels=False)
    parrot = Parrot()
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 2)
    predict(parrot, path, path.with_name("out.jsonl"), columns, force=True)
    if examples.text_pair is not None:
        assert parrot.pairs == examples.text_pair.to_pylist()
    return parrot.texts, examples.text.to_pylist()


@pytest.mark.parametrize("name", [*TABLE])
def test_parquet_cells_become_the_texts_of_training(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table(TABLE), tmp_path / "x.parquet")
    for columns in (Columns(text=name), Columns(text_pair=name), Columns(template=f"{{text}}\\n{{{name}}}!")):
        seen, wanted = seen_by_both(tmp_path / "x.parquet", columns, monkeypatch)
        assert seen == wanted


@pytest.mark.parametrize("name", [*RECORDS])
def test_jsonl_cells_become_the_texts_of_training(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps({key: values[i] for key, values in RECORDS.items()}) for i in range(3)]
    (tmp_path / "x.jsonl").write_text("\n".join([*lines, '{"other": 1}']) + "\n")
    for columns in (Columns(text=name), Columns(text_pair=name), Columns(template=f"{{text}}\\n{{{name}}}!")):
        seen, wanted = seen_by_both(tmp_path / "x.jsonl", columns, monkeypatch)
        assert seen == wanted and len(seen) == 4


def test_the_usual_forms_of_values(tmp_path: Path) -> None:
    pq.write_table(pa.table(TABLE), tmp_path / "x.parquet")
    parrot = Parrot()
    columns = Columns(template="{int}|{float}|{flag}|{date}|{nothing}")
    assert predict(parrot, tmp_path / "x.parquet", tmp_path / "y.parquet", columns) == 3
    assert parrot.texts == ["1|1|true|2024-01-02|", "|2.5|false||", "-3|||2024-01-02|"]
    assert pq.read_table(tmp_path / "y.parquet").select([*TABLE]).cast(pa.table(TABLE).schema).equals(pa.table(TABLE))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["a", "b", 3], "line 3: column 'text' holds an integer, '3', where most rows hold text"),
        ([["a"], ["b"]], "column 'text' holds lists"),
        ([{"a": 1}, {"a": 2}], "column 'text' holds objects"),
        (["a", "\ud800"], "line 2: column 'text' holds text that is not valid Unicode"),
    ],
)
def test_what_training_refuses_prediction_refuses(tmp_path: Path, values: list[Any], reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"text": value}) + "\n" for value in values))
    with pytest.raises(DataError, match=reason):
        select_columns(read_source(FilesSource(files=(str(path),))), Columns(), with_labels=False)
    with pytest.raises(DataError, match=reason):
        predict(Parrot(), path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


# --- nothing is overwritten ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sub/../in.jsonl", "symbolic.jsonl", "hard.jsonl", "in.jsonl"])
@pytest.mark.parametrize("force", [False, True])
def test_the_input_is_never_overwritten(tmp_path: Path, name: str, force: bool) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "symbolic.jsonl").symlink_to(source)
    (tmp_path / "hard.jsonl").hardlink_to(source)
    with refused(DataError, key="output"):
        predict(Parrot(), source, tmp_path / name, force=force)
    assert source.read_text() == '{"text": "a"}\n'


def test_an_existing_output_is_replaced_on_demand_only(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "a"}\n')
    target.write_text("precious")
    with refused(DataError, key="output", value=str(tmp_path / "out.jsonl")):
        predict(Parrot(), source, target)
    assert target.read_text() == "precious"
    predict(Parrot(), source, target, force=True)
    assert read(target) == [{"text": "a", "predicted_label": "pos", "predicted_score": 0.876543}]
    with refused(DataError, key="output"):
        predict_file(
            cast(Predictor, Parrot()),
            source=str(source),
            source_options=StreamOptions(format="jsonl"),
            target=str(tmp_path),
            target_options=StreamOptions(format="jsonl"),
            columns=Columns(),
            force=True,
            tracker=Listener(),
        )


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_later_key_is_a_column_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 1)
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n\n{"text": "b", "id": "x"}\n')
    predict(Parrot(), tmp_path / "in.jsonl", tmp_path / f"out.{ending}")
    first, second = read(tmp_path / f"out.{ending}")
    assert [*first] == ["text", "id", "predicted_label", "predicted_score"]
    assert (first["id"] or None, second["id"]) == (None, "x")


def test_an_added_name_that_a_later_row_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 1)
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "b", "predicted_score": 1}\n')
    with refused(DataError, value="predicted_score"):
        predict(Parrot(), tmp_path / "in.jsonl", tmp_path / "out.jsonl")


def test_values_of_a_regression_keep_their_digits(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    value = 1.23456789012e-7
    parrot = Parrot(value, problem="regression", names=("score",))
    predict(parrot, tmp_path / "in.jsonl", tmp_path / "out.jsonl", all_scores=True)
    (row,) = read(tmp_path / "out.jsonl")
    assert [row["predicted_label"], row["predicted_score"], row["score_score"]] == [value] * 3


def test_labels_that_come_late_fit_in_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 1)
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    parrot = Parrot(problem="multilabel")
    answers = iter([[0.1, 0.1], [0.9, 0.1]])
    monkeypatch.setattr(parrot, "score_store", lambda _, **_place: {"label": np.array([next(answers)])})
    predict(parrot, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("predicted_label").to_pylist() == [[], ["neg"]]


def test_a_cell_that_the_format_cannot_hold_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 1)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ["a", "b", "c\td"]))
    parrot = Parrot()
    with pytest.raises(DataError, match=r"in.jsonl, line 3 cannot be written as tsv: column 'text' holds a delimiter"):
        predict(parrot, tmp_path / "in.jsonl", tmp_path / "out.tsv")
    assert parrot.texts == [] and not (tmp_path / "out.tsv").exists()


def test_an_empty_parquet_file_gives_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in.parquet")
    assert predict(Parrot(), tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    assert pq.read_schema(tmp_path / "out.parquet").names == ["text", "predicted_label", "predicted_score"]


# --- the predictor's own words ---------------------------------------------------------------------------------------


def test_a_text_that_is_too_long_is_named_by_its_line(trained: Any, tmp_path: Path) -> None:
    change_card(Path(shutil.copytree(trained[0].run / "best", tmp_path / "short")), max_length=4, truncate="error")
    predictor = load(tmp_path / "short")
    (tmp_path / "in.jsonl").write_text('\n\n{"text": "a"}\n{"text": "a film that is long"}\n')
    with refused(DataError, key="tokens.max_length", value=4, place="in.jsonl, line 4", reason="7 tokens"):
        predict(predictor, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    with refused(DataError, key="tokens.max_length", value=4, place="texts[1]", reason="7 tokens"):
        predictor.predict(["a", "a film that is long"])


def test_what_is_no_list_of_texts_is_a_clear_mistake(trained: Any) -> None:
    predictor = load(trained[0].run)
    with pytest.raises(TypeError, match="texts is one text; a list of texts is needed"):
        predictor.predict("a film")
    with pytest.raises(TypeError, match=r"texts\[1\] is None, not a text"):
        predictor.predict(["a", None])  # type: ignore[list-item]
    assert predictor.predict([]) == []
    with refused(DataError, key="data.columns.text_pair"):
        predictor.predict(["a"], ["b"])
    predictor.card = predictor.card.model_copy(update={"columns": Columns(text_pair="b")})
    with refused(DataError, key="data.columns.text_pair"):
        predictor.predict(["a"])
    with pytest.raises(ValueError, match="2 texts, but 1 pairs"):
        predictor.predict(["a", "b"], ["c"])
    with pytest.raises(TypeError, match=r"pairs\[0\] is 3, not a text"):
        predictor.predict(["a"], [3])  # type: ignore[list-item]
    assert len(predictor.predict(["a"], ["c"])) == 1


@pytest.mark.parametrize(
    ("problem", "scores", "labels", "best"),
    [
        ("binary", [[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]], ["b", "a", "a"], [0.8, 0.5, 0.9]),
        ("multiclass", [[0.2, 0.1, 0.7]], ["c"], [0.7]),
        (
            "multilabel",
            [[0.2, 0.5, 0.7], [0.1, 0.2, 0.3], [0.9, 0.8, 0.7]],
            [("b", "c"), (), ("a", "b", "c")],
            [0.7, 0.3, 0.9],
        ),
        ("multilabel", [], [], []),
        ("regression", [2.5, -1.0], [2.5, -1.0], [2.5, -1.0]),
    ],
)
def test_scores_become_labels(problem: Any, scores: list[Any], labels: list[Any], best: list[float]) -> None:
    names = ("score",) if problem == "regression" else ("a", "b", "c")[: len(scores[0]) if scores else 3]
    card = card_of(problem=problem, names=names)
    array = np.array(scores) if scores else np.zeros((0, 3))
    (head,) = card.build_task().heads
    found, best_N = head.answers.answer_rows(array, head.decide(array))
    assert found == labels and best_N.tolist() == best
    predictor = Predictor.__new__(Predictor)
    predictor.card, predictor.scorer = card, cast(Scorer, SimpleNamespace(task=card.build_task()))
    for prediction, label, score, row in zip(
        predictor.name_scores({"label": array})["label"], labels, best, scores, strict=True
    ):
        assert (prediction.label, prediction.score) == (label, score)
        assert prediction.scores == dict(zip(names, [row] if problem == "regression" else row, strict=True))


# --- any bytes -------------------------------------------------------------------------------------------------------

FORMATS = ["csv", "tsv", "jsonl", "parquet", "text"]
value = (
    st.sampled_from(["\ud800", 2**70, {}])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.lists(st.integers(), max_size=2)
)
plain_record = st.fixed_dictionaries({"text": st.text(max_size=6), "id": value})
record = st.dictionaries(
    st.sampled_from(["text", "id", "a\tb", "predicted_label"]) | st.text(max_size=3), value, max_size=4
)


def parquet_bytes(rows: list[dict[str, Any]], damage: tuple[int, int] | None) -> bytes:
    buffer = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pylist(rows), buffer)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return b"PAR1"
    data = bytearray(buffer.getvalue())
    if damage is not None:
        data[damage[0] % len(data)] = damage[1]
    return bytes(data)


contents = st.one_of(
    st.binary(max_size=120),
    st.text('text,\t"\n\rab{}:1\u2028\ud800', max_size=60).map(
        lambda text: b"text,b\n" + text.encode("utf-8", "surrogatepass")
    ),
    st.text('ab\t"\n\r', max_size=60).map(lambda text: b"text\tb\n" + text.encode()),
    st.lists(plain_record, max_size=3).map(lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode()),
    st.lists(record, max_size=4).map(lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode()),
    st.builds(
        parquet_bytes, st.lists(record, max_size=4), st.none() | st.tuples(st.integers(0, 5000), st.integers(0, 255))
    ),
)


@given(contents, st.sampled_from(FORMATS), st.sampled_from(["csv", "tsv", "jsonl", "parquet"]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=500)
def test_any_bytes_give_as_many_rows_or_a_sentence(
    tmp_path: Path, content: bytes, source_format: Any, target_format: Any, in_template: bool
) -> None:
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    source, target = folder / "in", folder / f"out.{target_format}"
    source.write_bytes(content)
    reading, writing = StreamOptions(format=source_format), StreamOptions(format=target_format)
    try:
        done = predict_file(
            cast(Predictor, Parrot()),
            source=str(source),
            source_options=reading,
            target=str(target),
            target_options=writing,
            columns=Columns(template="<{text}>") if in_template else Columns(),
            tracker=Listener(),
        )
    except TextuneError:
        assert [file.name for file in folder.iterdir()] == ["in"]
        return
    assert sorted(file.name for file in folder.iterdir()) == ["in", target.name]
    assert done == sum(1 for _ in read_rows(str(source), reading, text_column="text"))
    if b"\\u0000" not in content and b"\0" not in content:  # which no csv or tsv can hold
        assert (len(read(target)) if target.stat().st_size else 0) == done


def test_a_broken_stream_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 1)
    for name, content in {
        "x.jsonl": b'{"text": "a"}\n{"text": ',
        "x.csv": b"text,n\na,1\nb\n",
        "x.tsv": b"text\na\n\xff",
    }.items():
        (tmp_path / name).write_bytes(content)
        for ending in ("csv", "tsv", "jsonl", "parquet"):
            with pytest.raises(DataError, match="line"):
                predict(Parrot(), tmp_path / name, tmp_path / f"out.{ending}")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.csv", "x.jsonl", "x.tsv"]


def test_standard_output_gets_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "n": "b"}\n')
    options = StreamOptions(format="jsonl")
    predict_file(
        cast(Predictor, Parrot()),
        source=str(tmp_path / "in.jsonl"),
        source_options=options,
        target="-",
        target_options=options,
        columns=Columns(),
        tracker=Listener(),
    )
    row = json.loads(capsys.readouterr().out)
    assert row == {"text": "a", "n": "b", "predicted_label": "pos", "predicted_score": 0.876543}


# --- reading, scoring and writing at the same time -------------------------------------------------------------------


def background() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("textune-reader", "textune-formatter"))
    ]


def many(path: Path, num: int = 25) -> Path:
    path.write_text("".join(json.dumps({"text": f"text {number}", "id": number}) + "\n" for number in range(num)))
    return path


class Hesitant(Parrot):
    """Scores by the text, after a while; `at_once` is told the number of the window before it is scored."""

    def __init__(self, at_once: Callable[[int], None] = lambda _: time.sleep(0.002), **card: Any) -> None:
        super().__init__(**card)
        self.at_once = at_once
        self.num_windows = 0

    def score_store(self, store: Any, **_: Any) -> dict[str, np.ndarray]:
        self.num_windows += 1
        self.at_once(self.num_windows)
        positive = np.array([int(text.split()[1]) for text in store]) / 100
        return {"label": np.stack([1 - positive, positive], axis=1)}


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_rows_keep_their_order_and_their_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, rows: int
) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", rows)
    source, target = many(tmp_path / "in.jsonl"), tmp_path / f"out.{ending}"
    assert predict(Hesitant(), source, target, all_scores=True) == 25
    found = read(target)
    assert [row["text"] for row in found] == [f"text {number}" for number in range(25)]
    assert [float(row["predicted_score"]) for row in found] == [round(1 - number / 100, 6) for number in range(25)]
    assert [float(row["score_pos"]) for row in found] == [number / 100 for number in range(25)]
    assert background() == []


def test_the_next_window_is_tokenised_while_one_is_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 5)

    def wait_for_the_next(window: int) -> None:
        wait_until(lambda: len(parrot.texts) >= min(25, 5 * (window + 1)))

    parrot = Hesitant(wait_for_the_next)
    assert predict(parrot, many(tmp_path / "in.jsonl"), tmp_path / "out.jsonl") == 25


def test_long_texts_make_windows_of_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_CHARACTERS", 20)
    parrot = Hesitant()
    predict(parrot, many(tmp_path / "in.jsonl"), tmp_path / "out.jsonl")
    assert parrot.num_windows == 8  # of three or four texts of six or seven characters, and one of the last


@pytest.mark.parametrize("stops", [ValueError("the model broke"), KeyboardInterrupt()])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_whatever_stops_the_scoring_leaves_no_file_and_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: BaseException, ending: str
) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 5)
    source = many(tmp_path / "in.jsonl")

    def stop(window: int) -> None:
        if window == 3:
            raise stops

    with pytest.raises(type(stops)):
        predict(Hesitant(stop), source, tmp_path / f"out.{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"] and background() == []


def test_errors_of_the_threads_are_raised_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 5)
    source = many(tmp_path / "in.jsonl")
    with source.open("a") as file:
        file.write("no json\n")
    with pytest.raises(DataError, match=r"in.jsonl, line 26: not JSON"):
        predict(Hesitant(), source, tmp_path / "out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"] and background() == []


def test_what_cannot_be_written_of_a_pipe_is_named_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piped: int
) -> None:
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 5)
    os.write(piped, many(tmp_path / "in.jsonl").read_bytes() + b'{"text": "text 25", "other": 1}\n')
    os.close(piped)
    with pytest.raises(
        DataError, match=r"standard input, line 26 cannot be written as csv: the key 'other' is not among"
    ):
        predict_standard_input(Hesitant(), tmp_path / "out.csv", "jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"] and background() == []


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A pipe as standard input: the end to write to."""
    read_end, write_end = os.pipe()
    with open(read_end, encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        yield write_end


def predict_standard_input(parrot: Parrot, target: Path, format_: Any = "text") -> int:
    return predict_file(
        cast(Predictor, parrot),
        source="-",
        source_options=StreamOptions(format=format_),
        target=str(target),
        target_options=StreamOptions(format=stream_format(str(target), None)),
        columns=Columns(),
        tracker=Listener(),
    )


def test_a_short_pipe_is_predicted_when_it_ends(tmp_path: Path, piped: int) -> None:
    os.write(piped, b"text 1\ntext 2\nte")
    os.write(piped, b"xt 3")
    os.close(piped)
    assert predict_standard_input(Hesitant(), tmp_path / "out.jsonl") == 3
    assert [row["text"] for row in read(tmp_path / "out.jsonl")] == ["text 1", "text 2", "text 3"]


def test_a_pipe_that_must_not_be_waited_for_is_waited_for(tmp_path: Path, piped: int) -> None:
    """Whoever made it may have said so; no byte there yet is not its end."""
    os.set_blocking(sys.stdin.fileno(), False)
    threading.Timer(0.1, lambda: (os.write(piped, b"text 1\n"), os.close(piped))).start()
    assert predict_standard_input(Hesitant(), tmp_path / "out.jsonl") == 1


def test_an_open_pipe_can_be_interrupted(tmp_path: Path, piped: int) -> None:
    os.write(piped, b"text 1\n")
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        predict_standard_input(Hesitant(), tmp_path / "out.jsonl")
    assert list(tmp_path.iterdir()) == []
    os.close(piped)  # the thread sees the end of its input
    wait_until(lambda: background() == [])


# --- a saved model ---------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(trained: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0].run / "best", tmp_path / "saved"))


def change_card(folder: Path, **changes: Any) -> None:
    path = folder / "textune.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_precision_of_the_run_comes_back(
    saved: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change_card(saved, precision="fp16")
    assert textune.load(saved, device="cpu").device.precision == "fp16"
    change_card(saved, precision="bf16")
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    monkeypatch.setattr(processor, "prefers_bf16", lambda: True)
    assert textune.load(saved, device="cpu").device.precision == "bf16"
    monkeypatch.setattr(processor, "prefers_bf16", lambda: False)
    assert textune.load(saved, device="cpu").device.precision == "fp32"
    assert "the run computed in bf16, which this cpu device computes slower: fp32 is used" in caplog.text
    assert textune.load(saved, device="cpu", precision="bf16").device.precision == "bf16"
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    assert textune.load(saved, device="cpu").device.precision == "fp32"
    assert "the run computed in bf16, which this cpu device lacks: fp32 is used instead" in caplog.text
    said: list[str] = []
    assert load(saved, device="cpu", on_notice=said.append).scorer.device.precision == "fp32" and len(said) == 1
    with refused(ModelError, key="precision", value="bf16"):
        textune.load(saved, device="cpu", precision="bf16")
    with refused(ModelError, key="train.precision", value="bf16"):
        device_module.resolve_device("cpu", "bf16", section="train")


@pytest.mark.parity("quantisation")
def test_int8_is_near_fp32_in_every_verb(
    trained: Any, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := why_no_kernels():
        pytest.skip(reason)
    texts = [row["text"] for row in reviews(60, seed=5)]
    exact = textune.load(trained[0].run, device="cpu", precision="fp32").score(texts)
    predictor = load(trained[0].run, precision="int8")
    scorer = predictor.scorer
    assert str(scorer.device).endswith("fp32") and not scorer.model.hf.bert.encoder.layer[0].output.dense.weight
    scores = predictor.score(texts)
    assert 0 < np.abs(scores - exact).max() < 0.05
    assert np.abs(predictor.score(texts[:1]) - scores[:1]).max() < 1e-3  # whatever else is in the batch
    with pytest.raises(ModelError, match="cannot be saved"):
        scorer.save(tmp_path)

    report = textune.evaluate(trained[0].run, precision="int8")
    assert report.value == pytest.approx(textune.evaluate(trained[0].run, precision="fp32").value, abs=0.05)
    (tmp_path / "in.txt").write_text("\n".join(texts))
    words = [
        "predict",
        trained[0].run,
        "--input",
        tmp_path / "in.txt",
        "--output",
        tmp_path / "out.jsonl",
        "--precision",
        "int8",
    ]
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in [*words, "--all-scores"]])
    assert caught.value.code == 0, capsys.readouterr().err
    written = np.array([row["score_pos"] for row in read(tmp_path / "out.jsonl")])
    np.testing.assert_allclose(written, scores[:, 1], atol=1e-5)
    with refused(ModelError, key="device", value="cuda"):
        textune.load(trained[0].run, device="cuda", precision="int8")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_never_become_an_answer(
    saved: Path, home: Path, tmp_path: Path, value: float
) -> None:
    path = saved / "model.safetensors"
    tensors = load_file(path)
    tensors["classifier.weight"] = torch.full_like(tensors["classifier.weight"], value)
    save_file(tensors, path, metadata={"format": "pt"})
    reason = "the model's scores are not numbers"
    with pytest.raises(ModelError, match=reason):
        textune.load(saved).predict(["a film"])
    with pytest.raises(ModelError, match=reason):
        textune.evaluate(saved, data=FilesSource(files=(str(home / "reviews.csv"),)))
    with pytest.raises(ModelError, match=reason):
        predict(load(saved), home / "reviews.csv", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_a_row_without_a_score_is_named_by_its_place_in_the_file(
    saved: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is not in the first window, and for a file that is evaluated."""
    tokenizer, path = load(saved).encoder, saved / "model.safetensors"
    usual, odd = (set(tokenizer.encode([text]).ids.tolist()) for text in ("a film", "terrible"))
    assert odd - usual
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[name][sorted(odd - usual)] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    texts = ["a film"] * 9 + ["terrible"]
    (tmp_path / "in.csv").write_text("text,label\n" + "".join(f"{text},pos\n" for text in texts))
    monkeypatch.setattr("textune.prediction.windows.WINDOW_ROWS", 4)
    with pytest.raises(ModelError, match=r"the first of them .*in\.csv, line 11"):
        predict(load(saved), tmp_path / "in.csv", tmp_path / "out.jsonl")
    with pytest.raises(ModelError, match=r"the first of them .*in\.csv, line 11"):
        textune.evaluate(saved, data=FilesSource(files=(str(tmp_path / "in.csv"),)))


def test_a_device_that_is_not_there_is_named_as_the_option(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with refused(ModelError, key="device", value="cuda"):
        textune.load(saved, device="cuda")


def test_the_bound_of_the_run_comes_back(saved: Path) -> None:
    card = json.loads((saved / "textune.json").read_text())
    for key in ("max_tokens", "metric"):
        card.pop(key, None)
    (saved / "textune.json").write_text(json.dumps(card))
    assert load(saved).scorer.max_tokens == 16384  # a card of an earlier version
    change_card(saved, max_tokens=100, metric="f1")
    loaded = load(saved)
    assert (loaded.scorer.max_tokens, loaded.card.metric) == (100, "f1")
    assert load(saved, max_tokens=50).scorer.max_tokens == 50


def test_a_damaged_card_names_the_key(saved: Path) -> None:
    change_card(saved, max_length="many")
    with refused(RunError, key="max_length", place="textune.json", reason="valid integer"):
        textune.load(saved)
    change_card(saved, max_length=0)
    with refused(RunError, key="max_length", place="textune.json", reason="greater than or equal to 2"):
        textune.load(saved)
    change_card(saved, max_length=24, columns={"text": 3})
    with refused(RunError, key="columns.text", place="textune.json"):
        textune.load(saved)
    (saved / "textune.json").write_text("{")
    with refused(RunError, place="textune.json", reason="Expecting property name"):
        textune.load(saved)


def test_windows_shrink_where_labels_are_many() -> None:
    rows = [(number, {"text": "ab"}) for number in range(10)]
    table = Window(range(10), pa.table({"text": ["ab"] * 10}))
    for max_rows, max_characters, sizes in [
        (4, 99, [4, 4, 2]),
        (1, 99, [1] * 10),
        (9, 6, [3, 3, 3, 1]),
        (9, 1, [1] * 10),
    ]:
        for opened in (OpenRows(iter(rows)), OpenRows(iter([table]), is_table=True)):
            windows = list(opened.windows(["text"], max_rows=max_rows, max_characters=max_characters))
            assert [len(window.numbers) for window in windows] == sizes
            assert [number for window in windows for number in window.numbers] == list(range(10))
