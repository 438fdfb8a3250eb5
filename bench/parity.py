"""`python -m bench.parity`: docs/parity.md, from bench/parity.toml and the tests that name its lines and features.

The tests are read, not run: `@pytest.mark.parity("TW-05", "class-weights")` names lines and features, and a function
`test_tw_05_...` its line. A test that is skipped everywhere, or expected to fail, proves nothing.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.rows import write_whole
from bench.worker import ROOT

DATA, PAGE, TESTS = Path(__file__).with_name("parity.toml"), ROOT / "docs" / "parity.md", ROOT / "tests"
NAMED = re.compile(r"test_(tw|tr|az|hf)_(\d\d)_\w+")
ANSWERS = {"y": "yes", "n": "no", "p": "partly"}
PROVES_NOTHING = {"skip", "xfail"}
NEEDS = {"slow": "slow", "gpu": "on a GPU", "network": "with the hub"}
"""Markers of tests that do not run with the others, in words."""
INTRO = """\
<!-- `python -m bench.parity` writes this page from bench/parity.toml and the tests. -->

# Parity with four systems

What someone needs who comes from training-wizard, torchrecipes, the AzureML component for text classification, or the
example scripts of Hugging Face ([migrating.md](migrating.md) says how to come). Every "yes" of textune rests on the
tests that are named here; where one is lost, `tests/test_house.py` fails. What is said of the other systems is what
their public sources do: "partly" is also what is there and does not work. That the same arguments give the same
losses, step by step, is held by `tests/parity/test_same_mathematics.py`.
"""


@dataclass(frozen=True)
class Test:
    """A test that names a line or a feature."""

    path: str
    """Relative to the repository."""
    name: str
    needs: tuple[str, ...]
    """What it needs to run, in words; empty for one of the daily suite."""

    def __str__(self) -> str:
        return f"`{self.path}::{self.name}`" + (f" ({', '.join(self.needs)})" if self.needs else "")


@dataclass(frozen=True)
class Feature:
    """A row of the table."""

    row: str
    answers: tuple[str, ...]
    """Of the other systems, in the order of `Parity.systems`."""
    lines: tuple[str, ...]
    """That make the row a yes where all of them are proved."""


@dataclass(frozen=True)
class Parity:
    """The data of the page."""

    systems: Mapping[str, str]
    lines: Mapping[str, str]
    features: Mapping[str, Feature]
    no: Mapping[str, str]
    """Feature to the reason why textune has it not."""
    not_yet: Sequence[str]


def main(page: Path = PAGE, data: Path = DATA, folder: Path = TESTS) -> int:
    """Take off `not_yet` what has a test now, and write the page; 1 where a yes has no test, which is said."""
    tests, text = find_tests(folder), data.read_text(encoding="utf-8")
    proved = [name for name in read_parity(data).not_yet if name in tests]
    for name in proved:
        text = text.replace(f'    "{name}",\n', "", 1)
    if proved:
        write_whole(data, text)
    parity = read_parity(data)
    write_whole(page, render(parity, tests))
    wrong = problems(parity, tests)
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


def read_parity(path: Path = DATA) -> Parity:
    """The lines and features, as they stand in the file."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    features = {
        name: Feature(row, tuple(ANSWERS[letter] for letter in answers), tuple(lines))
        for name, (row, answers, *lines) in data["features"].items()
    }
    return Parity(data["systems"], data["lines"], features, data["no"], data["not_yet"])


