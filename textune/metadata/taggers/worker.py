"""A process that tags parts: rows in, a file of tagged rows out.

It says in shared memory which row and which tagger it is at, so that `crew.py` knows what ended it if it dies.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from textune.crew import NOWHERE
from textune.data import as_json, parse_line, plain_rows, reason_of, undecodable
from textune.errors import DataError
from textune.exitcodes import code_of_error
from textune.metadata.taggers.fields import ARROW_TYPES
from textune.metadata.taggers.partfiles import write_part
from textune.metadata.taggers.shards import PageFormat, Part
from textune.metadata.taggers.table import TagSettings, build_taggers, needed_columns
from textune.metadata.taggers.tagging import PageTagger, TagCounts, TaggedPage
from textune.wording import listing, shorten

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MAX_GROWTH_BYTES = 2 << 30
"""Memory that a worker may take on top of what it needs to start: some pages grow without end as they are parsed."""
MAX_SECONDS = 60.0
"""Of processor time for one tagger on one page: others take ever longer."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A part to tag."""

    part: Part
    name: str
    """Of the file that it is a part of."""
    target: Path
    """The file to write."""
    format: PageFormat
    """Of that file."""
    skips: bool = False
    """Whether rows that cannot be read are left out."""
    broken: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    """By the index of a row in the part: taggers that are not used on it, and why."""


@dataclass(frozen=True)
class Done:
    """A part that was tagged and written."""

    counts: TagCounts
    skipped: list[str]
    """Place and reason of each row that was left out."""


@dataclass(frozen=True)
class Refused:
    """A part that cannot be tagged."""

    message: str
    fields: Mapping[str, Any]
    """Of the error."""

    def error(self) -> DataError:
        """It as an error."""
        return DataError(self.message, **self.fields)


Outcome = Done | Refused


class Watch:
    """Says in shared memory what this process is at, and ends it where that takes too long."""

    def __init__(self, at: MutableSequence[int], names: Sequence[str], seconds: float = 0) -> None:
        """`at`: a row and a tagger; `names`: of the taggers; `seconds`: of processor time that one of them may take on
        one page, 0 for any."""
        self._at = at
        self._names = names
        self._seconds = seconds

    def row(self, index: int) -> None:
        """The next row begins."""
        self._at[0] = index

    def tagger(self, name: str) -> None:
        """The next tagger begins."""
        self._at[1] = self._names.index(name)
        self._limit(self._seconds)

    def rest(self) -> None:
        """No row and no tagger."""
        self._at[:] = [NOWHERE, NOWHERE]
        self._limit(0)

    def _limit(self, seconds: float) -> None:
        """Even inside of a parser, the process ends after so much processor time."""
        if self._seconds and sys.platform != "win32":
            signal.setitimer(signal.ITIMER_PROF, seconds)


def work(connection: Connection, at: MutableSequence[int], settings: TagSettings, seconds: float) -> None:
    """Tag what comes, until nothing does; one tagger may take so many `seconds` on one page."""
    taggers = build_taggers(settings)
    if not settings.own:  # code of the user's own may need any amount of either
        _limit_memory()
    watch = Watch(at, [tagger.name for tagger in taggers], 0 if settings.own else seconds)
    while True:
        task: Task = connection.recv()
        try:
            outcome = tag_part(task, PageTagger(taggers, settings.columns), settings, watch)
        except MemoryError:  # which the parent puts into words
            raise SystemExit(1) from None
        connection.send(outcome)


def tag_part(task: Task, tagger: PageTagger, settings: TagSettings, watch: Watch) -> Outcome:
    """Tag a part and write it."""
    watch.rest()
    skipped, counts, pages = list[str](), TagCounts(), _Pages(task, tagger)
    try:
        rows = list(_rows(task, skipped))
        if task.part.number == 0 and rows:
            _require_columns(task, settings, tagger, [row for _, row in rows])
        for index, (place, row) in enumerate(rows):
            watch.row(index)
            page = tagger.tag(row, begin=watch.tagger, broken=task.broken.get(index))
            if reason := pages.add(page):
                _leave_out(task, place, reason, skipped)
            else:
                counts.add_page(page, place)
    except DataError as error:
        fields = {name: getattr(error, name) for name in ("hint", "key", "value", "place", "reason", "exit_code")}
        return Refused(error.message, fields)
    finally:
        watch.rest()
    try:
        write_part(task.target, pages.content(), counts, skipped)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "Make room, and start the same command again: what is done is kept."
        fields = {"hint": hint, "reason": reason, "exit_code": code_of_error(error)}
        return Refused(f"{task.target} cannot be written: {reason}.", fields)
    return Done(counts, skipped)


