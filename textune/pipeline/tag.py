"""Tags files of web pages: parts are read here and tagged by several processes; a run that was stopped is continued.

input --> parts --> (processes: taggers, a file each) --> output, in the order of the pages

A part that is done lies beside the output (`metadata/taggers/partfiles.py`), so the same command again does only what
is missing. The output appears under its name when it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.ahead import ahead
from textune.atomic import write_text
from textune.config import OnBadRow
from textune.data import find_files
from textune.errors import DataError
from textune.jsontext import parse_json
from textune.metadata import (
    Crew,
    PartFiles,
    Refused,
    TagCounts,
    Tagger,
    TagSettings,
    Task,
    build_taggers,
    file_state,
    likely_parts,
    page_format,
    parser_version,
    part_sizes,
    read_parts,
)
from textune.owncode import fingerprint
from textune.partfiles import alone, job_key, no_output
from textune.pipeline.heard import heard
from textune.pipeline.targets import require_folder, require_target
from textune.version import __version__
from textune.wording import repeated_names

if TYPE_CHECKING:
    from textune.run import Tracker

MANIFEST = "tag.json"
"""In a folder of outputs: which are complete, and of what job."""
LOCK = "tag.lock"
"""In a folder of outputs, while a process writes there."""
MAX_SKIPPED = 10
"""Rows left out that a result names."""


@dataclass
class TagResult:
    """What was written."""

    outputs: list[Path]
    counts: TagCounts = field(default_factory=TagCounts)
    skipped: list[str] = field(default_factory=list)
    """Place and reason of the first rows that were left out."""
    num_skipped: int = 0
    kept: int = 0
    """Outputs that were complete before."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "outputs": [str(path) for path in self.outputs],
            "kept": self.kept,
            **self.counts.to_dict(),
            "skipped": self.num_skipped,
            "first_skipped": self.skipped,
        }


Counted = tuple[TagCounts, list[str]]
"""What a part gave, and the rows that were left out of it."""


@dataclass
class _Shard:
    """A file of pages on its way to its output."""

    source: Path
    files: PartFiles
    num_parts: int | None = None
    """None until it has been read to its end."""
    done: dict[int, Counted] = field(default_factory=dict)
    """By the number of the part."""
    told: tuple[TagCounts, Sequence[str], int] | None = None
    """Of a complete output: its counts, the first rows that were left out, and how many were."""
    lock: ExitStack = field(default_factory=ExitStack)
    """Holds the lock of the output while it is written."""
    begun: bool = False
    """Whether this process has taken the output and not finished it."""

    def require(self, *, force: bool) -> None:
        """DataError where the output cannot be written: it is the input, or is there and not to be replaced."""
        if not (self.files.started() and self.files.target.is_file()):
            require_target(str(self.source), str(self.files.target), force=force)

    def begin(self, *, force: bool) -> None:
        """Take the output, so that no other process writes it. RunError where one does, DataError as `require`: it may
        have been written since."""
        self.lock.enter_context(alone(self.files.target, self.files.lock))
        self.begun = True
        self.require(force=force)
        self.files.begin()

    def finish(self) -> None:
        """Remove the parts of an output that is complete, and give it free."""
        self.files.remove()
        self.begun = False
        self.done.clear()
        self.lock.close()

    def leave(self) -> None:
        """Give an output free that is not complete, with the parts of it that are done."""
        if self.begun:
            self.files.remove_if_empty()
        self.lock.close()

    def total(self) -> Counted:
        """Of all its parts, in order."""
        counts, skipped = TagCounts(), list[str]()
        for number in sorted(self.done):
            counts.add(self.done[number][0])
            skipped += self.done[number][1]
        return counts, skipped


