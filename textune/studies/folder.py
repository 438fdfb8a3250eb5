"""The folder of a study: its run folders, and `study.json`, which says what the study is.

runs/x/
  study.json      what is asked, and of which configuration: the same command goes on here, another one is refused
  lock            held by the process that works here
  NAME/           the run folder of each run
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.atomic import WRITING, write_text
from textune.config import format_value, load_tree
from textune.errors import ConfigError, RunError
from textune.jsontext import parse_json
from textune.locks import Held, held
from textune.run import compare

if TYPE_CHECKING:
    from pydantic import JsonValue

NAME = "study.json"
_LOCK = "lock"
_BEFORE = {_LOCK, NAME + WRITING}
"""What a study writes before `study.json`."""


@dataclass(frozen=True)
class Study:
    """What decides the runs of a study."""

    kind: str
    """The verb, such as `repeat`."""
    config: Mapping[str, JsonValue]
    """The configuration that its runs have in common, resolved. Keys may change as when a run resumes."""
    plan: Mapping[str, JsonValue]
    """What else may not change, by the option or key that sets it."""


@contextlib.contextmanager
def opened_study(folder: Path, study: Study) -> Iterator[None]:
    """Hold the folder while the runs of the study are carried out; makes it, with `study.json`, if need be.

    Where nothing else was written meanwhile, since the first run was refused, `study.json` goes, and the folder with
    it if it was made for that. RunError where another process works there, where the folder holds something else, or
    where it holds another study: which key or option differs.
    """
    path = folder / NAME
    if not path.is_file():
        _require_free(folder)
    absent = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / _LOCK):
            if path.is_file():
                _require_same(folder, study)
            said = {"study": study.kind, "plan": dict(study.plan), "config": dict(study.config)}
            write_text(path, json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            try:
                yield
            finally:
                _remove_if_alone(folder, absent)
    except Held as holder:
        raise RunError(
            f"another process is working in {folder} ({holder}).",
            hint="Wait for it or stop it, or choose another folder with --run.",
            place=str(folder),
            reason="another process is working there",
        ) from None


def read_study(folder: Path) -> Study:
    """What a study folder says it is; RunError where it says nothing, or nothing that can be read."""
    path = folder / NAME
    try:
        said: Any = parse_json(path.read_text(encoding="utf-8"))
        return Study(str(said["study"]), dict(said["config"]), dict(said["plan"]))
    except FileNotFoundError:
        raise RunError(f"{folder} is no study: it has no {NAME}.", place=str(folder)) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{path} is damaged: {type(error).__name__}: {error}.",
            hint="Restore it from a copy, or choose another folder with --run.",
            place=str(path),
        ) from error


def _remove_if_alone(folder: Path, absent: Sequence[Path]) -> None:
    """Remove what a study wrote that has no run, and the folders that were absent before."""
    if any(item.name not in {_LOCK, NAME} for item in folder.iterdir()):
        return
    for name in (NAME, _LOCK):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # another process has begun to write there
        for made in absent:
            made.rmdir()


def _require_free(folder: Path) -> None:
    try:
        holds = sorted(item.name for item in folder.iterdir() if item.name not in _BEFORE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{folder}: {error.strerror or error}.", hint="Choose another with --run.") from error
    if holds:
        raise RunError(
            f"the folder {folder} holds something else ({holds[0]}); nothing is ever overwritten.",
            hint="Choose another folder with --run.",
            place=str(folder),
            reason="it holds something else",
        )


def _require_same(folder: Path, study: Study) -> None:
    before = read_study(folder)
    if before.kind != study.kind:
        raise _other(folder, f"textune {before.kind}, not of textune {study.kind}", key="run", value=str(folder))
    for name in [*study.plan, *(name for name in before.plan if name not in study.plan)]:
        then, now = before.plan.get(name), study.plan.get(name)
        if then != now:
            raise _other(folder, f"{name} = {_shown(then)}, not {_shown(now)}", key=name, value=now)
    try:
        # Keys that a later version added get their defaults, which mean what was done before.
        compare(load_tree(before.config, base=Path.cwd()).resolved, study.config, where=str(folder))
    except ConfigError as error:
        raise RunError(f"{folder / NAME}: {error.message}", hint=error.hint, place=str(folder)) from error


def _other(folder: Path, what: str, *, key: str, value: object) -> RunError:
    return RunError(
        f"{folder} holds another study: that of {what}.",
        hint="Choose another folder with --run.",
        key=key,
        value=value,
        place=str(folder),
        reason="another study",
    )


def _shown(value: object) -> str:
    return "nothing" if value is None else format_value(value, one_line=True)