def _rows(task: Task, skipped: list[str]) -> Iterator[tuple[str, Row]]:
    """(place, row) of each row that can be read."""
    part = task.part
    if part.format == "parquet":
        with pa.ipc.open_stream(part.data) as stream:
            table = stream.read_all()
        rows = plain_rows(table) if task.format == "jsonl" else table.to_pylist()
        for number, row in enumerate(rows, part.first):
            yield f"{task.name}, row {number:,}", row
        return
    for number, line in enumerate(part.data.split(b"\n"), part.first):
        if line.strip():
            place = f"{task.name}, line {number:,}"
            row, reason = _read_line(line)
            if reason:
                _leave_out(task, place, reason, skipped)
            else:
                yield place, row


def _read_line(line: bytes) -> tuple[Row, str]:
    """A row, or why there is none."""
    if reason := undecodable(line):
        return {}, reason.replace("of the file", "of the line")
    value, reason = parse_line(line.decode().strip())
    if not reason and not isinstance(value, dict):
        reason = f"{shorten(line.decode().strip(), 40)} is not a JSON object"
    return value if isinstance(value, dict) else {}, reason


def _leave_out(task: Task, place: str, reason: str, skipped: list[str]) -> None:
    if not task.skips:
        raise DataError(
            f"{place}: {reason}.",
            hint="Mend the row, or leave such rows out with --skip-bad-rows.",
            place=place,
            reason=reason,
        )
    skipped.append(f"{place}: {reason}")


class _Pages:
    """Tagged pages in the form in which they are written."""

    def __init__(self, task: Task, tagger: PageTagger) -> None:
        self._task = task
        self._kinds = tagger.columns()
        self._lines = list[bytes]()
        self._added: dict[str, list[Any]] = {name: [] for name in self._kinds}

    def add(self, page: TaggedPage) -> str:
        """Take the next page; why it cannot be written, if it cannot."""
        if self._task.format == "parquet":
            for name, values in self._added.items():
                values.append(page.row[name])
            return ""
        try:
            try:
                self._lines.append(as_json(page.row).encode())
            except UnicodeEncodeError:  # half of a character in a column that is kept as it is
                self._lines.append(as_json(page.row, escape=True).encode())
        except (ValueError, TypeError, RecursionError) as error:
            return f"it cannot be written as jsonl: {reason_of(error)}"
        return ""

    def content(self) -> bytes | pa.Table:
        """Lines; or the columns of the part that no tagger fills, and those of the taggers."""
        if self._task.format != "parquet":
            return b"\n".join([*self._lines, b""])
        with pa.ipc.open_stream(self._task.part.data) as stream:
            table = stream.read_all()
        kept = table.select([name for name in table.column_names if name not in self._kinds])
        types = {name: ARROW_TYPES[kind] for name, kind in self._kinds.items()}
        added = [pa.array(self._added[name], kind) for name, kind in types.items()]
        schema = pa.schema(
            [*kept.schema, *(pa.field(name, kind) for name, kind in types.items())], kept.schema.metadata
        )
        return pa.Table.from_arrays([*kept.columns, *added], schema=schema)


def _require_columns(task: Task, settings: TagSettings, tagger: PageTagger, rows: Sequence[Row]) -> None:
    """DataError where no row has a column that a tagger reads."""
    present = dict.fromkeys(name for row in rows for name in row)
    for option, column in needed_columns(tagger.taggers, settings.columns).items():
        if column not in present:
            users = [one.name for one in tagger.taggers if one.reads == option]
            raise DataError(
                f"{task.name}: the rows have no column {column!r}, which {listing(users)} read.",
                hint=f"They have {listing(present, 10)}. Name the column with --{option}, or leave those taggers out"
                f" with {' '.join(f'--without {name}' for name in users)}.",
                key=option,
                value=column,
                place=task.name,
                reason="the column is missing",
            )


def _limit_memory() -> None:
    """Beyond it, parsing fails with an error of that page."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[5])  # of data and stack
    limit = pages * resource.getpagesize() + MAX_GROWTH_BYTES
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
