"""The work before the first batch of a resumed run does not grow with the step (R4): rows are counted, not seconds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.batches import loader_of, rows_of, store_of
from kits.resumption import Kit, quick, record

import textune.batches.assembler as assembler_module
import textune.batches.plan as plan_module
from textune.batches.store import TokenStore
from textune.config.schema import RowOrder, TrainSection
from textune.training.loop import StepResult

NUM_ROWS, BATCH = 20_000, 8


def counted(patch: pytest.MonkeyPatch) -> Counter[str]:
    """How many epochs are planned, and rows put into batches, from now on."""
    counts: Counter[str] = Counter()
    real_plan, real_collate = plan_module.plan_epoch, assembler_module.collate

    def plan(*args: Any, **kwargs: Any) -> Any:
        counts["epochs"] += 1
        return real_plan(*args, **kwargs)

    def collate(store: TokenStore, indices: np.ndarray, **kwargs: Any) -> Any:
        counts["rows"] += len(indices)
        return real_collate(store, indices, **kwargs)

    patch.setattr(plan_module, "plan_epoch", plan)
    patch.setattr(assembler_module, "collate", collate)
    return counts


@pytest.mark.parametrize("order", ["shuffle", "bucket", "sequential", "weighted"])
def test_the_first_batch_behind_any_step_takes_one_plan_and_one_batch(
    monkeypatch: pytest.MonkeyPatch, order: RowOrder
) -> None:
    lengths = np.random.default_rng(0).integers(1, 9, NUM_ROWS)
    rows = rows_of(store_of(lengths), np.zeros(NUM_ROWS, dtype=np.int64), np.ones(NUM_ROWS, dtype=np.float32))
    section = TrainSection(batch_size=BATCH, order=order, prefetch=0)
    steps_per_epoch = NUM_ROWS // BATCH
    counts = counted(monkeypatch)
    for step in (1, steps_per_epoch - 1, 100 * steps_per_epoch, 10_000 * steps_per_epoch + 1234):
        counts.clear()
        batches = iter(loader_of(rows, section, state={"next_step": step, "max_tokens": 1000}))
        assert next(batches).step == step
        batches.close()
        assert counts == {"epochs": 1, "rows": BATCH}


def test_a_resumed_run_does_the_same_work_wherever_it_goes_on(home: Path, tmp_path: Path) -> None:
    kit = Kit.of(
        home / "config.toml", ["train.prefetch=0", "train.duration=40 steps", "train.evaluate_every=40 steps"]
    )
    work: dict[int, dict[str, int]] = {}
    with quick():
        whole = record(kit, tmp_path / "whole")
        for step in (1, 39):
            with pytest.MonkeyPatch.context() as patch:
                counts = counted(patch)

                def first(result: StepResult, counts: Counter[str] = counts, step: int = step) -> None:
                    if result.step == step + 1:
                        work[step] = dict(counts)

                kit.run(whole.at(step, tmp_path / f"from-{step}"), resume="latest", after_step=first)
    # One epoch is planned for the facts of the run, one to train.
    assert work[1] == work[39] == {"epochs": 2, "rows": 32}
