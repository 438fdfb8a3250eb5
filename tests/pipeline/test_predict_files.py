"""Files predicted by several processes: the output of one, each row once, whatever dies on the way."""

from __future__ import annotations

import errno
import importlib
import json
import multiprocessing
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from kits.cli import runner
from kits.crews import (
    ROWS,
    Command,
    Killing,
    Stopping,
    dies_at_the_second,
    here,
    one_process,
    processes_in,
    small_shards,
)
from kits.patience import wait_until
from kits.predictions import read
from kits.runs import Listener, reviews, write_csv

import textune
from textune.config import Columns
from textune.crew import Crew
from textune.data import RowWriter, stream_options
from textune.errors import DataError, RunError, TextuneError
from textune.pipeline.sharded import worker
from textune.pipeline.sharded.output import shard_names
from textune.pipeline.sharded.plan import read_plan
from textune.pipeline.sharded.rayengine import ShardActor
from textune.pipeline.sharded.settings import Opening, Settings
from textune.pipeline.sharded.worker import Outcome, Seat, answer, seats
from textune.prediction import read_as_run

__all__ = ["one_process", "small_shards"]
Task, Reply = TypeVar("Task"), TypeVar("Reply")
VERB = importlib.import_module("textune.pipeline.predict_files")
NUM_ROWS = 5 * ROWS + 3


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(capsys, monkeypatch, tmp_path)


@pytest.fixture
def model(trained: Any) -> Path:
    return Path(trained[0].run)


def rows_of(num: int, *, seed: int = 3) -> list[dict[str, Any]]:
    """Rows with other columns of several kinds, which come out as they are."""
    draw = Random(seed)
    texts = [row["text"] for row in reviews(num)]
    return [
        {"id": number, "text": text, "n": draw.choice([None, 1, 2.5]), "tags": ["a", None] * draw.randrange(2)}
        for number, text in enumerate(texts)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        table = pa.table(columns | {"kind": pa.array(["x", "y"] * len(rows)).slice(0, len(rows)).dictionary_encode()})
        pq.write_table(table, path, row_group_size=40)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        write_csv(path, [{"id": row["id"], "text": f'{row["text"]}, "so"\nhe said'} for row in rows])
    return path


def error_of(kind: type[TextuneError], work: Callable[[], object]) -> TextuneError:
    with pytest.raises(kind) as caught:
        work()
    return caught.value


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the output of one process ---------------------------------------------------------------------------------------


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("source", "target", "workers"),
    [
        ("in.csv", "out.csv", 2),
        ("in.jsonl", "out.jsonl", 1),
        ("in.jsonl", "out.jsonl.gz", 2),
        ("in.jsonl", "out.parquet", 2),
        ("in.parquet", "out.parquet", 4),
        ("in.parquet", "out.jsonl.zst", 3),
        ("in.parquet", "out.tsv", 2),
    ],
)
def test_the_output_is_that_of_one_process_byte_for_byte(
    call: Any, model: Path, tmp_path: Path, small_shards: None, source: str, target: str, workers: int
) -> None:
    write(tmp_path / source, rows_of(NUM_ROWS))
    words = ("predict", model, "--data", source, "--all-scores", "--output")
    assert call(*words, f"one-{target}").code == 0
    answer = call(*words, target, "--workers", workers, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["shards"] >= NUM_ROWS / ROWS and (told["rows"], told["kept"], told["skipped"]) == (NUM_ROWS, 0, 0)
    assert (tmp_path / target).read_bytes() == (tmp_path / f"one-{target}").read_bytes()
    assert names(tmp_path) == sorted([source, target, f"one-{target}"])


def test_several_files_and_a_folder_of_files_in_their_order(model: Path, tmp_path: Path, one_process: None) -> None:
    rows = rows_of(60)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "b.jsonl", rows[20:])
    write(tmp_path / "in" / "a.jsonl", rows[:20])
    write(tmp_path / "c.jsonl", rows[:5])
    listener = Listener()
    sources = [tmp_path / "in", tmp_path / "c.jsonl"]
    result = textune.predict_files(model, sources, tmp_path / "out.jsonl", tracker=listener)
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == [*range(60), *range(5)]
    assert (result.rows, result.outputs, result.shards) == (65, [tmp_path / "out.jsonl"], 2 + 3 + 1)
    assert listener.notices[0] == "6 shards of 65 rows, none of them done"
    expected = textune.load(model).predict([row["text"] for row in rows[:5]])
    assert [row["predicted_label"] for row in read(tmp_path / "out.jsonl")[60:]] == [one.label for one in expected]