@heard
def tag(
    sources: Sequence[str],
    target: str,
    *,
    settings: TagSettings | None = None,
    workers: int | None = None,
    force: bool = False,
    on_bad_row: OnBadRow = "error",
    tracker: Tracker | None = None,
) -> TagResult:
    """Tag the pages of `sources` (files, patterns); `target` is a file for one of them, else a folder.

    `settings`: what is found, by default all that needs no other file; `workers`: processes, by default one for each
    processor core.

    Output rows are those of the input, in its order, with the columns of the taggers; pages that a tagger cannot read
    say so in its columns of errors. An existing output is replaced only with `force`. With `on_bad_row` "skip", lines
    that are no rows are left out and counted.

    DataError for a file that cannot be read, a row that is none, a column that is missing; ConfigError and CodeError
    for taggers that cannot be used; RunError where another process writes the same output.
    """
    settings, workers = settings or TagSettings(), workers or os.cpu_count() or 1
    assert tracker is not None, "the decorator brings one"
    facts = _facts(settings, build_taggers(settings))
    every, folder = _plan(find_files(sources, key="--data"), target, facts)
    shards = [shard for shard in every if folder is None or not folder.take(shard)]
    for shard in shards:
        shard.require(force=force)
    if shards:
        tagging = _Tagging(shards, folder, tracker)
        _tag_missing(tagging, settings, workers=workers, skips=on_bad_row == "skip", force=force)
    result = TagResult([shard.files.target for shard in every], kept=len(every) - len(shards))
    for shard in every:
        assert shard.told is not None
        counts, skipped, num_skipped = shard.told
        result.counts.add(counts)
        result.num_skipped += num_skipped
        result.skipped += skipped[: MAX_SKIPPED - len(result.skipped)]
    return result


def _tag_missing(tagging: _Tagging, settings: TagSettings, *, workers: int, skips: bool, force: bool) -> None:
    shards, folder = tagging.shards, tagging.folder
    num_workers = max(1, min(workers, sum(likely_parts(shard.source) for shard in shards)))
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(alone(folder.path, folder.lock))
        crew = stack.enter_context(Crew(num_workers, settings))
        try:
            tagging.run(crew, skips=skips, force=force)
        finally:
            for shard in shards:
                shard.leave()
            if folder is not None:
                folder.leave()


class _Tagging:
    """One run: which parts are done, and which outputs are complete."""

    def __init__(self, shards: Sequence[_Shard], folder: _Folder | None, tracker: Tracker) -> None:
        self.shards = shards
        self._by_target = {shard.files.path(0).parent: shard for shard in shards}
        self.folder = folder
        self._tracker = tracker
        self._refused: dict[tuple[int, int], Refused] = {}
        """By the number of the shard and the part."""
        self._pages = 0

    def run(self, crew: Crew, *, skips: bool, force: bool) -> None:
        """Tag all that is missing; DataError for the first row that cannot be used, RunError where another process
        writes an output."""
        with closing(ahead(_steps(self.shards, skips=skips, force=force), 1, name="textune-reader")) as steps:
            for task, outcome in crew.run(self._wanted(steps)):
                shard = self._by_target[task.target.parent]
                if isinstance(outcome, Refused):
                    self._refused[self.shards.index(shard), task.part.number] = outcome
                else:
                    self._take(shard, task.part.number, (outcome.counts, outcome.skipped))
        if self._refused:
            raise self._refused[min(self._refused)].error()

    def _wanted(self, steps: Iterator[_Step]) -> Iterator[Task]:
        """The parts to tag, until one is refused."""
        for shard, step in steps:
            if isinstance(step, Task):
                yield step
            elif isinstance(step, int):
                shard.num_parts = step
                self._settle(shard)
            else:
                self._take(shard, *step)
            if self._refused:
                return

    def _take(self, shard: _Shard, number: int, counted: Counted) -> None:
        shard.done[number] = counted
        self._pages += counted[0].pages
        self._tracker.progress("tagging", self._pages, 0)
        self._settle(shard)

    def _settle(self, shard: _Shard) -> None:
        """Write the output once all parts of it are there."""
        if shard.num_parts is None or len(shard.done) < shard.num_parts:
            return
        try:
            shard.files.assemble(shard.num_parts)
        except OSError as error:
            hint = "Make room, and start the same command again: what is done is kept."
            raise no_output(shard.files.target, f"it cannot be written: {error.strerror or error}", hint) from error
        counts, skipped = shard.total()
        shard.told = counts, skipped[:MAX_SKIPPED], len(skipped)
        if self.folder is not None:
            self.folder.note(shard)
        shard.finish()


_Step = tuple[_Shard, "Task | int | tuple[int, Counted]"]
"""What comes next in reading a shard: a part to tag; how many parts it has; a part that is done already."""


