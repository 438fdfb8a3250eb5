"""Runs the blocks of a Markdown page as a reader would, and looks for every line that the page shows.

    ```console               commands after `$ `, each with lines that it prints; `...` stands for any others
    ```toml title="a.toml"   a file of that name; any language
    ```python                runs with the names of the blocks before it

`textune` runs in this process, through `kits.cli.runner`; every other command in a shell.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OF_THE_MACHINE = ("kernels", "device", "at once", "vocabulary", "best by", "time", "memory")
"""Facts that are worded after the machine, the size of the data or the metric."""
Words = list[str]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    """The name of the file that it is; empty for none."""
    body: str


@dataclass(frozen=True)
class Command:
    """A command that a page shows, and the lines below it."""

    text: str
    shown: tuple[str, ...]

    @property
    def fails(self) -> bool:
        """Whether the page shows an error."""
        return any(line.startswith("Error:") for line in self.shown)


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found = re.findall(r"^```(\w*)([^\n]*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    titles = [re.search(r'title="([^"]*)"', options) for _, options, _ in found]
    return [
        Block(language, title[1] if title else "", body)
        for (language, _, body), title in zip(found, titles, strict=True)
    ]


def commands_of(block: Block) -> Iterator[Command]:
    """The commands of a block, with the lines that it shows below each; a line that ends in `\\` goes on."""
    lines = block.body.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, stop in zip(starts, [*starts, len(lines)][1:], strict=True):
        text, below = lines[start][2:], start + 1
        while text.endswith("\\"):
            text, below = text[:-1] + lines[below].strip(), below + 1
        yield Command(re.split(r" {2,}#", text)[0].strip(), tuple(lines[below:stop]))


def shape(line: str, labels: Sequence[str] = ("negative", "positive")) -> str:
    """A line without what depends on the data, the machine and the moment: numbers, paths, labels."""
    name = line.partition(": ")[0]
    if name in OF_THE_MACHINE:
        return name
    line = re.sub(r"  best so far$| +[\d:]+ left$", "", line)
    line = re.sub(r"[^\s\"]*/[^\s\"]*|\S+\.(csv|tsv|jsonl|parquet)", "PATH", line)
    line = re.sub(rf'"[^"]*"|\b({"|".join(map(re.escape, labels))})\b|\d(?:[\d.,:eT+-]*\d)?', "N", line)
    line = re.sub(r"N (seconds|minutes|hours)|N [kM]B", "N UNITS", line)
    return re.sub(r"[ ─]+", " ", line).strip()


def look_for(
    shown: Sequence[str], printed: str, command: str, labels: Sequence[str] = ("negative", "positive")
) -> None:
    """Each line that the page shows is printed, in the same order; `...` stands for any others, four blanks for a
    text."""
    left = [shape(line, labels) for line in printed.splitlines()]
    for line in shown:
        if line in ("...", "") or line.startswith("    "):
            continue
        wanted = shape(line, labels)
        assert wanted in left, f"{command} does not print `{line}` ({wanted}), but:\n{printed}"
        left = left[left.index(wanted) + 1 :]


@dataclass
class PageRunner:
    """Runs a page's blocks in the folder `place`."""

    call: Any
    """`kits.cli.runner` in that folder."""
    place: Path
    more: Mapping[str, Sequence[str]]
    """Words that are added to a verb, such as those of a tiny model for `train`."""
    labels: Sequence[str] = ("negative", "positive")
    """Labels of the page's data, which a smaller model may give otherwise."""
    not_printed: tuple[str, ...] = ()
    """Starts of lines that the words of `more` change."""
    file: Callable[[str, str], str] = lambda name, body: body
    """What becomes of a file of the page: its name and content."""

    def run(self, page: Path) -> dict[str, Any]:
        """Run everything; the names that Python blocks have set."""
        names: dict[str, Any] = {}
        for block in blocks_of(page.read_text(encoding="utf-8")):
            if block.title:
                (self.place / block.title).write_text(self.file(block.title, block.body), encoding="utf-8")
            elif block.language == "python":
                exec(compile(block.body, str(page), "exec"), names)
            elif block.language == "console":
                for command in commands_of(block):
                    self._run(command)
        return names

    def _run(self, command: Command) -> None:
        before, pipe, text = command.text.rpartition(" | textune ")
        text = f"textune {text}" if pipe else command.text
        if not text.startswith("textune "):
            done = self._shell(text)
            assert done.returncode == 0, done.stderr
            look_for(command.shown, done.stdout, text, self.labels)
            return
        words = shlex.split(text)[1:]
        words += self.more.get(words[0], ())
        answer = self.call(*words, stdin=self._shell(before).stdout if pipe else "")
        assert (answer.code != 0) == command.fails, answer.err + answer.out
        shown = [line for line in command.shown if not line.startswith(self.not_printed or "\0")]
        look_for(shown, answer.err + answer.out, text, self.labels)

    def _shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", text], cwd=self.place, capture_output=True, text=True, check=False)
