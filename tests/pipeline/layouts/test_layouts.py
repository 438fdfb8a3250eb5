"""Files of other systems beside a run's own: written once training has ended, and again when it is resumed."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from kits.errors import refused

import textune
from textune.config.schema import TrainSection
from textune.errors import RunError
from textune.pipeline.layouts.table import LAYOUTS


@pytest.fixture
def run(trained: Any, tmp_path: Path) -> Path:
    """A copy of the shared run, which is complete."""
    return Path(shutil.copytree(trained[0].run, tmp_path / "run"))


def test_the_configuration_names_every_layout() -> None:
    assert get_args(TrainSection.model_fields["layout"].annotation) == ("textune", *LAYOUTS)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("huggingface", "all_results.json"),
        ("training-wizard", "final_checkpoint/model.safetensors"),
        ("azureml", "model.safetensors"),
    ],
)
def test_a_run_has_the_files_of_its_layout_and_a_resumed_one_gets_them_back(
    run: Path, home: Path, layout: str, file: str
) -> None:
    config = home / "config.toml"
    textune.train(config, run=run, resume="latest", overrides={"train.layout": layout})
    written = (run / file).read_bytes()
    (run / file).unlink()
    textune.train(config, run=run, resume="latest", overrides={"train.layout": layout})
    assert (run / file).read_bytes() == written


def test_a_new_run_has_them_once_it_has_ended(home: Path, tmp_path: Path) -> None:
    changed = {"train.layout": "huggingface", "train.duration": "1 steps"}
    result = textune.train(home / "config.toml", run=tmp_path / "new", overrides=changed)
    found = json.loads((tmp_path / "new" / "all_results.json").read_text(encoding="utf-8"))
    assert found["eval_accuracy"] == result.reports["validation"].metrics["accuracy"]
    assert found["eval_samples"] == result.reports["validation"].num_rows


def test_a_name_that_is_taken_is_a_sentence(run: Path, home: Path) -> None:
    (run / "all_results.json").mkdir()
    with refused(RunError, place="all_results.json", reason="irectory"):
        textune.train(home / "config.toml", run=run, resume="latest", overrides={"train.layout": "huggingface"})
