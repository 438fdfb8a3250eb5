"""From metrics.jsonl to a sink: each record once, whatever the file, the sink and the cursor have been through."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.errors import refused

from textune.config.tracking import PythonTrack
from textune.errors import RunError
from textune.run.folder import RunFolder
from textune.run.tracking import delivery
from textune.run.tracking.delivery import Delivery, Story
from textune.run.tracking.lines import JsonlTracker, cut_lines, read_lines
from textune.run.tracking.sender import Sender
from textune.run.tracking.sink import Ended, Opened, Record, TrackedRun
from textune.run.tracking.table import Target
from textune.run.use import Use


class Listed:
    """A sink that keeps lists."""

    def __init__(self) -> None:
        self.runs: list[TrackedRun] = []
        self.records: list[Record] = []
        self.kept: list[str] = []
        self.ended: list[str] = []
        self.name = "a"
        self.sent: Mapping[str, int] = {}
        self.fails_after: int | None = None
        """Takes so many of the next records, then fails."""

    def open(self, run: TrackedRun) -> Opened:
        self.runs.append(run)
        return Opened(self.name, self.sent)

    def send(self, records: Sequence[Record]) -> Sequence[str]:
        self.records += records[: self.fails_after]
        if self.fails_after is not None:
            raise ConnectionError("500")
        return ["odd" for record in records if record.kind == "step" and record.step % 2]

    def keep(self, name: str, path: Path) -> None:
        self.kept.append(name)

    def finish(self, ended: Ended) -> None:
        self.ended.append(ended.status)

    def close(self) -> None:
        pass

    def steps(self) -> list[tuple[str, int]]:
        return [(record.stream, record.step) for record in self.records if record.kind != "notice"]


def write(path: Path, *lines: Mapping[str, Any] | str) -> int:
    """Append lines; returns how long the file was before."""
    before = path.stat().st_size if path.exists() else 0
    with path.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return before


def step(number: int) -> dict[str, Any]:
    return {"kind": "step", "step": number, "loss": 1.0 / number, "time": 100.0 + number}


def evaluation(name: str, number: int) -> dict[str, Any]:
    return {"kind": "evaluation", "set": name, "step": number, "main": "f1", "is_best": False, "metrics": {"f1": 0.5}}


def notice(message: str) -> dict[str, Any]:
    return {"kind": "notice", "message": message}


def delivering(folder: Path, sink: Listed, place: str = "here", **how: Any) -> Delivery:
    target = Target("listed", place, sink, PythonTrack(object="m:C"))
    story = Story({"train": {"seed": 3}, "track": [{"options": {"password": "x"}}]}, {"steps": 9})
    return Delivery(target, RunFolder(folder), story, **how)


def send_all(one: Delivery) -> None:
    one.open()
    while one.send_next():
        pass


def test_what_is_done_again_after_a_resume_is_sent_once(tmp_path: Path) -> None:
    path, sink = tmp_path / "metrics.jsonl", Listed()
    write(path, notice("ä"), step(2), evaluation("validation", 2), evaluation("news", 2))
    cut = write(path, step(4), notice("later"), step(6), evaluation("validation", 6))
    send_all(delivering(tmp_path, sink))
    cut_lines(path, cut)
    again = (notice("ä"), step(4), notice("later"), notice("resumed"), step(6), evaluation("validation", 6))
    write(path, *again, evaluation("news", 6), step(8))
    send_all(delivering(tmp_path, sink))
    assert sink.steps() == [
        *(("step", 2), ("evaluation/validation", 2), ("evaluation/news", 2)),
        *(("step", 4), ("step", 6), ("evaluation/validation", 6), ("evaluation/news", 6), ("step", 8)),
    ]
    told = [(record.number, record.message, record.step) for record in sink.records if record.kind == "notice"]
    assert told == [(1, "ä", 0), (2, "later", 4), (3, "resumed", 6)]
    first, second = sink.runs
    assert (first.known, second.known) == ("", "a") and first.key == second.key
    assert first.parameters == {"train.seed": 3, "facts.steps": 9}


def test_a_sink_that_failed_in_the_middle_says_what_it_has(tmp_path: Path) -> None:
    path, sink = tmp_path / "metrics.jsonl", Listed()
    write(path, *(step(number) for number in range(2, 12, 2)))
    one, sink.fails_after = delivering(tmp_path, sink), 2
    one.open()
    with pytest.raises(ConnectionError):
        one.send_next()
    sink.fails_after, sink.sent = None, {"step": 4}
    send_all(one)
    assert [number for _, number in sink.steps()] == [2, 4, 6, 8, 10] and one.num_left() == 0


def test_a_sink_that_has_lost_its_run_gets_everything_again(tmp_path: Path) -> None:
    path, sink = tmp_path / "metrics.jsonl", Listed()
    write(path, notice("so"), step(2), step(4))
    send_all(delivering(tmp_path, sink))
    sink.name = "b"
    send_all(delivering(tmp_path, sink))
    assert [number for _, number in sink.steps()] == [2, 4, 2, 4]
    assert [record.number for record in sink.records if record.kind == "notice"] == [1, 1]


def test_lines_that_are_no_records_are_passed_over_and_half_a_line_waits(tmp_path: Path) -> None:
    path, sink = tmp_path / "metrics.jsonl", Listed()
    write(path, step(2), "{", "[]", '{"kind": "later version"}', '{"kind": "step"}', "\0", step(3))
    with path.open("a") as file:
        file.write(json.dumps(step(4))[:9])
    one = delivering(tmp_path, sink)
    send_all(one)
    assert [number for _, number in sink.steps()] == [2, 3]
    assert one.cursor.left_out == 1 and one.reasons == ["odd"] and one.num_sent == 1
    with path.open("a") as file:
        file.write(json.dumps(step(4))[9:] + "\n")
    assert one.num_left() == 1
    assert one.send_next() and not one.send_next()
    assert [number for _, number in sink.steps()] == [2, 3, 4]


def test_lines_are_read_in_parts_and_however_long_they_are(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = [b"x" * length for length in (0, 1, 70_000, 3, 200_000, 65_535, 65_536, 9)]
    path.write_bytes(b"\n".join(lines) + b"\nhalf")
    for most in (1, 2, 3, 100):
        found, start = [], 0
        while True:
            some, start = read_lines(path, start, most)
            found += some
            if not some:
                break
            assert len(some) <= most
        assert found == lines and start == path.stat().st_size - 4


def test_files_are_kept_once_and_a_fault_among_them_does_not_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, files = Listed(), {name: tmp_path / name for name in ("report.json", "best")}
    one = delivering(tmp_path, sink)
    send_all(one)
    with monkeypatch.context() as patch:
        patch.setattr(sink, "finish", lambda ended: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.finish(Ended("complete"), files)
    other = delivering(tmp_path, sink)
    other.open()
    other.finish(Ended("complete"), files)
    assert sink.kept == ["report.json", "best"] and sink.ended == ["complete"]
    assert delivering(tmp_path, sink).cursor.status == "complete"


def test_the_configuration_is_kept_without_the_trackers_and_their_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '# of x\n\n[train]\nseed = 1\n\n[[track]]\nuri = "http://me:pw@host"\n\n[[track]]\n{}\n[decide]\na = 1\n'
    (tmp_path / "config.toml").write_text(text.format('options.key = "pw"\n'))
    sink, seen = Listed(), []
    monkeypatch.setattr(sink, "keep", lambda name, path: seen.append((name, path.name, path.read_text())))
    one = delivering(tmp_path, sink)
    send_all(one)
    one.finish(Ended("complete"), {"config.toml": tmp_path / "config.toml"})
    assert seen == [("config.toml", "config.toml", "# of x\n\n[train]\nseed = 1\n\n[decide]\na = 1\n")]
    assert [path.name for path in (tmp_path / "tracking").iterdir()] == ["listed.json"]


def test_no_message_shows_the_password_of_an_address() -> None:
    error = ConnectionError("API request to https://me:s3c@ret@host:5000/api?a=b@c failed")
    assert delivery.trouble_of(error) == "ConnectionError: API request to https://host:5000/api?a=b@c failed"


def test_news_of_an_end_that_comes_while_a_sender_looks_is_not_lost(tmp_path: Path) -> None:
    """The end is said right when the thread has looked for it, before it waits."""
    sink = Listed()
    one = Sender(delivering(tmp_path, sink))
    clear = one._news.clear

    def ending_before() -> None:
        one.end(Ended("complete"), {})
        clear()

    one._news.clear = ending_before  # type: ignore[method-assign]
    one.start()
    assert one.wait(20) and sink.ended == ["complete"]


def test_a_cursor_that_cannot_be_written_does_not_double_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sink = tmp_path / "metrics.jsonl", Listed()
    write(path, step(2), step(4))
    one = delivering(tmp_path, sink)
    one.open()
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "write_cursor", lambda *_, **__: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
        with pytest.raises(OSError, match="space"):
            one.send_next()
    send_all(one)
    assert [number for _, number in sink.steps()] == [2, 4]


def test_two_that_send_a_run_to_one_place_at_once_are_kept_apart(tmp_path: Path) -> None:
    path, sink = tmp_path / "metrics.jsonl", Listed()
    write(path, step(2))
    hung, other = delivering(tmp_path, sink), delivering(tmp_path, sink)
    hung.open()
    other = delivering(tmp_path, sink)
    send_all(other)
    with refused(RunError, place="listed.json"):
        hung.send_next()


def test_places_have_cursors_of_their_own_under_any_order(tmp_path: Path) -> None:
    sinks = {place: Listed() for place in ("one", "two", "three")}
    for order in (("one", "two"), ("two", "three", "one"), ("three",)):
        made: list[Delivery] = []
        for place in order:
            made.append(delivering(tmp_path, sinks[place], place, others=made))
        for one in made:
            one.open()
    assert [len({run.key for run in sink.runs}) for sink in sinks.values()] == [1, 1, 1]
    assert sorted(path.name for path in (tmp_path / "tracking").iterdir()) == [
        *("listed-2.json", "listed-3.json", "listed.json"),
    ]


def test_a_checkpoint_says_how_far_a_tracker_was_where_its_cursor_is_lost(tmp_path: Path) -> None:
    path, sink = tmp_path / "metrics.jsonl", Listed()
    write(path, step(2), step(4))
    one = delivering(tmp_path, sink)
    send_all(one)
    (tmp_path / "tracking" / "listed.json").unlink()
    write(path, step(6))
    send_all(delivering(tmp_path, sink, kept=one.cursor.to_dict()))
    assert [number for _, number in sink.steps()] == [2, 4, 6] and sink.runs[1].known == "a"
    (tmp_path / "tracking" / "listed.json").unlink()
    with refused(RunError):
        delivering(tmp_path, sink, kept={"place": "here", "sent": 3})


def test_every_line_has_its_time_and_every_step_what_the_process_takes(tmp_path: Path) -> None:
    use = Use(torch.device("cpu")).since_last()
    if sys.platform == "linux":
        assert 1 << 24 < use["memory"] <= use["memory_peak"]
    assert use["cpu"] >= 0 and "gpu_memory" not in use
    with JsonlTracker(tmp_path / "metrics.jsonl") as lines:
        lines.notice("so")
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["time"] > 1.7e9
