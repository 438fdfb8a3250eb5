"""The gate of every export: a new process opens what was written and answers the rows of a probe, alone and in
batches; its answers are compared with what the model says of them in fp32.

probe --asking.py, a process of its own--> answers --compare--> Parity, or ExportError: the export is then gone
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from textune.atomic import write_text
from textune.errors import ExportError
from textune.exports.asking import REFUSAL, REFUSED, REQUEST
from textune.exports.table import AskedBy, ExportKind, Tolerance
from textune.jsontext import parse_json
from textune.prediction import PROBE_NAME, ModelCard, Probe, Scores, write_probe
from textune.tasks import Head, Task, shown
from textune.wording import count, listing, shorten

PARITY_NAME = "parity.json"
"""What the gate found, beside the export."""
LIMIT_SECONDS = 1800.0
"""How long the process may take."""
_ENDING_SECONDS = 10.0


@dataclass(frozen=True)
class Parity:
    """How an export answered."""

    kind: str
    rows: int
    """Rows that were asked, each alone and in batches."""
    of: str
    """What they are: `validation rows`, or `generated rows`."""
    opened_by: tuple[str, ...]
    """What opened the export, each by itself."""
    difference: float
    """The largest difference of a probability from the model's own in fp32; of a number, relative to it where that is
    more than 1."""
    mean: float
    """The mean over the rows of the largest difference of each, where that is largest: as one of those that opened it
    gave them, alone or in batches."""
    changed: int
    """Rows whose answer, as the card decides, is another one."""
    tolerance: Tolerance
    """How much of all this is allowed."""
    lost: float | None = None
    """Accuracy that is lost: right answers of the model, less those of the export, as a share of the rows, where that
    is largest (0: none is lost); None where the labels of the rows are not known."""

    def in_words(self) -> str:
        """A sentence for whoever exported."""
        kept = "no answer is another one" if not self.changed else f"{self.changed:,} answers are other ones"
        if self.changed and self.lost is not None:
            kept += f" ({self.lost:.1%} of accuracy is lost)" if self.lost > 0 else " (no accuracy is lost)"
        of = self.of if self.rows != 1 else self.of.removesuffix("s")
        return (
            f"Compared on {self.rows:,} {of}, alone and in batches, as {listing(self.opened_by)} opens it: scores are"
            f" within {self.difference:.2g} of fp32, {kept}."
        )


class Running(Protocol):
    """A process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Answers(NamedTuple):
    """What one asker said in one way."""

    by: AskedBy
    alone: bool
    scores: Scores


def pass_gate(
    folder: Path,
    name: str,
    kind: ExportKind,
    probe: Probe,
    task: Task,
    card: ModelCard,
    *,
    scratch: Path,
    code: Sequence[str] = (),
) -> Parity:
    """Ask an export of the kind `name`, and compare. `probe`: the rows, with the scores of the model in fp32; `task`,
    `card`: the model's own. `scratch`: an empty folder. ExportError where it does not answer, or not the same."""
    askers = [asker for asker in kind.asked_by if asker.suits(card)]
    asked = [(asker, alone) for asker in askers for alone in (True, False)]
    write_probe(probe, scratch)
    request = {
        "folder": str(folder),
        "code": list(code),
        "asked": [{"function": asker.function, "alone": alone} for asker, alone in asked],
    }
    write_text(scratch / REQUEST, json.dumps(request, allow_nan=False))
    _answer(scratch, name, kind, asked)
    answers = [Answers(*one, _read(scratch / f"answers-{number}.npz")) for number, one in enumerate(asked)]
    return compare(probe, answers, task.heads, name, kind)