def _steps(shards: Sequence[_Shard], *, skips: bool, force: bool) -> Generator[_Step]:
    for shard in shards:
        files, num_parts = shard.files, 0
        shard.begin(force=force)
        for part in read_parts(shard.source):
            num_parts += 1
            counted = files.counts(part.number)
            if counted is not None:
                yield shard, (part.number, counted)
            else:
                kind = page_format(files.target, option="output")
                yield shard, Task(part, shard.source.name, files.path(part.number), kind, skips)
        yield shard, num_parts


# --- which outputs, and of what job ----------------------------------------------------------------------------------


def _facts(settings: TagSettings, taggers: Sequence[Tagger]) -> dict[str, Any]:
    """All that decides what is found on a page; DataError where the parser is not installed."""
    files = {"gazetteer": settings.gazetteer, "descriptions": settings.descriptions}
    parser = parser_version() if any(tagger.reads == "html" for tagger in taggers) else ""
    return {
        "version": __version__,
        "parser": parser,
        "parts": part_sizes(),
        "taggers": [tagger.name for tagger in taggers],
        "columns": [settings.columns.html, settings.columns.url, settings.columns.text],
        "legacy": settings.legacy,
        "own": {path: fingerprint(path) for path in settings.own},
        **{name: hashlib.sha256(Path(path).read_bytes()).hexdigest() for name, path in files.items() if path},
    }


def _plan(sources: Sequence[Path], output: str, facts: Mapping[str, Any]) -> tuple[list[_Shard], _Folder | None]:
    """The files with their outputs, and the folder of several ones; DataError where they cannot be written."""
    target = Path(output)
    several = len(sources) > 1 or target.is_dir() or output.endswith(("/", os.sep))
    if twice := repeated_names(path.name for path in sources):
        raise DataError(
            f"--data: two files are called {twice[0]}, and so would be their outputs.",
            hint="Tag them one after the other, into two folders.",
            key="input",
            value=twice[0],
        )
    require_folder(str(target))
    if several and target.is_file():
        raise no_output(target, "it is a file, but several inputs need a folder", "Name a folder.")
    shards = []
    for source in sources:
        path = target / source.name if several else target
        read, written = page_format(source, option="input"), page_format(path, option="output")
        if (read, written) == ("jsonl", "parquet"):
            raise no_output(target, f"rows of {source.name} have no types for parquet", "Write jsonl instead.")
        job = job_key({**facts, "input": source.name, "state": file_state(source), "output": path.name})
        shards.append(_Shard(source, PartFiles(path, job)))
    return shards, _Folder(target) if several else None


class _Folder:
    """A folder of outputs, and its list of those that are complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / LOCK
        self._is_new = not path.exists()
        self._manifest = path / MANIFEST
        self._complete: dict[str, Any] = {}
        if self._manifest.is_file():
            try:
                self._complete = dict(parse_json(self._manifest.read_bytes())["outputs"])
            except (ValueError, KeyError, TypeError) as error:
                raise no_output(path, f"its {MANIFEST} cannot be read ({error})", "Remove that file.") from error

    def take(self, shard: _Shard) -> bool:
        """Whether an output is complete already, and then what it told."""
        found = self._complete.get(shard.files.target.name)
        if not shard.files.target.is_file() or not isinstance(found, dict) or found.get("job") != shard.files.job:
            return False
        shard.told = TagCounts.from_dict(found["counts"]), found["first_skipped"], found["skipped"]
        return True

    def leave(self) -> None:
        """Remove the lock, and a folder that was made for nothing else."""
        self.lock.unlink(missing_ok=True)
        if self._is_new:
            with contextlib.suppress(OSError):
                self.lock.parent.rmdir()

    def note(self, shard: _Shard) -> None:
        """Put a complete output on the list."""
        assert shard.told is not None
        counts, skipped, num_skipped = shard.told
        self._complete[shard.files.target.name] = {
            "job": shard.files.job,
            "counts": counts.to_dict(),
            "skipped": num_skipped,
            "first_skipped": list(skipped),
        }
        write_text(self._manifest, json.dumps({"outputs": self._complete}, indent=2, allow_nan=False))
