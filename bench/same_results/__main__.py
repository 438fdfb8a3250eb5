"""Records runs, resumes those of another record, and says what differs: the command line of `bench.same_results`."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers.utils import logging

import bench.same_results
import textune
from bench.same_results.compare import Comparison, compare_folders
from bench.same_results.runs import RUNS, make_inputs, settings_of

TEXTS = ["a great film and the music was sad", "dull", ""]
"""What `textune.load(...)` predicts, one column of it."""


# --- recording -------------------------------------------------------------------------------------------------------


class _Stopper:
    """A tracker that stops the run as a scheduler does."""

    def __init__(self, step: int) -> None:
        self._step = step

    def step(self, values: dict[str, Any]) -> None:
        """A logged step."""
        if values["step"] == self._step:
            signal.raise_signal(signal.SIGTERM)

    def state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def __getattr__(self, name: str) -> Any:
        """Whatever else trackers are told."""
        return lambda *_, **__: None


def train(record: Path, name: str, folder: Path, *, resume: str | None = None, tracker: Any = None) -> None:
    """One run with the inputs of a record; the process's own random generators always start alike."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    settings = settings_of(RUNS[name], record / "inputs", record / "tokens")
    with contextlib.redirect_stdout(io.StringIO()):
        textune.train({}, run=folder, overrides=settings, resume=resume, tracker=tracker)


def train_all(folder: Path, names: Sequence[str], *, old: Path | None = None, is_new: bool = True) -> None:
    """`train_runs`, with those of several processes at the same time as the others."""
    several = [name for name in names if RUNS[name].processes > 1]
    with ThreadPoolExecutor(1) as aside:
        trained = aside.submit(_in_processes, several, folder, old, is_new) if several else None
        train_runs([name for name in names if name not in several], folder, old=old, is_new=is_new)
        if trained is not None:
            trained.result()