def find_tests(folder: Path = TESTS) -> dict[str, list[Test]]:
    """Each line and feature that tests name, and those tests in the order of their files."""
    found: dict[str, list[Test]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if ".parity(" not in text and not NAMED.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                test, names = _read_test(node, path.relative_to(folder.parent).as_posix())
                for name in names:
                    found.setdefault(name, []).append(test)
    return found


def _read_test(node: ast.FunctionDef, path: str) -> tuple[Test, list[str]]:
    """The test, and what it proves."""
    # Of the test as a whole: a mark of one of its cases is an argument of `parametrize`.
    marks = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    kinds = {mark.attr for mark in marks if isinstance(mark, ast.Attribute)}
    test = Test(path, node.name, tuple(words for kind, words in NEEDS.items() if kind in kinds))
    if kinds & PROVES_NOTHING:
        return test, []
    names = [f"{match[1].upper()}-{match[2]}"] if (match := NAMED.fullmatch(node.name)) else []
    for call in (call for decorator in node.decorator_list for call in ast.walk(decorator)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "parity":
            names += [str(argument.value) for argument in call.args if isinstance(argument, ast.Constant)]
    return test, list(dict.fromkeys(names))


def problems(parity: Parity, tests: Mapping[str, Sequence[Test]]) -> list[str]:
    """What is wrong between the data and the tests, a sentence each; empty where the page says what tests prove."""
    known = parity.lines.keys() | parity.features.keys()
    needed = [*parity.lines, *(name for name, feature in parity.features.items() if not feature.lines)]
    wrong = [f"bench/parity.toml has no {name}, which {tests[name][0]} names" for name in tests if name not in known]
    wrong += [
        f"not_yet in bench/parity.toml has {name}, which is nothing" for name in parity.not_yet if name not in known
    ]
    wrong += [
        f"{name} has no test: mark one with @pytest.mark.parity({name!r}), or put it into not_yet in bench/parity.toml"
        for name in needed
        if name not in tests and name not in parity.not_yet and name not in parity.no
    ]
    wrong += [
        f"{name} has a test, {tests[name][0]}: python -m bench.parity takes it off not_yet and writes the page"
        for name in parity.not_yet
        if name in tests
    ]
    lines = {line for feature in parity.features.values() for line in feature.lines}
    wrong += [f"features of bench/parity.toml name the line {name}, which is none" for name in lines - {*parity.lines}]
    return wrong


def answer(name: str, parity: Parity, tests: Mapping[str, Sequence[Test]]) -> str:
    """What textune says to a feature: yes where a test names it, or all its lines have tests."""
    if name in parity.no:
        return "no"
    lines = parity.features[name].lines
    return "yes" if tests.get(name) or (lines and all(tests.get(line) for line in lines)) else "not yet"


# --- the page --------------------------------------------------------------------------------------------------------


def render(parity: Parity, tests: Mapping[str, Sequence[Test]]) -> str:
    """The whole page."""
    parts = [INTRO, "## Features\n", *_table(parity, tests), ""]
    parts += [_item(f"{parity.features[name].row}: no. {why}") for name, why in parity.no.items()]
    parts += ["\n## Proof\n\nThe tests that name a feature itself:\n"]
    parts += [
        _item(f"**{feature.row}**: " + ", ".join(map(str, tests[name])))
        for name, feature in parity.features.items()
        if tests.get(name)
    ]
    for short, system in parity.systems.items():
        parts += [f"\n### {system}\n"]
        parts += [_item(line) for name, line in _lines(parity, tests) if name.startswith(f"{short}-")]
    return "\n".join(parts) + "\n"


def _table(parity: Parity, tests: Mapping[str, Sequence[Test]]) -> Iterator[str]:
    columns = ["feature", "textune", *map(_short, parity.systems.values()), "proved by"]
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for name, feature in parity.features.items():
        own = ["tests below"] if tests.get(name) else []
        cells = [feature.row, answer(name, parity, tests), *feature.answers, ", ".join([*feature.lines, *own])]
        yield f"| {' | '.join(cells)} |"


def _short(system: str) -> str:
    """The name of a system as the head of a column."""
    return system.removesuffix(" text classification").removesuffix(" example scripts")


def _lines(parity: Parity, tests: Mapping[str, Sequence[Test]]) -> Iterator[tuple[str, str]]:
    for name, words in parity.lines.items():
        proof = ", ".join(map(str, tests.get(name, ()))) or "not yet"
        yield name, f"**{name}** {words} Proof: {proof}"


def _item(text: str) -> str:
    """Wrapped; where a test does not fit into a line, its name stands below its file."""
    text = re.sub(r"`([^`\s]{112,})`", lambda found: "`" + found[1].replace("::", "` `::") + "`", text)
    return textwrap.fill(f"- {text}", 119, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    sys.exit(main())