def test_a_folder_of_outputs_says_its_order_and_that_it_is_complete(
    call: Any, model: Path, tmp_path: Path, one_process: None
) -> None:
    write(tmp_path / "in.csv", rows_of(NUM_ROWS))
    assert call("predict", model, "--data", "in.csv", "--output", "one.csv").code == 0
    words = ("predict", model, "--data", "in.csv", "--output", "out/")
    assert call(*words).code == 0
    listed = json.loads((tmp_path / "out" / "shards.json").read_text())
    files = [shard["file"] for shard in listed["shards"]]
    assert files == [f"{number:05d}.csv" for number in range(6)]
    assert "in its order" in listed["order"] and names(tmp_path / "out") == sorted([*files, "shards.json"])
    pieces = [(tmp_path / "out" / file).read_text() for file in files]
    header = "id,text,predicted_label,predicted_score\n"
    assert all(piece.startswith(header) for piece in pieces)
    assert header + "".join(piece.removeprefix(header) for piece in pieces) == (tmp_path / "one.csv").read_text()
    again = call(*words)
    assert again.code == 0 and "complete already: nothing is left to do" in again.err
    other = call(*words, "--all-scores")
    assert other.code == 2 and "holds files" in other.err
    assert call(*words, "--all-scores", "--force").code == 0
    assert "score_neg" in (tmp_path / "out" / "00003.csv").read_text()
    assert names(tmp_path) == ["in.csv", "one.csv", "out"]


def test_a_complete_folder_of_rows_that_have_changed_is_no_answer_to_the_same_command(
    call: Any, model: Path, tmp_path: Path, one_process: None
) -> None:
    source = write(tmp_path / "in.jsonl", rows_of(NUM_ROWS))
    words = ("predict", model, "--data", "in.jsonl", "--output", "out/", "--json")
    first = json.loads(call(*words).out)
    os.utime(source)  # touched, but the same: its rows are read again
    again = call(*words)
    assert "complete already" in again.err and json.loads(again.out) == first | {"kept": 6}
    rows = rows_of(NUM_ROWS)
    rows[50]["n"] = 7
    write(source, rows)
    stale = call(*words)
    assert stale.code == 2 and "the rows of the input have changed since" in stale.err and "--force" in stale.err
    assert read(tmp_path / "out" / "00003.jsonl")[2]["n"] != 7
    assert call(*words, "--force").code == 0
    assert read(tmp_path / "out" / "00003.jsonl")[2]["n"] == 7
    (tmp_path / "out" / "00001.jsonl").unlink()
    lacking = call(*words)
    assert lacking.code == 2 and "holds files" in lacking.err
    assert json.loads(call(*words, "--force").out) == first


def test_a_folder_is_replaced_only_where_predict_has_written_all_of_it(
    call: Any, model: Path, tmp_path: Path, one_process: None
) -> None:
    write(tmp_path / "in.jsonl", rows_of(20))
    words = ("predict", model, "--data", "in.jsonl", "--output", "out/", "--force")
    assert call(*words).code == 0
    (tmp_path / "out" / "notes.txt").write_text("mine")
    answer = call(*words)
    assert answer.code == 2 and "holds notes.txt, which `predict` has not written" in answer.err
    (tmp_path / "out" / "notes.txt").unlink()
    inside = call("predict", model, "--data", "out/", "--output", "out/", "--force")
    assert inside.code == 2 and "out: it holds the input" in inside.err
    assert names(tmp_path / "out") == ["00000.jsonl", "00001.jsonl", "shards.json"]


