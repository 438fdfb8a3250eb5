"""Small web pages for tests of `textune tag`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textune.metadata.taggers.table import TagSettings, build_taggers
from textune.metadata.taggers.tagging import PageTagger
from textune.metadata.taggers.worker import Outcome, Task, Watch, tag_part

FILLER = "tidi tadada " * 6  # 72 characters: more than an element may be short of


def pages(num: int) -> list[dict[str, Any]]:
    """Rows with HTML, an address and two columns of their own."""
    return [
        {
            "id": number,
            "html": f"<title>Page {number}</title><p class=x>{FILLER}{number}.</p><div>{FILLER}<br>é {number}</div>",
            "url": f"https://example.org/2020/01/{number % 28 + 1:02}/page-{number}",
            "more": {"a": [number, None]},
        }
        for number in range(num)
    ]


def write_pages(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As jsonl, packed where the name says so."""
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read_pages(path: Path) -> list[dict[str, Any]]:
    """The rows of jsonl, packed or not."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode().splitlines()]


class OneProcess:
    """The twin of `Crew`: every part here, one after the other."""

    def __init__(self, num_workers: int, settings: TagSettings) -> None:
        self._settings = settings
        self._taggers = build_taggers(settings)

    def __enter__(self) -> OneProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Outcome]]:
        for task in tasks:
            tagger = PageTagger(self._taggers, self._settings.columns)
            watch = Watch([0, 0], [one.name for one in self._taggers])
            yield task, tag_part(task, tagger, self._settings, watch)
