"""Imports without a search for garbage: the collector is left as it was found. A run that imports no package of an
extra."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.runs import reviews, write_csv

import textune
from textune.cli import main
from textune.imports import importing


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("for_good", [False, True])
def test_nothing_is_collected_meanwhile_and_everything_afterwards(for_good: bool) -> None:
    with importing(for_good=for_good):
        assert not gc.isenabled()
    assert gc.isenabled() and (gc.get_freeze_count() > 0) == for_good


def test_an_error_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_a_collector_that_someone_set_is_left_alone() -> None:
    gc.disable()
    with importing():
        assert not gc.isenabled()
    assert not gc.isenabled()
    gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    with importing(for_good=True):
        assert gc.isenabled()
    assert 0 < gc.get_freeze_count() <= frozen  # objects die meanwhile, but no more are frozen


def test_verbs_freeze_what_they_import_and_the_library_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert issubclass(textune.__getattr__("TextuneError"), Exception)
    assert gc.isenabled() and gc.get_freeze_count() == 0
    with pytest.raises(SystemExit):
        main(["info", "nowhere"])
    assert "nowhere does not exist" in capsys.readouterr().err
    assert gc.isenabled() and gc.get_freeze_count() > 0


OF_EXTRAS = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "matplotlib",
    "pandas",
    "scipy",
    "sentence_transformers",
    "sklearn",
)
WITHOUT_EXTRAS = f"""
import importlib.machinery, sys
class WithoutExtras(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {OF_EXTRAS} else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = WithoutExtras
from textune.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_run_needs_no_package_of_an_extra(tmp_path: Path) -> None:
    """With correlations and their intervals. Where such packages are installed, transformers and pyarrow import
    some."""
    rows = write_csv(tmp_path / "rows.csv", reviews(60))
    backbone = tiny_backbone("bert", tmp_path / "backbone")
    config = tmp_path / "config.toml"
    config.write_text(
        f"data.train.files = '{rows}'\ndata.columns.label = 'number'\ndata.validation.count = 20\n"
        f"model.pretrained = '{backbone}'\ntrain.duration = '2 steps'\ntrain.schedule.warmup = '0 steps'\n"
    )
    code = [sys.executable, "-c", WITHOUT_EXTRAS, "train", str(config), "--run", str(tmp_path / "run")]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(code, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "spearman" in done.stdout and "(BCa bootstrap)" in done.stdout