def _in_processes(names: Sequence[str], folder: Path, old: Path | None, is_new: bool) -> None:
    """`train_runs` in several processes, all runs in the same ones: starting them takes longer than the runs."""
    number = max(RUNS[name].processes for name in names)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    words = ["-m", "bench.same_results", "train", str(folder), *(["--old", str(old)] if old else [])]
    words += [*([] if is_new else ["--only-old"]), "--runs", *names]
    done = subprocess.run([sys.executable, "-P", *launcher, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"torchrun ended with {done.returncode}:\n{done.stderr[-3000:]}")


def train_runs(names: Iterable[str], folder: Path, *, old: Path | None, is_new: bool) -> None:
    """Train and resume runs, where `is_new`; and resume those of another record, where there is one."""
    for name in names:
        began = time.monotonic()
        if is_new:
            train_and_resume(folder, name)
        if old is not None:
            resume_old(old, folder, name)
        print(f"{name:12} {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)


def train_and_resume(folder: Path, name: str) -> None:
    """The run, its twin that is resumed in the middle, and one that a signal stops."""
    place, step = folder / name, RUNS[name].stops_at
    train(folder, name, place / "run")
    with first_copies() as is_first:
        if is_first:
            kill_in_the_middle(place / "run", place / "twin")
    train(folder, name, place / "twin", resume="latest")
    if step is None:
        return
    try:
        train(folder, name, place / "stopped", tracker=_Stopper(step))
    except textune.TextuneError as stop:
        if "SIGTERM" not in str(stop):
            raise
    else:
        raise RuntimeError(f"{name} was not stopped after step {step}")


def resume_old(old: Path, new: Path, name: str) -> None:
    """The run of another record from its middle to its end, and from where a signal had stopped it."""
    target = new / name / "resumed"
    with first_copies() as is_first:
        if is_first:
            kill_in_the_middle(old / name / "run", target)
    train(new, name, target, resume="latest")
    if (old / name / "stopped").is_dir():
        target = shutil.copytree(old / name / "stopped", new / name / "continued")
        train(new, name, target)


@contextlib.contextmanager
def first_copies() -> Iterator[bool]:
    """Whether this process is the one that copies for all; the others continue when it has."""
    yield os.environ.get("RANK", "0") == "0"
    if dist.is_initialized():
        dist.barrier()


def middle_of(run: Path) -> int:
    """The last checkpoint in the first half of a run."""
    steps = sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))
    return max(step for step in steps if step <= steps[-1] // 2)


def kill_in_the_middle(run: Path, target: Path) -> None:
    """Copy a complete run as SIGKILL would have left it before the checkpoint that follows the middle one."""
    shutil.copytree(run, target, ignore=shutil.ignore_patterns("evaluations", "report*"))
    middle = middle_of(run)
    for path in (target / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > middle:
            shutil.rmtree(path)
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    late = ("finished", "steps", "best_step", "seconds", "notices", "metrics")
    manifest = {key: value for key, value in manifest.items() if key not in late} | {"status": "running"}
    (target / "manifest.json").write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def finish(folder: Path, name: str) -> None:
    """Evaluate, predict, export and check a trained run."""
    place, inputs = folder / name, folder / "inputs"
    run, outputs = place / "run", place / "outputs"
    outputs.mkdir()
    textune.evaluate(run, data=str(inputs / "second.csv"))
    predict = ["predict", str(run), "--data", str(inputs / "unlabelled.csv"), "--output"]
    run_command(*predict, str(outputs / "labels.csv"))
    for target in ("scores.csv", "scores.jsonl"):
        run_command(*predict, str(outputs / target), "--all-scores")
    if RUNS[name].is_int8:
        run_command(*predict, str(outputs / "int8.csv"), "--all-scores", "--precision", "int8")
    run_command("export", str(run / "checkpoints" / f"step-{middle_of(run)}"), "--out", str(place / "exported"))
    model = textune.load(run)
    if not {"data.columns.text_pair", "data.columns.template"} & RUNS[name].settings.keys():
        _write_json(outputs / "predicted.json", [one._asdict() for one in model.predict(TEXTS)])
    if RUNS[name].processes == 1:
        found = textune.check({}, overrides=settings_of(RUNS[name], inputs, folder / "tokens"), timing=False)
        _write_json(outputs / "checked.json", found.to_dict())


def _write_json(path: Path, tree: Any) -> None:
    path.write_text(json.dumps(tree, indent=1, allow_nan=False), encoding="utf-8")


def run_command(*words: str) -> None:
    """`textune WORDS` in this process; RuntimeError where it fails."""
    before, said, code = sys.argv, io.StringIO(), 0
    sys.argv = ["textune", *words]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            runpy.run_module("textune", run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = before
    if code:
        raise RuntimeError(f"textune {' '.join(words)} ended with {code}: {said.getvalue()}")


# --- the verbs -------------------------------------------------------------------------------------------------------


def record(folder: Path, names: Sequence[str], *, old: Path | None = None) -> None:
    """Train, resume, evaluate, predict and export runs; with `old`, resume those of that record too, with its
    inputs."""
    if old is None:
        make_inputs(folder / "inputs")
    else:
        shutil.copytree(old / "inputs", folder / "inputs")
    train_all(folder, names, old=old)
    for name in names:
        finish(folder, name)


def compare(old: Path, new: Path, names: Iterable[str], allowed: Sequence[str] = ()) -> list[Comparison]:
    """The runs of two records: what was trained, the resumed twin with the old uninterrupted run, and what was
    predicted."""
    results = []
    for name in names:
        found = Comparison(name)
        for mine, theirs in (("run", "run"), ("run", "twin"), ("exported", "exported"), ("outputs", "outputs")):
            pair = (old / name / mine, new / name / theirs)
            is_resumed = theirs == "twin"
            found.add(theirs, compare_folders(*pair, roots=(old, new), is_resumed=is_resumed, allowed=allowed))
        results.append(found)
    return results


def compare_resumed(old: Path, new: Path, names: Iterable[str], allowed: Sequence[str] = ()) -> list[Comparison]:
    """The old runs that the new code resumed, with the old uninterrupted ones."""
    results = []
    for name in names:
        kept = f"checkpoints/step-{RUNS[name].stops_at}/*"  # saved at the signal
        found = Comparison(f"{name}, resumed")
        for kind in ("resumed", "continued") if RUNS[name].stops_at else ("resumed",):
            pair, files = (old / name / "run", new / name / kind), [*allowed, kept]
            found.add(kind, compare_folders(*pair, roots=(old, new), is_resumed=True, allowed=files))
        results.append(found)
    return results


def report(results: Sequence[Comparison], *, notes: bool, most: int) -> int:
    """Print a line for each run and its differences; the exit code."""
    for found in results:
        print(found.line())
        for difference in found.differences[:most]:
            print(f"    {difference}")
        if len(found.differences) > most:
            print(f"    and {len(found.differences) - most} more (--most)")
        for note in found.notes if notes else ():
            print(f"    note: {note}")
    return int(any(found.differences for found in results))


def run_verb(given: argparse.Namespace) -> int:
    """What the command line asks for."""
    if given.verb == "train":
        dist.init_process_group("gloo")  # once for all runs
        train_runs(given.runs, given.new, old=given.old, is_new=not given.only_old)
        dist.destroy_process_group()
        return 0
    show, allowed = {"notes": given.notes, "most": given.most}, given.allow_file
    if given.verb == "record":
        record(given.new, given.runs)
        return 0
    if given.verb == "compare":
        return report(compare(given.old, given.new, given.runs, allowed), **show)
    with tempfile.TemporaryDirectory(prefix="same-results-") as scratch:
        new = Path(scratch)
        if given.verb == "check":
            record(new, given.runs, old=given.old)
            results = compare(given.old, new, given.runs, allowed)
        else:
            shutil.copytree(given.old / "inputs", new / "inputs")
            train_all(new, given.runs, old=given.old, is_new=False)
            results = []
        return report([*results, *compare_resumed(given.old, new, given.runs, allowed)], **show)


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.same_results", description=(bench.same_results.__doc__ or "").partition("\n")[0]
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    folders = {"record": ["new"], "compare": ["old", "new"], "resume": ["old"], "check": ["old"], "train": ["new"]}
    for verb, names in folders.items():
        one = verbs.add_parser(verb)
        for name in names:
            one.add_argument(name, type=_folder)
        if verb == "train":  # a process of several, as torchrun starts it
            one.add_argument("--old", type=_folder)
            one.add_argument("--only-old", action="store_true")
        one.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS), metavar="NAME")
        one.add_argument("--notes", action="store_true", help="Print what differs without being a result.")
        one.add_argument("--most", type=int, default=8, help="Differences printed of each run.")
        one.add_argument("--allow-file", action="append", default=[], help="Pattern of files that may come or go.")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    if given.verb != "compare":
        print(f"textune of {Path(textune.__file__).parent}, torch {torch.__version__}", file=sys.stderr, flush=True)
    return run_verb(given)


def _folder(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main())
