"""What a run has come to, and whether two runs have come to the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from textune.training.checkpoint import newest

TIMES = {"tokens_per_second", "rows_per_second"}


@dataclass(frozen=True)
class End:
    """Everything that two runs must share: tensors of the last checkpoint and of the best model, state, lines, reports."""

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]
    best: dict[str, torch.Tensor]
    lines: list[dict[str, Any]]
    report: dict[str, Any]


def end_of(run: Path) -> End:
    checkpoint, passed = newest(run / "checkpoints")
    assert checkpoint is not None and passed == []
    # The generators of the process are kept for code of the user's own; no other test is to touch them here.
    tensors = {name: checkpoint.read(name) for name in checkpoint.names if not name.startswith("random/")}
    state = {key: value for key, value in checkpoint.state.items() if key not in ("trackers", "config", "machine")}
    state["progress"] = {key: value for key, value in state["progress"].items() if key != "seconds"}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in lines if line["kind"] != "notice"]
    report = json.loads((run / "report.json").read_text())
    return End(tensors, state, load_file(run / "best" / "model.safetensors"), lines, report)


def same_end(one: End, other: End) -> None:
    """Bit for bit."""
    for mine, theirs in ((one.tensors, other.tensors), (one.best, other.best)):
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert one.state == other.state
    assert one.lines == other.lines
    assert one.report == other.report
