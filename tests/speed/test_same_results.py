"""The comparison of recorded runs finds every kind of difference, and takes wording and times for what they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.same_results.__main__ import compare, kill_in_the_middle, middle_of
from bench.same_results.compare import compare_folders
from bench.same_results.runs import RUNS, settings_of
from textune.config.load import load_config


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_run(root: Path) -> Path:
    """A run folder with one of everything."""
    run = root / "binary" / "run"
    lines = [
        {"kind": "notice", "message": "it starts"},
        {"kind": "step", "step": 1, "loss": 0.1 + 0.2, "rows_per_second": 9.0},
    ]
    write(run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write(
        run / "report.json", json.dumps({"names": ["neg", "pos"], "metrics": {"accuracy": 0.5}, "notes": ["few rows"]})
    )
    write(run / "textune.json", json.dumps({"version": 1, "names": ["neg", "pos"], "max_length": 32}))
    write(run / "config.toml", f'[data.train]\nfiles = ["{root}/inputs/rows.csv"]  # overrides\n')
    write(run / "scores.csv", "text,label\na,pos\n")
    write(run / "lock", f"process {root}")
    for step in (5, 10, 11):
        folder = run / "checkpoints" / f"step-{step}"
        write(
            folder / "state.json",
            json.dumps({"step": step, "loader": {"next_step": step}, "progress": {"seconds": 1.0}}),
        )
        save_file(
            {"model/weight": torch.arange(3.0), "random/0": torch.tensor([1])}, folder / "state-1-of-1.safetensors"
        )
    write(run / "manifest.json", json.dumps({"status": "complete", "steps": 11, "rows": {"train": 4}}))
    return run


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_run(tmp_path / "old"), make_run(tmp_path / "new")


def differences(pair: tuple[Path, Path]) -> tuple[list[str], list[str]]:
    old, new = pair
    found = compare_folders(old, new, roots=(old.parents[1], new.parents[1]))
    return found.differences, found.notes


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / name).read_text(encoding="utf-8")
        assert old in text
        write(run / name, text.replace(old, new))

    return change


def test_records_in_two_places_are_equal(pair: tuple[Path, Path]) -> None:
    assert differences(pair) == ([], [])


def other_tensor(run: Path) -> None:
    weight = torch.tensor([0.0, 1.0, torch.nextafter(torch.tensor(2.0), torch.tensor(3.0)).item()])
    save_file(
        {"model/weight": weight, "random/0": torch.tensor([1])},
        run / "checkpoints" / "step-10" / "state-1-of-1.safetensors",
    )


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (replaced("metrics.jsonl", "0.30000000000000004", "0.3"), "metrics.jsonl step 1 loss"),
        (replaced("report.json", "0.5", "0.50000001"), "report.json metrics.accuracy"),
        (replaced("report.json", '"pos"', '"good"'), "report.json names.1"),
        (replaced("report.json", '"accuracy"', '"f1"'), "report.json metrics.accuracy"),
        (replaced("textune.json", "32", "33"), "textune.json max_length"),
        (replaced("scores.csv", "pos", "neg"), "scores.csv"),
        (replaced("config.toml", "rows.csv", "other.csv"), "config.toml data.train.files.0"),
        (
            replaced("checkpoints/step-5/state.json", '"next_step": 5', '"next_step": 6'),
            "step-5/state.json loader.next_step",
        ),
        (replaced("manifest.json", '"steps": 11', '"steps": 12'), "manifest.json steps"),
        (other_tensor, "checkpoints/step-10: the tensor model/weight"),
        (lambda run: write(run / "extra.txt", ""), "extra.txt"),
        (lambda run: (run / "scores.csv").unlink(), "scores.csv"),
    ],
)
def test_a_difference_is_found(pair: tuple[Path, Path], change: Callable[[Path], None], place: str) -> None:
    change(pair[1])
    found, _ = differences(pair)
    assert len(found) == 1 and place in found[0]


@pytest.mark.parametrize(
    ("change", "noted"),
    [
        (replaced("metrics.jsonl", "9.0", "10.0"), 0),
        (replaced("metrics.jsonl", "it starts", "It starts."), 0),
        (replaced("report.json", "few rows", "There are few rows."), 1),
        (replaced("textune.json", '"max_length"', '"length": 1, "max_length"'), 1),
        (replaced("config.toml", "# overrides", "# command line"), 1),
        (replaced("checkpoints/step-5/state.json", "1.0", "2.0"), 0),
    ],
)
def test_wording_and_times_are_no_results(pair: tuple[Path, Path], change: Callable[[Path], None], noted: int) -> None:
    change(pair[1])
    found, notes = differences(pair)
    assert (found, len(notes)) == ([], noted)


def test_a_run_that_is_missing_is_a_difference(pair: tuple[Path, Path]) -> None:
    old, new = (run.parents[1] for run in pair)
    shutil.rmtree(new / "binary")
    (found,) = compare(old, new, ["binary"])
    assert any("run" in difference for difference in found.differences)


def test_a_run_is_stopped_in_its_middle(pair: tuple[Path, Path], tmp_path: Path) -> None:
    run, target = pair[0], tmp_path / "stopped"
    kill_in_the_middle(run, target)
    assert middle_of(run) == 5
    assert [path.name for path in (target / "checkpoints").iterdir()] == ["step-5"]
    assert json.loads((target / "manifest.json").read_text()) == {"status": "running", "rows": {"train": 4}}
    assert not (target / "report.json").exists()


@pytest.mark.parametrize("name", RUNS)
def test_the_settings_are_those_of_a_config(name: str, tmp_path: Path) -> None:
    settings = settings_of(RUNS[name], tmp_path, tmp_path / "cache")
    experiment = load_config({}, settings).experiment
    assert experiment.model.pretrained == str(tmp_path / RUNS[name].backbone)
    assert str(tmp_path) in experiment.data.train.model_dump_json()
