"""docs/sweeping.md and examples/sweep.toml: every example is carried out, and the table of keys has all of them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.config.fields import keys_of
from textune.config.sweeping import load_sweep
from textune.config.sweepkeys import OptunaSearch, RandomSearch, Stage, Sweep
from textune.studies.sweep import sweep
from textune.studies.sweepplan import plan_sweep

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sweeping.md").read_text(encoding="utf-8")
EXAMPLES = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)]
QUICK = {"train.duration": "2 steps", "evaluate.bootstrap": 20, "train.evaluate_every": "2 steps"}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: "-".join(sorted(example.keys() - {"config"})))
def test_an_example_of_the_page_is_carried_out(example: dict[str, Any], tmp_path: Path) -> None:
    result = textune.sweep(example, run=tmp_path / "s", overrides=QUICK)
    assert result.best is not None and result.exit_code == 0 and result.test is not None
    written = {path.name for path in (tmp_path / "s").iterdir()}
    assert {"study.json", "sweep.md", "sweep.json", "sweep.svg", "best.toml"} <= written


def test_the_page_names_a_run_folder_that_the_first_example_has() -> None:
    (stage,) = plan_sweep(EXAMPLES[0]).stages
    assert "lr=0.001,batch_size=16" in [cell.name for cell in stage.cells] and "`lr=0.001,batch_size=16/`" in PAGE


def test_the_example_file_is_a_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    dry = sweep(ROOT / "examples" / "sweep.toml", dry_run=True)
    assert len(dry.stages[0].cells) == 6 and dry.folder == Path("runs/sweep")
    assert all(cell.loaded is not None for cell in plan_sweep(ROOT / "examples" / "sweep.toml").stages[0].cells)


def test_the_table_of_keys_is_that_of_the_file() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", PAGE.partition("## Keys")[2], re.MULTILINE))
    assert rows.keys() == set(keys_of(Sweep))
    for name, section in (("random", RandomSearch), ("optuna", OptunaSearch)):
        assert set(re.findall(r"`(\w+)`", rows[name])) == set(keys_of(section))
    own = set(keys_of(Stage)) - {"grid", "together", "random", "optuna"}
    assert set(re.findall(r"`(\w+)`", rows["stages"])) == own
    assert load_sweep(EXAMPLES[0]).sweep.jobs == 1 and "| `jobs` | 1 |" in PAGE
