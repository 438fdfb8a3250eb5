"""Items prepared ahead: in order, bounded, errors in their place, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator

import pytest
from kits.patience import PATIENCE, wait_until

from textune.ahead import ahead

NAME = "test-ahead"


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def numbers(made: list[int], num: int = 10, closed: list[str] | None = None) -> Generator[int]:
    try:
        for number in range(num):
            made.append(number)
            yield number
    finally:
        if closed is not None:
            closed.append(threading.current_thread().name)


@pytest.mark.parametrize("depth", [0, 1, 3, 100])
@pytest.mark.parametrize("num", [0, 1, 10])
def test_all_items_come_in_order(depth: int, num: int) -> None:
    closed: list[str] = []
    assert list(ahead(numbers([], num, closed), depth, name=NAME)) == list(range(num))
    assert closed == [NAME if depth else threading.current_thread().name] and not running()


def test_no_more_than_so_many_are_made_ahead() -> None:
    made: list[int] = []
    items = ahead(numbers(made), 2, name=NAME)
    assert made == [] and not running()  # nothing before it is asked for
    next(items)
    wait_until(lambda: len(made) == 4)  # one in use, two waiting, one that finds no room
    time.sleep(0.05)
    assert len(made) == 4
    items.close()


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_behind_the_items_before_it(depth: int) -> None:
    def broken() -> Generator[int]:
        yield 1
        yield 2
        raise ValueError("the third")

    seen = []
    with pytest.raises(ValueError, match="the third"):
        for number in ahead(broken(), depth, name=NAME):
            seen.append(number)
    assert seen == [1, 2] and not running()


@pytest.mark.parametrize("depth", [0, 1])
def test_closing_ends_the_thread_and_closes_the_items(depth: int) -> None:
    closed: list[str] = []
    items = ahead(numbers([], 1000, closed), depth, name=NAME)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert len(closed) == 1 and not running()


def test_whoever_waits_for_an_item_can_be_interrupted() -> None:
    release = threading.Event()

    def never() -> Generator[int]:
        release.wait()
        yield 1

    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        next(ahead(never(), 1, name=NAME))
    release.set()
    wait_until(lambda: not running())


def test_a_thread_that_waits_for_its_input_does_not_hold_the_process() -> None:
    """The buffer of standard input, were it read, would be locked when the interpreter ends: a fatal error."""
    code = f"""
from textune.ahead import ahead
from textune.data.reading.windows import StreamOptions, read_rows
rows = ahead(read_rows("-", StreamOptions("text"), text_column="text"), 1, name="{NAME}")
try:
    print(next(rows), flush=True)
    next(rows)
except KeyboardInterrupt:
    rows.close()
    print("interrupted", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        try:
            child.stdin.write("a line\n")
            child.stdin.flush()  # and the pipe stays open
            assert child.stdout.readline() == "(1, {'text': 'a line'})\n"
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert child.wait(timeout=PATIENCE) == 0
            assert child.stderr.read() == ""
        finally:
            child.kill()
