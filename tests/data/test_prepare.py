"""The steps of preparing data together: a task without labels, and shares of one source."""

from pathlib import Path

import numpy as np
from kits.runs import write_csv

from textune.config.sources import DataSection, FilesSource, SplitOff
from textune.data.prepare import prepare_data


def test_a_task_without_labels_needs_no_column_of_them(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "texts.csv", [{"text": f"text {number}"} for number in range(20)])
    section = DataSection(train=FilesSource(files=(str(path),)), validation=SplitOff(count=4), test=SplitOff(count=3))
    data = prepare_data(section, kind=None)
    assert not data.label_maps
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 13, "validation": 4, "test": 3}
    assert all(split.targets == {} and split.chosen_targets == {} for split in data.splits.values())
    chosen = np.concatenate([split.indices for split in data.splits.values()])
    assert sorted(chosen.tolist()) == list(range(20))
    assert len({id(split.examples) for split in data.splits.values()}) == 1
