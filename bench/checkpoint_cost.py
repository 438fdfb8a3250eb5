"""What a checkpoint costs: `python bench/checkpoint_cost.py examples/sst2.toml data.folder=PATH`.

Trains in one process, in turns: a stretch of steps without saving, then one with a checkpoint every so many steps, and so on,
so that whatever else the machine does meets both. Prints a line for people on standard error and JSON on standard output:
seconds that a step waits for the copy, seconds of writing in the thread, bytes, and the share that saving adds to a step.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from textune.config.load import load_config
from textune.config.sharing import Checkpointing
from textune.pipeline.build import gather
from textune.ranks import ALONE
from textune.run.parts import Ingredients
from textune.run.tracking import SilentTracker
from textune.training.keeper import CheckpointKeeper
from textune.training.learner import Learner, learner_alone
from textune.training.loop import StepResult, steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--pairs", type=int, default=6, help="stretches without and with saving")
    parser.add_argument("--steps", type=int, default=20, help="steps of a stretch")
    parser.add_argument("--every", type=int, default=10, help="steps between two checkpoints")
    parser.add_argument("--folder", help="where to write, on the disk to measure; by default the system's folder for such")
    parser.add_argument("--foreground", action="store_true", help="write without a thread")
    options = parser.parse_args()
    if options.every > options.steps:
        parser.error("--every is larger than --steps: a stretch would save nothing")
    parts = gather(load_config(options.config, options.overrides).experiment, tracker=SilentTracker(), audit=False)
    scratch = Path(tempfile.mkdtemp(prefix="checkpoint-cost-", dir=options.folder))
    try:
        result = measure(parts, scratch, options)
    finally:
        shutil.rmtree(scratch)
    json.dump(result, sys.stdout, indent=2, allow_nan=False)
    print()
    print(
        f"{result['bytes'] / 1e6:,.1f} MB: a step waits {result['copy_seconds'] * 1e3:.1f} ms for the copy, writing takes"
        f" {result['write_seconds'] * 1e3:.0f} ms; a step takes {result['step_seconds'] * 1e3:.1f} ms, and"
        f" {result['added_share']:+.1%} with a checkpoint every {options.every} steps",
        file=sys.stderr,
    )


def measure(parts: Ingredients, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures, each the median over stretches or checkpoints; the first stretch of steps warms up and is left out."""
    learner = learner_alone(parts.model, parts.experiment.train, parts.device)
    keeper = CheckpointKeeper(folder, Checkpointing(background=not options.foreground), ALONE)
    keeper.begin(0)
    copies = timed(keeper, "_snapshot")
    writes = timed(keeper, "_write")
    results = endless(parts, learner)
    walk(results, options.steps)
    plain: list[float] = []
    saving: list[float] = []
    for _ in range(options.pairs):
        plain.append(walk(results, options.steps))
        saving.append(walk(results, options.steps, every=options.every, save=saver(keeper, learner)))
        keeper.finish()  # outside of both: what is left of the last checkpoint would be counted against the next stretch
    results.close()
    newest = folder / f"step-{keeper.last_step}"
    return {
        "bytes": sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()),
        "copy_seconds": statistics.median(copies),
        "write_seconds": statistics.median(writes),
        "step_seconds": statistics.median(plain) / options.steps,
        "step_seconds_saving": statistics.median(saving) / options.steps,
        # In pairs: the two of a pair ran one after the other.
        "added_share": statistics.median(with_saving / without - 1 for without, with_saving in zip(plain, saving, strict=True)),
        "pairs": [{"without": without, "with": with_saving} for without, with_saving in zip(plain, saving, strict=True)],
        "checkpoints": len(writes),
        "every": options.every,
        "steps_per_stretch": options.steps,
        "background": not options.foreground,
        "parameters": sum(parameter.numel() for parameter in parts.model.parameters()),
        "device": str(parts.device),
    }


def timed(owner: Any, name: str) -> list[float]:
    """The seconds of each call of a method, from now on."""
    seconds: list[float] = []
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return inner(*args)
        finally:
            seconds.append(time.perf_counter() - start)

    setattr(owner, name, outer)
    return seconds


def saver(keeper: CheckpointKeeper, learner: Learner) -> Callable[[int], None]:
    """Saves as a run does: a checkpoint that is due while the last is still being written waits for a later step."""

    def save(step: int) -> None:
        if keeper.unfinished and not keeper.busy:
            keeper.completed()
        if not keeper.unfinished:
            keeper.save(learner, step, {"step": step})

    return save


def endless(parts: Ingredients, learner: Learner) -> Generator[StepResult]:
    """Steps of one run that is long enough for any number of stretches."""
    section = parts.experiment.train
    return steps(learner, parts.task, parts.loader(parts.training_rows()), section, total_steps=1 << 40, warmup_steps=1)


def walk(
    results: Generator[StepResult], count: int, *, every: int = 0, save: Callable[[int], None] = lambda step: None
) -> float:
    """Seconds of so many steps; the last loss is read, so that a GPU has done its work."""
    start = time.perf_counter()
    loss = None
    for number in range(1, count + 1):
        result = next(results)
        loss = result.loss
        if every and number % every == 0:
            save(result.step)
    assert loss is not None
    float(loss)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
