"""Processes that tag parts: those that die or take too long, and pages that would fill the memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.webpages import pages, read_pages

from textune.crew import NOWHERE, ending
from textune.errors import RunError
from textune.metadata.taggers.crew import Crew
from textune.metadata.taggers.shards import Part
from textune.metadata.taggers.table import TagSettings
from textune.metadata.taggers.worker import Done, Task, Watch

pytest.importorskip("selectolax", reason="the extra `tag` is not installed")

NO_HTML = TagSettings(without=["html", "title"])


def part_of(rows: list[dict[str, Any]], target: Path) -> Task:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return Task(Part(0, 1, "jsonl", data), "pages.jsonl", target, "jsonl")


def tag_with(crew: Crew, task: Task) -> list[dict[str, Any]]:
    with crew:
        ((_, outcome),) = crew.run(iter([task]))
    assert isinstance(outcome, Done)
    return read_pages(task.target)


def slow_page() -> str:
    """Every `body` adds one to attributes that are searched one by one."""
    return "".join(f"<body a{number}=1>" for number in range(150_000))


def test_a_page_that_takes_too_long_is_an_error_of_that_page(tmp_path: Path) -> None:
    rows = pages(3)
    rows[1]["html"] = slow_page()
    settings = TagSettings(only=["html", "url"])
    found = tag_with(Crew(1, settings, seconds=0.5), part_of(rows, tmp_path / "00000.jsonl"))
    assert [row["html_error_comment"] for row in found] == ["", "it took more than 0.5 seconds", ""]
    assert [row["url_error"] for row in found] == [0, 0, 0]
    assert [row["id"] for row in found] == [0, 1, 2]


@pytest.mark.slow
def test_a_page_that_would_fill_the_memory_is_an_error_of_that_page(tmp_path: Path) -> None:
    """Each paragraph opens all elements again that were left open before it."""
    rows = pages(3)
    rows[1]["html"] = "".join(f"<p><b id={number}>x" for number in range(30_000))
    found = tag_with(Crew(1, TagSettings()), part_of(rows, tmp_path / "00000.jsonl"))
    assert [row["html_error"] for row in found] == [0, 1, 0]


def crew() -> Crew:
    return Crew(0, NO_HTML)


def test_a_row_is_left_alone_at_the_second_time_only(tmp_path: Path) -> None:
    task = part_of(pages(3), tmp_path / "00000.jsonl")
    with crew() as one:
        assert one.after_loss(task, (1, 0), -9) is task
        assert one.after_loss(task, (2, 0), -9) is task
        again = one.after_loss(task, (1, 0), -9)
        assert again.broken == {1: {"url": "the process that tagged it was ended by SIGKILL"}}
        assert one.after_loss(again, (1, 1), -11) is again
        last = one.after_loss(again, (1, 1), -11)
        assert last.broken[1].keys() == {"url", "timestamp"}


def test_a_process_that_dies_at_no_row_ends_the_command(tmp_path: Path) -> None:
    task = part_of(pages(3), tmp_path / "00000.jsonl")
    with crew() as one:
        assert one.after_loss(task, (NOWHERE, NOWHERE), 1) is task
        with pytest.raises(RunError) as caught:
            one.after_loss(task, (NOWHERE, NOWHERE), 1)
    assert caught.value.place == "pages.jsonl"
    assert "exit code 1" in caught.value.reason


def test_what_ended_a_process_in_words() -> None:
    assert [ending(code) for code in (3, -9, -11, -200)] == ["exit code 3", "SIGKILL", "SIGSEGV", "signal 200"]


def test_where_a_process_is() -> None:
    at = [NOWHERE, NOWHERE]
    watch = Watch(at, ["url", "title"])
    watch.row(7)
    watch.tagger("title")
    assert at == [7, 1]
    watch.rest()
    assert at == [NOWHERE, NOWHERE]


def test_no_task_is_lost_where_several_come(tmp_path: Path) -> None:
    def tasks() -> Iterator[Task]:
        for number in range(5):
            row = {"url": f"http://a.b/{number}", "text": "t"}
            data = (json.dumps(row) + "\n").encode()
            part = Part(number, number + 1, "jsonl", data)
            yield Task(part, "pages.jsonl", tmp_path / f"{number:05d}.jsonl", "jsonl")

    with Crew(2, NO_HTML) as two:
        done = sorted(task.part.number for task, _ in two.run(tasks()))
    assert done == [0, 1, 2, 3, 4]
    assert [read_pages(tmp_path / f"{number:05d}.jsonl")[0]["url"][-1] for number in range(5)] == list("01234")
