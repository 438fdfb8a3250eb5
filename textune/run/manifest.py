"""`manifest.json` of a run folder: how the run came about, how it stands, and what came of it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from textune.atomic import write_text
from textune.data import Finding
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.model import hint_for_no_run
from textune.wording import without_passwords

NAME = "manifest.json"
PACKAGES = ("textune", "torch", "transformers", "tokenizers", "pyarrow", "numpy")

Ending = Literal["complete", "interrupted", "preempted", "failed"]
"""How a run ends: at its end, by Ctrl+C, by a scheduler's signal, or with an error."""
Status = Literal["running", "complete", "interrupted", "preempted", "failed"]


class Resumption(BaseModel):
    """One time that the run was resumed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    started: str
    command: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    machine: dict[str, str] = {}
    step: int
    """Optimizer steps done by then."""
    resolved: dict[str, str] = {}
    said: tuple[str, ...] = ()
    """What was said about the checkpoint and about changed settings."""


class FewLabels(BaseModel):
    """Which way a run with few labels went."""

    model_config = ConfigDict(frozen=True, extra="allow")

    chosen: Literal["frozen", "contrastive", "full"]
    rows_a_class: float
    """Training rows by the number of classes."""
    tried: dict[str, dict[str, float]] = {}
    """The cross-validated accuracy of each way that was tried, with the ends of its interval, `low` and `high`."""


class Manifest(BaseModel):
    """What the file holds; fields that are not set are not written, and those of a later version are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    status: Status
    started: str
    """Times are ISO 8601, in UTC, to the second."""
    command: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    """Of Python and of the packages that decide a result."""
    machine: dict[str, str] = {}
    git: dict[str, str] = {}
    """Commit of the folder in which the run was started, and whether it had changes."""
    resolved: dict[str, str] = {}
    """The facts of the run in words."""
    facts: dict[str, JsonValue] = {}
    """The same as values."""
    data: dict[str, str] = {}
    """Fingerprint of each split's source."""
    rows: dict[str, int | None] = {}
    """Rows of each split; None where a stream's are not known."""
    truncated: dict[str, int] = {}
    """Rows of each split that lost tokens."""
    skipped: tuple[str, ...] = ()
    """Place and reason of the first rows that were left out."""
    num_skipped: int = 0
    left_out: dict[str, int] = {}
    """Rows of each split that were left out, for whatever reason."""
    findings: tuple[Finding, ...] | None = None
    """What the audit of the rows found; None where it was not made."""
    from_checkpoint: str | None = None
    """The checkpoint of another run in which this one began."""
    few: FewLabels | None = None
    """What became of `task.few`; None where it is "off"."""
    resumed: tuple[Resumption, ...] = ()
    finished: str | None = None
    reason: str | None = None
    """Why it failed."""
    steps: int | None = None
    """Optimizer steps done."""
    best_step: int | None = None
    seconds: float | None = None
    """Of the training loop, in all sessions together."""
    notices: tuple[str, ...] = ()
    metrics: dict[str, dict[str, JsonValue]] = {}
    """The metrics of each report."""

    def write(self, run: Path) -> None:
        """Write it into a run folder: complete, or as it was before."""
        text = self.model_dump_json(indent=2, exclude_unset=True)
        write_text(run / NAME, text + "\n")


def read_manifest(run: Path) -> Manifest:
    """The manifest of a run folder; RunError where there is none or it is damaged."""
    path = run / NAME
    try:
        return Manifest.model_validate(parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunError(
            f"{run} is not a run folder: it has no {NAME}.", hint=hint_for_no_run(run), place=str(run)
        ) from None
    except ValidationError as error:
        [first, *_] = error.errors()
        key = ".".join(map(str, first["loc"]))
        reason = f"{key}: {first['msg'][:1].lower()}{first['msg'][1:]}" if key else "not a JSON object"
    except (ValueError, OSError) as error:
        reason = str(error)
    raise RunError(
        f"{path} is damaged: {reason}.", hint="Restore it from a copy, or train again.", place=str(path), reason=reason
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def machine() -> dict[str, str]:
    """What computes the run."""
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
    }


def git_state() -> dict[str, str]:
    """Commit of the current folder and whether it has changes; empty outside a git checkout or without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "changed": "yes" if _git("status", "--porcelain") else "no"}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def now() -> str:
    """The time, as a manifest has it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def command_line() -> tuple[str, ...]:
    """The command that started this process, without the passwords of trackers and without tokens."""
    words = sys.argv[1:]
    flags = ["", *words]  # that before each word
    hidden = [
        "…" if _TOKEN.fullmatch(flag) else _without_secrets(word) for flag, word in zip(flags, words, strict=False)
    ]
    program = Path(sys.argv[0])
    as_module = program.parts[-2:] == ("textune", "__main__.py")  # `python -m textune`
    return ("textune" if as_module else program.name, *hidden)


_TOKEN = re.compile(r"--((hub|push.to.hub)[-_])?token|--use[-_]auth[-_]token")
"""Flags of other systems whose value is a token."""


def _without_secrets(word: str) -> str:
    key, equals, value = word.partition("=")
    if value and _TOKEN.fullmatch(key):
        return f"{key}=…"
    has_options = key.split(".")[0] == "track" and "options" in word
    return f"{key}{equals}…" if has_options and value else without_passwords(word)
