"""A recorded loss curve: 100 steps in fp32 on one thread of a CPU, byte for byte on the build that recorded it.

`python tests/training/test_golden.py` records it anew, after a change that is meant to change the numbers.
"""

from __future__ import annotations

import hashlib
import json
import platform
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import loader_of, rows_of, store_of
from kits.runs import threads

from textune.config.schema import ModelSection, TrainSection
from textune.config.taskkinds import MulticlassTask
from textune.config.updaterules import AdamW
from textune.data.labels.map import LabelMap
from textune.model.device import Device
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer
from textune.tasks.task import build_task
from textune.training.learner import learner_alone
from textune.training.loop import steps

RECORDED = Path(__file__).with_name("golden_losses.json")
STEPS = 100


def losses(folder: Path) -> list[float]:
    """The losses of 100 steps with dropout, warm-up, decay, clipping and micro-batches."""
    task = build_task(MulticlassTask(), {"label": LabelMap("multiclass", ("a", "b", "c"))})
    generator = np.random.default_rng(0)
    targets = np.arange(96) % 3
    lengths = generator.integers(1, 20, 96)
    ids = np.concatenate(
        [generator.integers(60 + 20 * t, 80 + 20 * t, n) for t, n in zip(targets, lengths, strict=True)]
    )
    store = store_of(lengths, ids)
    section = ModelSection(pretrained=str(tiny_backbone("bert", folder)), compile="off")
    model = load_model(section, load_tokenizer(section), label_maps=task.label_maps, num_logits=3, seed=0)
    keys = TrainSection(batch_size=16, max_tokens=64, optimizer=AdamW(lr=1e-3))
    loader = loader_of(rows_of(store, targets), keys, layout=model.layout, pad_id=model.pad_id)
    device = Device(torch.device("cpu"), "fp32")
    with threads(1):
        results = steps(learner_alone(model, keys, device), task, loader, keys, total_steps=STEPS, warmup_steps=10)
        return [float(result.loss) for result in results]


def build() -> dict[str, str]:
    """What decides the last bits of a sum."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else [platform.processor()]
    features = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    return {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "processor": hashlib.sha256(features.encode()).hexdigest()[:16],
    }


def as_hex(values: list[float]) -> list[str]:
    return [struct.pack(">f", value).hex() for value in values]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses(tmp_path_factory.mktemp("one"))


def test_two_runs_have_the_same_bytes(ours: list[float], tmp_path: Path) -> None:
    assert as_hex(ours) == as_hex(losses(tmp_path / "two"))


def test_the_recorded_curve(ours: list[float]) -> None:
    """Elsewhere sums are added in another order: close, and learning as fast."""
    recorded: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    theirs = [struct.unpack(">f", bytes.fromhex(value))[0] for value in recorded["losses"]]
    assert np.mean(ours[-10:]) < 0.5 * np.mean(ours[:10])
    if build() == recorded["build"]:
        assert as_hex(ours) == recorded["losses"]
    else:
        assert ours == pytest.approx(theirs, abs=0.02)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        RECORDED.write_text(json.dumps({"build": build(), "losses": as_hex(losses(Path(scratch)))}, indent=1) + "\n")
