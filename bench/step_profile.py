"""Where the time of a training step goes on a CPU: `python bench/step_profile.py examples/sst2.toml data.folder=PATH`.

Wall clock; with one thread (OMP_NUM_THREADS=1) processor time, which other work on the machine distorts less.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from textune.config.load import load_config
from textune.model.native.copies import WorkingCopy
from textune.pipeline.build import gather
from textune.run.tracking import SilentTracker
from textune.training import updates
from textune.training.learner import learner_alone
from textune.training.loop import steps

WARM_UP, STEPS = 6, 20


def main() -> None:
    """Time each part from outside, on the compiled path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    section = load_config(options.config, ["model.compile=on", *options.overrides]).experiment
    parts = gather(section, tracker=SilentTracker(), audit=False)
    seconds: dict[str, float] = defaultdict(float)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    def timed(owner: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return inner(*args, **kwargs)
            finally:
                seconds[part] += clock() - start

        setattr(owner, name, outer)

    kernels = parts.model.accelerator.kernels
    for name in ("attention", "norm", "activation"):
        timed(kernels, name, f"{name} kernel")
        timed(kernels, f"{name}_backward", f"{name} kernel")
    timed(torch.Tensor, "__matmul__", "matrix products of the layers")
    timed(torch, "addmm", "matrix products of the layers")
    timed(torch.Tensor, "float", "gradients to fp32")
    timed(WorkingCopy, "get", "copies of weights")
    timed(updates, "update_weights", "gradient norm, clipping, AdamW")
    run = steps(
        learner_alone(parts.model, section.train, parts.device),
        parts.task,
        parts.loader(parts.training_rows()),
        section.train,
        total_steps=WARM_UP + STEPS,
        warmup_steps=WARM_UP,
    )
    for _ in range(WARM_UP):
        next(run)
    seconds.clear()
    start = clock()
    for _ in range(STEPS):
        next(run)
    whole = clock() - start
    seconds["everything else"] = whole - sum(seconds.values())
    for part, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{part:32} {spent / STEPS * 1e3:7.1f} ms")
    print(f"{'whole step':32} {whole / STEPS * 1e3:7.1f} ms   ({parts.device})")


if __name__ == "__main__":
    main()