def test_the_names_of_shards_are_in_their_order() -> None:
    assert shard_names(3, "csv") == ["00000.csv", "00001.csv", "00002.csv"]
    many = shard_names(100_001, "csv")
    assert many == sorted(many) and len(set(many)) == 100_001


def test_rows_that_cannot_be_used_are_named_or_left_out_and_counted(
    call: Any, model: Path, tmp_path: Path, one_process: None
) -> None:
    lines = [json.dumps(row) for row in rows_of(NUM_ROWS)]
    lines[40], lines[70] = "{broken", '{"text": 5}'
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ("predict", model, "--data", "in.jsonl", "--output")
    refused_one = call(*words, "out.jsonl", "--workers", 2)
    assert refused_one.code == 2 and "in.jsonl, line 41: not JSON" in refused_one.err
    assert names(tmp_path) == ["in.jsonl"]
    one = call(*words, "one.jsonl", "--skip-bad-rows")
    two = call(*words, "out.jsonl", "--skip-bad-rows", "--workers", 2)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    [said] = [line for line in one.err.splitlines() if "left out" in line]
    assert said in two.err.splitlines() and "in.jsonl, line 41" in said


# --- whatever dies on the way ----------------------------------------------------------------------------------------


def test_twenty_workers_killed_at_random_moments_cost_no_row(
    model: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(60 * ROWS)
    source = write(tmp_path / "in.jsonl", rows)
    textune.predict_files(model, source, tmp_path / "expected.jsonl")
    monkeypatch.setattr(worker, "TRIES", 100)
    monkeypatch.setattr(worker, "Crew", Killing)
    monkeypatch.setattr(Killing, "left", 20)
    listener = Listener()
    for attempt in range(20):  # until all are killed
        target = tmp_path / f"out-{attempt}.jsonl"
        textune.predict_files(model, source, target, workers=2, tracker=listener)
        assert target.read_bytes() == (tmp_path / "expected.jsonl").read_bytes()
        if not Killing.left:
            break
    assert Killing.left == 0
    assert sum("SIGKILL: the shard is predicted again" in notice for notice in listener.notices) > 5
    assert [row["id"] for row in read(target)] == list(range(len(rows)))


def kill_until_it_is_done(folder: Path, model: Path, num_kills: int, num_rows: int) -> int:
    """Start the same command again and again, each time killed at a random moment; returns how many were killed."""
    draw = Random(11)
    words = (str(model), "--data", "in.jsonl", "--workers", "2", "--output")
    seconds = 2.0
    for kill in range(num_kills):
        command = Command(folder, *words, "out.jsonl", rows=num_rows)
        while not kill and not (folder / "out.jsonl.parts").exists() and command.wait(0.01) is None:
            seconds = 0.2  # the first kill comes when there is something to be killed, however fast the machine
        if (code := command.wait(draw.uniform(0.1, 1.0) * seconds)) is not None:
            assert code == 0, (folder / "err").read_text()
            return kill
        command.kill()
        wait_until(lambda: not processes_in(folder))  # no worker outlives the command
        assert (folder / "out.jsonl.parts").exists() or not (folder / "out.jsonl").exists()
    assert Command(folder, *words, "out.jsonl", rows=num_rows).wait() == 0, (folder / "err").read_text()
    return num_kills


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_command_killed_at_random_moments_goes_on_and_leaves_no_process(
    model: Path, tmp_path: Path, small_shards: None
) -> None:
    rows = rows_of(40 * ROWS)
    source = write(tmp_path / "in.jsonl", rows)
    textune.predict_files(model, source, tmp_path / "expected.jsonl")
    assert kill_until_it_is_done(tmp_path, model, 4, ROWS) > 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()
    assert names(tmp_path) == ["err", "expected.jsonl", "in.jsonl", "out", "out.jsonl"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_two_hundred_commands_killed_at_random_moments(model: Path, tmp_path: Path, small_shards: None) -> None:
    rows = rows_of(400 * ROWS)
    source = write(tmp_path / "in.jsonl", rows)
    textune.predict_files(model, source, tmp_path / "expected.jsonl")
    killed = 0
    while killed < 200:
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        killed += max(1, kill_until_it_is_done(tmp_path, model, 200 - killed, ROWS))
        assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_a_shard_that_ends_its_process_three_times_ends_the_command(
    call: Any, model: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in.jsonl", rows_of(NUM_ROWS))
    monkeypatch.setattr(worker, "work", dies_at_the_second)
    answer = call("predict", model, "--data", "in.jsonl", "--output", "out.jsonl", "--workers", 2)
    assert answer.code == 2
    assert answer.err.count("the shard is predicted again") == 2
    assert "shard 2 of 6 (" in answer.err and "in.jsonl, lines 17 to 32) was ended by SIGKILL, 3 times" in answer.err
    assert "fewer --workers" in answer.err
    assert names(tmp_path) == ["in.jsonl"]


def raises(connection: Any, *_: Any) -> None:
    """A worker in which textune has a fault."""
    while True:
        connection.recv()
        connection.send(Outcome(None, ZeroDivisionError("a fault")))


def test_a_fault_in_a_worker_is_told_at_once_as_what_it_is(
    call: Any, model: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in.jsonl", rows_of(NUM_ROWS))
    monkeypatch.setattr(worker, "work", raises)
    answer = call("predict", model, "--data", "in.jsonl", "--output", "out.jsonl", "--workers", 2)
    assert answer.code == 1 and "internal error in textune: ZeroDivisionError: a fault" in answer.err
    assert "predicted again" not in answer.err and "memory" not in answer.err
    assert names(tmp_path) == ["in.jsonl"]


def starts_the_script_anew(*_: Any) -> None:
    """A worker of a script that calls `predict_files` where it stands."""
    multiprocessing.current_process().name = "textune-predict"
    textune.predict_files("no model", "in.jsonl", "out.jsonl")


def test_a_script_that_calls_it_where_it_stands_is_told_where_to(
    model: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.jsonl", rows_of(20))
    monkeypatch.setattr(worker, "work", starts_the_script_anew)
    error = error_of(RunError, lambda: textune.predict_files(model, source, tmp_path / "out.jsonl", workers=2))
    assert "starts the script anew" in error.message and '`if __name__ == "__main__":`' in error.hint
    assert names(tmp_path) == ["in.jsonl"]


def test_a_fault_names_its_place_and_too_little_memory_is_none() -> None:
    def fail(error: Exception) -> Outcome:
        def predict(rows: Any) -> Any:
            raise error

        rows: Any = None
        return answer(SimpleNamespace(predict=predict), rows, pytest.fail)  # type: ignore[arg-type]

    outcome = pickle.loads(pickle.dumps(fail(ZeroDivisionError("a fault"))))
    assert isinstance(outcome.error, ZeroDivisionError) and "in predict" in outcome.error.__notes__[0]
    with pytest.raises(MemoryError):
        fail(torch.OutOfMemoryError("CUDA out of memory"))


class Noting(Crew[Task, Reply]):
    """A crew that can be asked what became of its processes."""

    crews: ClassVar[list[Noting[Any, Any]]] = []

    def __enter__(self) -> Self:
        self.crews.append(self)
        return super().__enter__()

    def running(self) -> int:
        return sum(one.process.is_alive() for one in self._workers)


def test_no_worker_outlives_a_call_that_is_stopped_between_two_shards(
    model: Path, tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in.jsonl", rows_of(NUM_ROWS))
    monkeypatch.setattr(worker, "Crew", Noting)
    monkeypatch.setattr(Noting, "crews", [])
    with pytest.raises(KeyboardInterrupt):  # whose traceback is kept: nothing is left to the garbage collector
        textune.predict_files(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", workers=2, tracker=Stopping(1))
    [crew] = Noting.crews
    assert crew.pids and crew.running() == 0


def test_a_worker_without_memory_ends_so_that_its_shard_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(worker, "answer", no_memory)
    monkeypatch.setattr(worker, "opened", lambda *_: None)
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")  # which a worker sets for itself
    rows: Any = SimpleNamespace(number=4)
    at = [-1, -1]
    before = torch.get_num_threads()
    with pytest.raises(SystemExit) as ended:
        worker.work(SimpleNamespace(recv=lambda: rows), at, Seat(before), None, None, None)  # type: ignore[arg-type]
    assert ended.value.code == 1 and at[0] == 4


# --- the same command again ------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(model: Path, tmp_path: Path, one_process: None) -> Callable[..., Any]:
    """Two of six shards are done; a function that gives the same command again, with changes."""
    source = write(tmp_path / "in.jsonl", rows_of(NUM_ROWS))
    textune.predict_files(model, source, tmp_path / "expected.jsonl")
    with pytest.raises(KeyboardInterrupt):
        textune.predict_files(model, source, tmp_path / "out.jsonl", tracker=Stopping(2))
    assert not (tmp_path / "out.jsonl").exists()

    def again(model: Path = model, **changes: Any) -> Any:
        listener = Listener()
        return textune.predict_files(model, source, tmp_path / "out.jsonl", tracker=listener, **changes), listener

    return again


def test_the_same_command_does_only_what_is_left(stopped: Any, tmp_path: Path) -> None:
    parts = next(path for path in (tmp_path / "out.jsonl.parts").iterdir() if path.is_dir())
    before = {path.name: path.stat().st_ino for path in parts.iterdir()}
    assert set(before) == {"00000.json", "00000.part", "00001.json", "00001.part"}
    os.utime(tmp_path / "in.jsonl")  # touched, but the same: its rows are read again
    result, listener = stopped(max_tokens=64, device="cpu")  # which decides nothing but the speed
    assert listener.notices[0] == f"6 shards of {NUM_ROWS} rows, 2 of them done already, 4 left"
    assert (result.kept, result.rows) == (2, NUM_ROWS)
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == list(range(NUM_ROWS))
    assert names(tmp_path) == ["expected.jsonl", "in.jsonl", "out.jsonl"]


def test_a_finished_output_is_not_predicted_again(stopped: Any, tmp_path: Path) -> None:
    stopped()
    error = error_of(DataError, lambda: stopped())
    assert "already exists" in error.message


def test_an_output_that_was_there_before_its_parts_were_removed_is_finished(
    stopped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(VERB._Prediction, "_remove_parts", lambda self: None)
        stopped()
    assert (tmp_path / "out.jsonl.parts").exists()
    result, _ = stopped()
    assert result.kept == 6 and not (tmp_path / "out.jsonl.parts").exists()
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_an_output_that_somebody_else_wrote_meanwhile_is_kept(stopped: Any, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    assert "already exists" in error_of(DataError, lambda: stopped()).message
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    assert stopped(force=True)[0].kept == 2
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_what_a_process_left_that_was_killed_as_it_removed_the_parts_is_removed(
    stopped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("textune.partfiles.PartFiles.remove", lambda self: None)
        patched.setattr(VERB._Prediction, "_remove_parts", lambda self: self._manifest.unlink())
        stopped()
    assert (tmp_path / "out.jsonl.parts").exists()
    assert "already exists" in error_of(DataError, lambda: stopped()).message
    assert names(tmp_path) == ["expected.jsonl", "in.jsonl", "out.jsonl"]


def test_a_command_that_was_killed_as_it_removed_the_parts_succeeds_the_next_time(
    stopped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("textune.partfiles.PartFiles.remove", lambda self: None)  # the last step
        stopped()
    assert names(tmp_path / "out.jsonl.parts") == ["finished", "lock"]
    stopped()
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()
    assert names(tmp_path) == ["expected.jsonl", "in.jsonl", "out.jsonl"]


def parts_of(folder: Path) -> Path:
    return next(path for path in (folder / "out.jsonl.parts").iterdir() if path.is_dir())


def shorten(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-7])


def empty_the_facts(part: Path) -> None:
    part.with_suffix(".json").write_bytes(b"")


def take_another_shard(part: Path) -> None:
    for ending in (".part", ".json"):
        shutil.copy(part.with_name(f"00000{ending}"), part.with_suffix(ending))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("damage", [shorten, empty_the_facts, take_another_shard, Path.unlink])
def test_a_part_that_is_torn_or_of_other_rows_is_predicted_again(
    stopped: Any, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(parts_of(tmp_path) / "00001.part")
    result, _ = stopped()
    assert result.kept == 1
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_the_output_is_written_among_the_parts_until_it_is_complete(
    stopped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a command that is killed as it writes leaves nothing beside them, which nobody would remove."""
    parts, seen = parts_of(tmp_path), list[list[str]]()

    class Looking(RowWriter):
        def write(self, formatted: Any) -> None:
            super().write(formatted)
            seen.append([*names(tmp_path), *(path.name for path in parts.glob(".*.writing"))])

    monkeypatch.setattr("textune.pipeline.sharded.output.RowWriter", Looking)
    stopped()
    assert seen and all(found[:-1] == ["expected.jsonl", "in.jsonl", "out.jsonl.parts"] for found in seen)


def test_a_file_with_its_old_size_and_date_is_read_again(model: Path, tmp_path: Path, one_process: None) -> None:
    rows = rows_of(NUM_ROWS)
    one, two = write(tmp_path / "a.jsonl", rows[: 2 * ROWS]), write(tmp_path / "b.jsonl", rows[2 * ROWS :])
    with pytest.raises(KeyboardInterrupt):
        textune.predict_files(model, [one, two], tmp_path / "out.jsonl", tracker=Stopping(2))
    before = one.stat()
    one.write_text(one.read_text().replace('"id": 20,', '"id": 99,'))
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert one.stat().st_size == before.st_size
    error = error_of(RunError, lambda: textune.predict_files(model, [one, two], tmp_path / "out.jsonl"))
    assert "a.jsonl, lines 17 to 32: these rows have changed" in error.message
    assert textune.predict_files(model, [one, two], tmp_path / "out.jsonl", force=True).kept == 0
    assert read(tmp_path / "out.jsonl")[20]["id"] == 99


def test_a_device_that_computes_in_another_precision_does_not_continue(
    stopped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("textune.pipeline.sharded.settings.precision_of", lambda *_: "bf16")
        error = error_of(RunError, lambda: stopped())
    assert "it differs in the precision (--precision, --device)." in error.message
    assert stopped(precision="fp32")[0].kept == 2  # which is what this device gives


def test_a_shard_that_has_changed_is_refused(stopped: Any, tmp_path: Path) -> None:
    lines = (tmp_path / "in.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "in.jsonl").write_text("".join([*lines[:20], lines[20].replace("id", "ID"), *lines[21:]]))
    error = error_of(RunError, lambda: stopped())
    assert "in.jsonl, lines 17 to 32: these rows have changed since the first start" in error.message
    assert "the 2 of 6 shards that are done" in error.message and "--force" in error.hint
    (tmp_path / "in.jsonl").write_text("".join(lines[:-10]))
    assert "lines 65 to 80" in error_of(RunError, lambda: stopped()).message
    (tmp_path / "in.jsonl").write_text("".join(lines))
    stopped()
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_a_file_that_changes_while_it_is_predicted_is_refused(
    stopped: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (tmp_path / "in.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "in.jsonl").write_text("".join([*lines[:70], lines[70].replace("id", "ID"), *lines[71:]]))
    # As if nobody had touched it when the command started.
    monkeypatch.setattr(VERB, "states_of", lambda settings: VERB.read_plan(_manifest(tmp_path))[0].files)
    assert "lines 65 to 80" in error_of(RunError, lambda: stopped()).message


def _manifest(folder: Path) -> Path:
    return folder / "out.jsonl.parts" / "manifest.json"


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"all_scores": True}, "--all-scores"),
        ({"decision": False, "on_bad_row": "skip"}, "--skip-bad-rows, --no-decision"),
        ({"precision": "bf16"}, "the precision (--precision, --device)"),
        ({"output_format": "csv"}, "the format of the output"),
    ],
    ids=["scores", "two", "precision", "format"],
)
def test_other_options_are_refused(stopped: Any, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    error = error_of(RunError, lambda: stopped(**changes))
    assert f"it differs in {said}." in error.message and "--force" in error.hint
    assert stopped()[0].kept == 2


def test_another_model_is_refused_and_force_starts_again(stopped: Any, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model / "best", tmp_path / "other")
    card = json.loads((tmp_path / "other" / "textune.json").read_text())
    (tmp_path / "other" / "textune.json").write_text(json.dumps(card | {"step": 1}))
    error = error_of(RunError, lambda: stopped(tmp_path / "other"))
    assert "it differs in the model." in error.message
    result, listener = stopped(tmp_path / "other", force=True)
    assert result.kept == 0 and "none of them done" in listener.notices[0]


def test_a_manifest_that_is_damaged_is_refused(stopped: Any, tmp_path: Path) -> None:
    _manifest(tmp_path).write_text("{")
    error = error_of(RunError, lambda: stopped())
    assert "manifest.json cannot be read" in error.message
    assert stopped(force=True)[0].kept == 0


# --- what cannot be written or read ----------------------------------------------------------------------------------


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_and_what_is_done_is_kept(
    model: Path, tmp_path: Path, one_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "in.jsonl", rows_of(NUM_ROWS)), tmp_path / "out.jsonl"
    real = worker.write_part
    with monkeypatch.context() as patched:
        patched.setattr(
            worker, "write_part", lambda path, *rest: (full if "00003" in path.name else real)(path, *rest)
        )
        error = error_of(RunError, lambda: textune.predict_files(model, source, target))
        assert "00003.part cannot be written: No space left on device" in error.message
        assert "what is done is kept" in error.hint
    with monkeypatch.context() as patched:
        patched.setattr(RowWriter, "write", full)
        told = error_of(DataError, lambda: textune.predict_files(model, source, target))
        assert "out.jsonl: it cannot be written: No space left on device" in told.message
    assert names(tmp_path) == ["in.jsonl", "out.jsonl.parts"]
    assert textune.predict_files(model, source, target).kept == 6
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "2", "--output", "out.jsonl"], "standard input can be read only once"),
        (["--data", "in.jsonl", "--workers", "2"], "need --output"),
        (["--data", "in.jsonl", "--data", "in.csv", "--output", "out.jsonl"], "in.csv is csv, but"),
        (["--data", "in.jsonl", "--data", "in.jsonl", "--output", "out.jsonl"], "in.jsonl twice"),
        (["--data", "in.csv", "--data", "more.csv", "--output", "o.csv"], "has other columns than"),
        (["--data", "none", "--output", "out.jsonl"], "none is a folder without files"),
        (["--data", "*.nothing", "--output", "out.jsonl"], "No file matches"),
        (["--data", "in.jsonl", "--workers", "2", "--output", "in.jsonl"], "is the input itself"),
        (["--data", "in.jsonl", "--workers", "2", "--output", "no/such/out.jsonl"], "the folder .*/no/such does not"),
        (["--data", "in.jsonl", "--output", "out.jsonl", "--ray-address", "x"], "--ray-address is for --engine ray"),
        (["--data", "in.jsonl", "--workers", "0", "--output", "out.jsonl"], "0 is not in the range"),
        (["--data", "empty.jsonl", "--workers", "2", "--output", "out.jsonl"], "empty.jsonl is empty"),
    ],
    ids=lambda value: "" if isinstance(value, list) else value[:12],
)
def test_what_cannot_be_predicted_in_shards_is_refused(
    call: Any, model: Path, tmp_path: Path, one_process: None, words: list[str], said: str
) -> None:
    write(tmp_path / "in.jsonl", rows_of(20))
    write(tmp_path / "in.csv", rows_of(20))
    (tmp_path / "more.csv").write_text("text,other\na,b\n")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "none").mkdir()
    before = names(tmp_path)
    answer = call("predict", model, *words)
    assert answer.code == 2
    assert re.search(said, " ".join(answer.err.split())), answer.err
    assert names(tmp_path) == before


def test_a_launcher_and_standard_output_are_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "standard output" in error_of(DataError, lambda: textune.predict_files(model, "in.csv", "-")).message
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    error = error_of(RunError, lambda: textune.predict_files(model, "in.csv", tmp_path / "out.csv"))
    assert "by a launcher" in error.message


def test_workers_share_the_threads_and_take_the_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seats(3, cpu=False) == [Seat(2, "0"), Seat(2, "1"), Seat(2, "0")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert seats(8, cpu=False)[:3] == [Seat(1, "4"), Seat(1, "5"), Seat(1, "4")]
    assert seats(2, cpu=True) == [Seat(3), Seat(3)]


def test_ray_is_asked_for_where_it_is_not_installed(
    call: Any, model: Path, tmp_path: Path, one_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in.jsonl", rows_of(20))
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    answer = call("predict", model, "--data", "in.jsonl", "--output", "out.jsonl", "--engine", "ray")
    assert answer.code == 2 and 'pip install "textune[ray]"' in answer.err
    assert names(tmp_path) == ["in.jsonl"]


def test_an_actor_predicts_shards_in_any_order(
    model: Path, tmp_path: Path, one_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray calls it, which may ask for a shard again or leave some to others."""
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    source, target = write(tmp_path / "in.jsonl", rows_of(NUM_ROWS)), tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        textune.predict_files(model, source, target, tracker=Stopping(1))
    found = read_plan(_manifest(tmp_path))
    assert found is not None
    plan, _ = found
    files, _ = read_as_run({}, [source], {})
    reading, writing = stream_options(str(source), str(target), files, None)
    settings = Settings(Opening(str(model / "best")), (str(source),), reading, writing, Columns())
    actor = ShardActor(Seat(torch.get_num_threads()), settings, plan, frozenset(range(1, 6)))
    contents = {}
    for number in [2, 5, 1, 5, 3, 4]:
        answered = actor({"number": np.array([number])})
        outcome = pickle.loads(answered["outcome"][0])
        assert outcome.error is None and outcome.facts["rows"] == plan.shards[number].num_rows
        contents[number] = answered["content"][0]
    textune.predict_files(model, source, target)
    assert b"".join(contents[number] for number in range(1, 6)) == b"".join(
        target.read_bytes().splitlines(keepends=True)[ROWS:]
    )


@pytest.mark.slow
def test_ray_writes_what_one_process_writes_and_continues_what_processes_began(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With shards of the usual size: its processes know no other."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    monkeypatch.setattr(VERB, "by_processes", here)
    source = write(tmp_path / "in.jsonl", rows_of(3 * 8192))
    textune.predict_files(model, source, tmp_path / "expected.jsonl")
    with pytest.raises(KeyboardInterrupt):
        textune.predict_files(model, source, tmp_path / "out.jsonl", tracker=Stopping(1))
    words = [str(model), "--data", "in.jsonl", "--output", "out.jsonl", "--workers", "2", "--engine", "ray"]
    command = Command(tmp_path, *words, rows=8192)
    assert command.wait() == 0, (tmp_path / "err").read_text()
    said = (tmp_path / "err").read_text()
    assert "1 of them done already, 2 left" in said and "2 actors of Ray on this machine" in said
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()
    assert names(tmp_path) == ["err", "expected.jsonl", "in.jsonl", "out", "out.jsonl"]
