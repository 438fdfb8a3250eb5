"""The steps of preparing data together: a task without labels, and shares of one source."""

from pathlib import Path

import numpy as np
import pytest
from kits.errors import refused
from kits.runs import write_csv

from textune.config.sources import ConcatSource, DataSection, FilesSource, SplitOff
from textune.data.prepare import prepare_data
from textune.errors import DataError


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


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ("train", "data.train.exclude"),
        ("validation", "data.validation.exclude"),
        ("part", "data.train.sources[1].exclude"),
        ("news", "data.evaluations.news.exclude"),
    ],
)
def test_a_file_that_is_not_left_out_is_named_with_the_place_of_its_source(
    tmp_path: Path, wrong: str, key: str
) -> None:
    path = write_csv(tmp_path / "rows.csv", [{"text": f"text {number}", "label": number % 2} for number in range(8)])
    plain = {name: FilesSource(files=(str(path),)) for name in ("train", "validation", "news", "part")}
    sources = plain | {wrong: FilesSource(files=(str(path),), exclude=("other.csv",))}
    section = DataSection(
        train=ConcatSource(sources=(sources["train"], sources["part"])) if wrong == "part" else sources["train"],
        validation=sources["validation"],
        evaluations={"news": sources["news"]},
    )
    with refused(DataError, key=key, value="other.csv", reason="it names no file"):
        prepare_data(section, kind="auto")
