"""Runs a page of the documentation as it stands, block by block, in a folder, and looks for each line that it prints.

    ```console              `$ COMMAND` with what it prints; `...` stands for any other lines, and a line that begins
                            with two blanks goes on with the error or fact (`name: ...`) above it
    ```bash                 commands alone, a line each; what they print is not looked at
    ```toml title="NAME"    a file of the folder, in any language
    ```python               code; all blocks of a page share their names

Models of tests are tiny and random, so numbers, paths, labels of the data and what depends on the machine may differ
from those of the page; words may not.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kits.cli import runner

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OF_THE_MACHINE = ("kernels", "device", "at once", "vocabulary", "layout", "model", "memory", "machine", "versions")
"""Facts that are worded after the machine, the model or the size of the data: only their names are looked for."""
_FACT = re.compile(r"(Error|[a-z][a-z ]*): ")
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    title: str
    """Name of the file that it is; empty for what is run."""
    text: str

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Each command with the lines below it. A backslash at the end of a line goes on in the next."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        if self.language == "bash":
            yield from ((line, []) for line in lines if line and not line.startswith("#"))
            return
        starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
        for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
            yield lines[start][2:], _joined(lines[start + 1 : stop])


def _joined(lines: Sequence[str]) -> list[str]:
    """The lines as they are printed: long errors and facts in one."""
    found: list[str] = []
    for line in lines:
        if found and re.match(r"  \S", line) and _FACT.match(found[-1]):
            found[-1] += line[1:]
        else:
            found.append(line)
    return found


def blocks_of(page: Path, language: str = "") -> list[Block]:
    """The blocks of a page in their order; of one language only, if it is given."""
    found = []
    for info, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        word, _, rest = info.partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        found.append(Block(word, title[1] if title else "", text))
    return [block for block in found if language in ("", block.language)]


class Place:
    """The folder where the blocks of a page are run, with everything that they start from already in it.

    Parameters
    ----------
    folder
        Becomes the current folder.
    labels
        Words of the data that a tiny model may give otherwise than the page prints them.
    instead
        What stands in a command of the page, and what is run in its place: a tiny model for a real one.
    """

    def __init__(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        *,
        labels: Sequence[str] = (),
        instead: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}
        """What the blocks of Python have defined."""
        self._labels, self._instead, self._capsys = labels, dict(instead or {}), capsys
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        monkeypatch.setattr("textune.run.spoken.INTERVAL_SECONDS", 0.0)
        self._call: Any = runner(capsys, monkeypatch, folder)

    def run(self, block: Block) -> None:
        """One block; AssertionError for a command that fails or does not print what stands below it."""
        text = self._stand_in(block.text)
        if block.title:
            (self.folder / block.title).write_text(text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(text, "a page", "exec"), self.names)
        elif block.language in ("console", "bash"):
            for command, lines in block.commands():
                self.run_command(command, lines)

    def run_command(self, command: str, lines: Sequence[str] = ()) -> None:
        """A command as the page writes it; it must print `lines`, and fail exactly if one of them is an error."""
        command = re.sub(r"\s+#.*$", "", command)
        printed = self._printed(self._stand_in(command), any(line.startswith("Error:") for line in lines))
        look_for(lines, printed, command, labels=self._labels)

    def _stand_in(self, text: str) -> str:
        for said, meant in self._instead.items():
            text = text.replace(said, meant)
        return text

    def _printed(self, command: str, fails: bool) -> str:
        """Standard error, then standard output; commands of a shell alone run in one."""
        said, _, last = command.rpartition(" | ")
        if not last.startswith("textune "):
            return self._shell(command)
        answer = self._call(*shlex.split(last)[1:], stdin=self._shell(said) if said else "")
        assert (answer.code != 0) == fails, f"{command}\n{answer.err}{answer.out}"
        return str(answer.err + answer.out)

    def _shell(self, command: str) -> str:
        done = subprocess.run(["bash", "-ec", command], cwd=self.folder, text=True, stdout=subprocess.PIPE, check=True)
        return done.stdout


def shape(line: str, labels: Sequence[str] = ()) -> str:
    """A line without what depends on the data, the model, the machine and the moment."""
    name = line.partition(": ")[0]
    if name in OF_THE_MACHINE:
        return name
    line = re.sub(r"  best so far$| +[\d:]+ left$", "", line)
    line = re.sub(r"[^\s\"]*/[^\s\"]*|[^\s\"]+\.(csv|jsonl)\b", "PATH", line)
    words = "".join(rf"|\b{re.escape(label)}\b" for label in labels)
    line = re.sub(rf'"[^"]*"|null|[-+]?\d(?:[\d.,:eT+-]*\d)?{words}', "N", line)
    line = re.sub(r"N (seconds|minutes|hours)|N [kMG]?B\b", "N UNITS", line)
    return re.sub(r"[ ─]+", " ", line).strip()


def look_for(lines: Sequence[str], printed: str, command: str, *, labels: Sequence[str] = ()) -> None:
    """Each line is printed, in the same order.

    `...` stands for any others, and four blanks begin the text of a row. Of lines of one form that follow each other,
    such as the mistakes of a model, there may be fewer.
    """
    left = [shape(line, labels) for line in printed.splitlines()]
    before = ""
    for line in lines:
        if line in ("...", "") or line.startswith("    "):
            continue
        wanted = shape(line, labels)
        assert wanted in left or wanted == before, f"{command} does not print `{line}` ({wanted}), but:\n{printed}"
        left = left[left.index(wanted) + 1 :] if wanted in left else left
        before = wanted
