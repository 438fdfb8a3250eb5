"""A run holds no file of the user, and none of its own that it removes: looked up in the process's own list of
mappings."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.resume import end_of, same_end
from kits.runs import Listener, reviews

import textune
from textune.errors import Preempted

MAPS = Path("/proc/self/maps")
pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="this system does not list what a process has mapped")
SMALL = [
    "train.duration=8 steps",
    "train.log_every=1 step",
    "train.evaluate_every=8 steps",
    "train.checkpoint.every=2 steps",
    "train.compact_vocabulary=on",
    "model.compile=off",
    "data.test.kind=none",
]


class Looks(Listener):
    """At each step, the mapped files under some folders; stops the run after a step."""

    def __init__(self, *folders: Path, stop_after: int = 0) -> None:
        super().__init__()
        self.folders = folders
        self.stop_after = stop_after
        self.mapped: set[str] = set()
        self.steps = 0

    def step(self, values: Any) -> None:
        self.steps += 1
        lines = MAPS.read_text().splitlines()
        self.mapped |= {line.split(maxsplit=5)[-1] for line in lines if any(str(one) in line for one in self.folders)}
        if values["step"] == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_resumed_run_has_no_checkpoint_and_no_backbone_mapped(home: Path, tmp_path: Path) -> None:
    run, backbone = tmp_path / "run", shutil.copytree(home / "backbone", tmp_path / "backbone")
    words = [*SMALL, f"model.pretrained={backbone}"]
    first, second = Looks(run, backbone, stop_after=3), Looks(run, backbone)
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=run, overrides=words, tracker=first)
    textune.train(home / "config.toml", run=run, overrides=words, tracker=second, resume="latest")
    assert (first.steps, second.steps) == (3, 5)
    assert first.mapped == set() and second.mapped == set()


def test_a_backbone_that_is_overwritten_and_removed_meanwhile_does_not_matter(home: Path, tmp_path: Path) -> None:
    """Also of the token embeddings that are not trained, and of frozen weights."""
    words = [*SMALL, 'model.freeze=["*position_embeddings*"]']

    class Spoils(Listener):
        def step(self, values: Any) -> None:
            weights = tmp_path / "spoilt-backbone" / "model.safetensors"
            if values["step"] == 3 and weights.exists():
                with weights.open("r+b") as file:  # the same file, as `cp` writes it
                    size = weights.stat().st_size
                    file.write(b"\0" * size)
                    file.truncate(0)
                shutil.rmtree(weights.parent)

    for name, tracker in (("whole", Listener()), ("spoilt", Spoils())):
        backbone = shutil.copytree(home / "backbone", tmp_path / f"{name}-backbone")
        overrides = [*words, f"model.pretrained={backbone}"]
        textune.train(home / "config.toml", run=tmp_path / name, overrides=overrides, tracker=tracker)
    assert not (tmp_path / "spoilt-backbone").exists()
    same_end(end_of(tmp_path / "spoilt"), end_of(tmp_path / "whole"))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", ["arrow", "stream", "parquet", "saved"])
def test_no_file_of_rows_stays_mapped(home: Path, tmp_path: Path, kind: str) -> None:
    table = pa.Table.from_pylist(reviews(60))
    path = tmp_path / f"rows.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        pq.write_table(table, path, compression="none", use_dictionary=False)
    elif kind == "saved":
        datasets.Dataset.from_list(reviews(60)).save_to_disk(tmp_path / "saved")
    else:
        opened = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with opened(path, table.schema) as writer:
            writer.write_table(table)
    source = f'{{kind = "saved", folder = "{tmp_path / "saved"}"}}' if kind == "saved" else f'{{files = ["{path}"]}}'
    looks = Looks(tmp_path)
    words = [*SMALL, f"data.train={source}", "train.duration=1 step"]
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=words, tracker=looks)
    assert looks.steps == 1 and looks.mapped == set()
