"""`textune report`: the page and the model card of a run again, from its files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from kits.reports import classes_report

from textune.cli import commands
from textune.errors import RunError
from textune.pipeline.report import report

OLD = Path(__file__).parents[1] / "data-of-versions" / "0.1.0"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A run of the first version, with a report as that version wrote it."""
    run = Path(shutil.copytree(OLD / "run", tmp_path / "old"))
    tree = classes_report(2, 60).to_dict()
    del tree["drawn"]
    (run / "report.json").write_text(json.dumps(tree))
    return run


def test_a_run_of_the_first_version_gets_a_page(old_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in old_run.iterdir() if path.is_file()}
    written = report(old_run)
    assert set(written) == {"report.html", "model-card.md"}
    page = written["report.html"].read_text()
    assert "What the audit of the rows found was not kept with this run" in page
    assert 'data-figure="loss"' in page
    assert {path.name: path.read_bytes() for path in old_run.iterdir() if path.name in before} == before


def test_twice_the_same(old_run: Path) -> None:
    first = {name: path.read_bytes() for name, path in report(old_run).items()}
    assert {name: path.read_bytes() for name, path in report(old_run).items()} == first


def test_the_verb_says_what_it_wrote(old_run: Path) -> None:
    done = CliRunner().invoke(commands, ["report", str(old_run), "--json"])
    assert json.loads(done.stdout)["report.html"] == str(old_run / "report.html")


def test_a_run_without_a_report_says_what_to_do(old_run: Path) -> None:
    for path in old_run.glob("report*"):
        path.unlink()
    with pytest.raises(RunError) as error:
        report(old_run)
    assert (error.value.place, error.value.reason) == (str(old_run), "no report yet")
    with pytest.raises(RunError):
        report(old_run / "nowhere")