def start_asking(scratch: Path) -> Running:
    """Start the process that answers; what it prints goes into the file `said`."""
    with (scratch / "said").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "textune.exports.asking", str(scratch)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _answer(scratch: Path, name: str, kind: ExportKind, asked: Sequence[tuple[AskedBy, bool]]) -> None:
    """Have it answered; ExportError where it is not."""
    process = start_asking(scratch)
    try:
        code = process.wait(LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"--to {name}: the process that opens the export did not answer within {LIMIT_SECONDS:g} s"
            f"{_last_line(scratch)}. Nothing was written.",
            hint=kind.instead,
            key="to",
            value=name,
            reason="it did not answer in time",
        ) from None
    finally:
        _end(process)
    if code == REFUSED and (scratch / REFUSAL).is_file():
        said = parse_json((scratch / REFUSAL).read_text(encoding="utf-8"))
        opened_by = asked[said["number"]][0].name
        raise ExportError(
            f"--to {name}: {opened_by} cannot use what was written: {said['message']} Nothing was written.",
            hint=kind.instead,
            key="to",
            value=name,
            reason=said["message"],
        )
    if code:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise ExportError(
            f"--to {name}: the process that opens the export {how}{_last_line(scratch)}. Nothing was written.",
            hint=kind.instead,
            key="to",
            value=name,
            reason=how,
        )


def _end(process: Running) -> None:
    """End it, and what it started."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING_SECONDS)


def _last_line(scratch: Path) -> str:
    try:
        text = (scratch / "said").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"; its last words: {lines[-1]}" if lines else ""


def _read(path: Path) -> Scores:
    with np.load(path, allow_pickle=False) as found:
        return {str(name): found[f"scores_{index}"] for index, name in enumerate(found["heads"])}


class _Wrong(NamedTuple):
    """The row whose score is farthest from the model's own."""

    difference: float
    row: int
    answers: Answers
    head: Head


def compare(probe: Probe, answers: Sequence[Answers], heads: Sequence[Head], name: str, kind: ExportKind) -> Parity:
    """Compare the answers with the scores of the probe; ExportError names the row that is farthest off."""
    changed_N = np.zeros(len(probe), dtype=bool)
    mean = 0.0
    lost: float | None = None
    first_changed: _Wrong | None = None
    worst: _Wrong | None = None
    for given in answers:
        _require_scores(probe, given, heads, name, kind)
        for head in heads:
            known, found = probe.scores[head.name], given.scores[head.name].astype(np.float64)
            apart_N = _apart(known, found)
            mean = max(mean, float(apart_N.mean()))
            row = int(apart_N.argmax())
            if worst is None or apart_N[row] > worst.difference:
                worst = _Wrong(float(apart_N[row]), row, given, head)
            others_N = _answered_otherwise(head, known, found)
            if first_changed is None and others_N.any():
                row = int(np.flatnonzero(others_N)[0])
                first_changed = _Wrong(float(apart_N[row]), row, given, head)
            changed_N |= others_N
            if (fewer := _fewer_right(head, probe, known, found)) is not None:
                lost = max(lost or 0.0, fewer)
    assert worst is not None
    found_parity = Parity(
        kind=name,
        rows=len(probe),
        of="validation rows" if probe.is_kept else "generated rows",
        opened_by=tuple(dict.fromkeys(given.by.name for given in answers)),
        difference=worst.difference,
        mean=mean,
        changed=int(changed_N.sum()),
        tolerance=kind.tolerance,
        lost=lost,
    )
    if worst.difference > kind.tolerance.score or mean > kind.tolerance.mean:
        raise _refusal(probe, worst, found_parity, name, kind)
    too_many = found_parity.changed > kind.tolerance.labels * len(probe) or (lost or 0.0) > kind.tolerance.lost + 1e-9
    if first_changed is not None and too_many:
        raise _refusal(probe, first_changed, found_parity, name, kind)
    return found_parity


def _require_scores(probe: Probe, given: Answers, heads: Sequence[Head], name: str, kind: ExportKind) -> None:
    """ExportError where an asker gave other heads, shapes, or what is no number."""
    reason = ""
    for head in heads:
        known, found = probe.scores[head.name], given.scores.get(head.name)
        of_head = f" of {head.name}" if len(heads) > 1 else ""
        if found is None:
            reason = f"it gives no scores of {head.name}"
        elif found.shape != known.shape:
            reason = f"it gives scores{of_head} of the shape {list(found.shape)}, not {list(known.shape)}"
        elif not np.isfinite(found).all():
            usable_N = np.isfinite(found).reshape(len(found), -1).all(axis=1)
            row = int(np.flatnonzero(~usable_N)[0])
            reason = f"its scores{of_head} of {_row(probe, row)} are not numbers (NaN or infinite)"
        if reason:
            raise ExportError(
                f"--to {name}: what was written is not the same model, as {given.by.name} opens it: {reason}. Nothing"
                " was written.",
                hint=kind.instead,
                key="to",
                value=name,
                reason=reason,
            )


def _apart(known: np.ndarray, found: np.ndarray) -> np.ndarray:
    """float64 [N] how far scores are from those that are known."""
    apart = np.abs(found - known)
    if known.ndim == 1:
        apart = apart / np.maximum(np.abs(known), 1.0)
    return np.asarray(apart.reshape(len(known), -1).max(axis=1))


def _answered_otherwise(head: Head, known: np.ndarray, found: np.ndarray) -> np.ndarray:
    """bool [N] whether an answer is another one, by the rule of the card; numbers are no answers."""
    if not head.label_map.choices:
        return np.zeros(len(known), dtype=bool)
    pairs = zip(shown(head, known).answers, shown(head, found).answers, strict=True)
    return np.array([before != after for before, after in pairs], dtype=bool)


def _fewer_right(head: Head, probe: Probe, known: np.ndarray, found: np.ndarray) -> float | None:
    """Right answers among the known ones, less those among the found ones, as a share of the rows; None for numbers,
    and where the labels are not known."""
    if not head.label_map.choices or head.name not in probe.targets:
        return None
    targets = head.answers.store(probe.targets[head.name])
    right = [head.answers.right(targets, head.answers.store(head.decide(scores))) for scores in (known, found)]
    return float(right[0].mean() - right[1].mean())


def _row(probe: Probe, row: int) -> str:
    """A row for a message."""
    if not probe.has_texts:
        return f"generated row {row + 1} ({count(len(probe.tokens[row]['ids']), 'token')})"
    text = next((cell for cell in probe.rows[row].values() if isinstance(cell, str) and cell), "")
    file = PROBE_NAME if probe.is_kept else "the generated rows"
    return f"row {row + 1} of {file}, {shorten(text, 40)}"


def _refusal(probe: Probe, wrong: _Wrong, parity: Parity, name: str, kind: ExportKind) -> ExportError:
    head, row, given = wrong.head, wrong.row, wrong.answers
    known, found = probe.scores[head.name][row : row + 1], given.scores[head.name][row : row + 1].astype(np.float64)
    how = "alone" if given.alone else "in a batch"
    of_head = f"{head.name} of " if len(parity.opened_by) and head.name != "label" else ""
    what = f"{of_head}{_row(probe, row)} {how}"
    if head.label_map.choices:
        column = int(np.abs(found - known)[0].argmax())
        label = head.labels[column]
        values = f"{label!r} {found[0, column]:.4g}, and the model {known[0, column]:.4g}"
    else:
        values = f"{float(found[0]):.6g}, and the model {float(known[0]):.6g}"
    allowed = f"{kind.tolerance.score:g} is allowed"
    if parity.mean > kind.tolerance.mean and parity.difference <= kind.tolerance.score:
        allowed = f"{allowed}; {parity.mean:.3g} on average, where {kind.tolerance.mean:g} is allowed"
    if parity.changed:
        share = f" and {kind.tolerance.labels:.1%} other answers" if kind.tolerance.labels else " and no other answer"
        allowed = f"{allowed}{share}; {parity.changed:,} of {count(parity.rows, 'row')} are answered otherwise"
    if parity.lost and parity.lost > kind.tolerance.lost + 1e-9:
        allowed = f"{allowed}; {parity.lost:.1%} of accuracy is lost, where {kind.tolerance.lost:.1%} is allowed"
    return ExportError(
        f"--to {name}: what was written does not answer as the model does. As {given.by.name} opens it, it gives"
        f" {what} {values}: {wrong.difference:.3g} apart ({allowed}). Nothing was written.",
        hint=kind.instead,
        key="to",
        value=name,
        place=_row(probe, row),
        reason=f"{wrong.difference:.2g} apart",
    )


def write_parity(parity: Parity, folder: Path) -> None:
    """Write `parity.json` beside an export."""
    write_text(folder / PARITY_NAME, json.dumps(asdict(parity), indent=2, allow_nan=False) + "\n")
