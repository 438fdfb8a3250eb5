"""`textune sweep`: its runs are those of `train`, which are the best, what is refused when, and how it goes on."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.errors import refused

import textune
from textune.batches import cache
from textune.config.load import load_config
from textune.errors import ConfigError, DataError, RunError, TextuneError
from textune.jsontext import parse_json
from textune.run.tracking.tracker import SilentTracker
from textune.studies.proposing import Trial, propose
from textune.studies.runs import PlannedRun, RunResult, SilentWatch, carry_out
from textune.studies.sweep import sweep
from textune.studies.sweepplan import plan_sweep
from textune.studies.sweepplot import plot
from textune.studies.sweepresult import CellResult, StageResult, SweepResult
from textune.studies.sweepscript import write_sweep

LR = "train.optimizer.lr"
RATES = (1e-6, 3e-3)


def of(place: Path, **search: Any) -> dict[str, Any]:
    return {"config": str(place / "config.toml"), **search}


def rates(place: Path, *values: float, **more: Any) -> dict[str, Any]:
    return of(place, grid={LR: list(values or RATES)}, **more)


def weights(run: Path) -> bytes:
    return (run / "best" / "model.safetensors").read_bytes()


def names(result: SweepResult) -> list[str]:
    return [cell.name for stage in result.stages for cell in stage.cells]


class Acting(SilentWatch):
    """Does something as each run begins in this process."""

    def __init__(self, act: Any) -> None:
        self._act = act
        self.said: list[tuple[str, int, int]] = []

    def begin(self, run: PlannedRun, number: int, total: int) -> None:
        self.said.append((run.name, number, total))

    @contextlib.contextmanager
    def tracker(self, run: PlannedRun) -> Iterator[SilentTracker]:
        self._act(run)
        yield SilentTracker()

    def end(self, result: RunResult, number: int, total: int) -> None:
        """Ignored."""


# --- runs and their table --------------------------------------------------------------------------------------------


@pytest.mark.parity("TW-24")
def test_each_run_is_that_of_train_and_the_best_is_marked(place: Path, tmp_path: Path) -> None:
    with_test = {"data.test.kind": "split", "data.test.count": 10}
    result = textune.sweep(rates(place), run=tmp_path / "s", overrides=with_test)
    alone = textune.train(place / "config.toml", run=tmp_path / "alone", overrides={LR: RATES[1], **with_test})
    assert names(result) == ["lr=1e-6", "lr=0.003"]
    assert weights(tmp_path / "s" / "lr=0.003") == weights(alone.run) != weights(tmp_path / "s" / "lr=1e-6")
    values = [cell.value for cell in result.stages[0].cells]
    assert values[1] == alone.reports["validation"].value and result.best is not None
    assert result.best.value == max(value for value in values if value is not None)
    assert (
        result.test is not None
        and result.test == textune.sweep(rates(place), run=tmp_path / "s", overrides=with_test).test
    )
    table = (tmp_path / "s" / "sweep.md").read_text(encoding="utf-8")
    assert [line.endswith("best |") for line in table.splitlines() if "lr=" in line and line.startswith("|")] == [
        cell is result.best for cell in result.stages[0].cells
    ]
    assert "is optimistic" in table and "(test)" in table
    found = parse_json((tmp_path / "s" / "sweep.json").read_text(encoding="utf-8"))
    assert (
        found == json.loads(json.dumps(result.to_dict(), allow_nan=False))
        and found["best"]["cell"] == result.best.name
    )
    assert found["test"]["value"] == result.test.value


def test_the_best_configuration_is_one_that_train_takes(place: Path, tmp_path: Path) -> None:
    result = sweep(rates(place), run=tmp_path / "s")
    assert result.best is not None and result.best_config == tmp_path / "s" / "best.toml"
    assert load_config(result.best_config).resolved == load_config(result.best.run / "config.toml").resolved
    again = textune.train(result.best_config, run=tmp_path / "again")
    assert weights(again.run) == weights(result.best.run)
    assert str(result.best.run) in result.best_config.read_text(encoding="utf-8")


def test_the_same_again_repeats_nothing_and_a_larger_grid_goes_on(place: Path, tmp_path: Path) -> None:
    sweep(rates(place), run=tmp_path / "s")
    model = tmp_path / "s" / "lr=0.003" / "best" / "model.safetensors"
    written = model.stat().st_mtime_ns
    watch = Acting(lambda run: None)
    result = sweep(rates(place, 3e-3, 1e-3), run=tmp_path / "s", watch=watch)
    assert model.stat().st_mtime_ns == written and names(result) == ["lr=0.003", "lr=0.001"]
    assert ("lr=0.001", 2, 2) in watch.said
    with refused(RunError, place=str(tmp_path / "s"), key="keys"):
        sweep(of(place, grid={"train.batch_size": [8]}), run=tmp_path / "s")
    with refused(RunError, place=str(tmp_path / "s"), reason="train.batch_size was 16 and is 8"):
        sweep(rates(place), run=tmp_path / "s", overrides={"train.batch_size": 8})
    with refused(RunError, place=str(tmp_path / "s" / "lr=1e-6"), key="model.pretrained"):  # which is complete
        sweep(rates(place), run=tmp_path / "s", overrides={"model.pretrained": str(tmp_path / "s" / "lr=0.003")})
    sweep(rates(place, jobs=2), run=tmp_path / "s", overrides={"train.log_every": "2 steps"})  # only how, not what


@pytest.mark.slow
def test_a_sweep_that_was_stopped_goes_on(place: Path, tmp_path: Path) -> None:
    def stop(run: PlannedRun) -> None:
        if run.name == "lr=0.003":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(rates(place), run=tmp_path / "s", watch=Acting(stop))
    table = (tmp_path / "s" / "sweep.md").read_text(encoding="utf-8")
    assert "| lr=0.003 |  |  |  | planned |" in table
    whole = sweep(rates(place), run=tmp_path / "whole")
    result = sweep(rates(place), run=tmp_path / "s")
    assert [cell.value for cell in result.stages[0].cells] == [cell.value for cell in whole.stages[0].cells]
    assert weights(tmp_path / "s" / "lr=0.003") == weights(tmp_path / "whole" / "lr=0.003")


def test_texts_are_tokenised_once(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    parts = cache._Texts.parts
    monkeypatch.setattr(cache._Texts, "parts", lambda texts: made.append(texts.key()) or parts(texts))
    sweep(rates(place, 1e-4, 2e-4, 3e-4), run=tmp_path / "s", overrides={"tokens.cache": str(tmp_path / "cache")})
    assert len(made) == 1


@pytest.mark.slow
def test_as_many_run_at_once_as_the_file_or_the_caller_says(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs at once end in is the matter of `carry_out`; Optuna proposes for all of them together."""
    module = importlib.import_module("textune.studies.sweep")
    asked: list[tuple[int, int]] = []

    def one_by_one(planned: list[PlannedRun], *, jobs: int, **how: Any) -> list[RunResult]:
        asked.append((len(planned), jobs))
        return carry_out(planned, jobs=1, **how)

    monkeypatch.setattr(module, "carry_out", one_by_one)
    sweep(rates(place, jobs=3), run=tmp_path / "file")
    sweep(rates(place, jobs=3), run=tmp_path / "file", jobs=2)
    assert asked == [(2, 3), (2, 2)]
    pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    asked.clear()
    result = sweep(of(place, optuna=OPTUNA | {"trials": 3}), run=tmp_path / "optuna", jobs=2)
    assert asked == [(2, 2), (1, 2)] and len(names(result)) == 3


def test_the_metric_says_what_is_better_and_the_first_of_equals_is_the_best(place: Path, tmp_path: Path) -> None:
    result = sweep(rates(place, 3e-3, 1e-6, metric="loss"), run=tmp_path / "loss")
    values = [cell.value for cell in result.stages[0].cells]
    assert result.best is not None and result.best.value == min(value for value in values if value is not None)
    assert load_config(result.best.run / "config.toml").experiment.evaluate.metric == "loss"
    equal = sweep(of(place, grid={"train.log_every": ["1 steps", "2 steps"]}), run=tmp_path / "equal")
    first, second = equal.stages[0].cells
    assert first.value == second.value and equal.best is first
    with refused(ConfigError, key="evaluate.metric", value="nonsense"):
        sweep(rates(place, metric="nonsense"), run=tmp_path / "none")


def test_a_complete_cell_is_not_taken_for_one_of_another_place_by_the_same_name(place: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(place / "backbone", tmp_path / name / "bert")
    sweep(of(place, grid={"model.pretrained": [str(tmp_path / "a" / "bert")]}), run=tmp_path / "s")
    other = of(place, grid={"model.pretrained": [str(tmp_path / "b" / "bert")]})
    with refused(RunError, place=str(tmp_path / "s" / "pretrained=bert"), key="model.pretrained"):
        sweep(other, run=tmp_path / "s")
    with refused(RunError) as caught:  # no cell is left
        sweep(other, run=tmp_path / "s", keep_going=True)
    assert "model.pretrained was" in caught.value.message


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_cell_that_is_refused_is_named_before_the_first_run(place: Path, tmp_path: Path) -> None:
    bad = rates(place, 3e-3, -1.0)
    with pytest.raises(ConfigError) as caught:
        sweep(bad, run=tmp_path / "s")
    error = caught.value
    assert "lr=-1" in error.message and (error.key, error.value) == (LR, -1.0) and "--keep-going" in error.hint
    assert not (tmp_path / "s").exists()
    result = sweep(bad, run=tmp_path / "s", keep_going=True)
    assert [cell.status for cell in result.stages[0].cells] == ["done", "refused"] and result.exit_code == 2
    assert any("lr=-1 is refused" in note and LR in note for note in result.notes())
    with refused(ConfigError, key=LR):
        sweep(rates(place, -2.0, -1.0), run=tmp_path / "none", keep_going=True)


def test_many_cells_that_are_refused_for_one_reason_are_one_problem(place: Path) -> None:
    grid = {LR: [1e-3, 1e-4], "train.batch_size": [0, 16], "train.max_grad_norm": [-1.0, 1.0]}
    with pytest.raises(ConfigError) as caught:
        plan_sweep(of(place, grid=grid))
    assert str(caught.value).count("train.batch_size = 0") == 2  # alone, and beside the other one


def test_what_is_wrong_with_the_configuration_itself_is_no_cells_fault(place: Path, tmp_path: Path) -> None:
    for config in (str(tmp_path / "missing.toml"), {"extends": str(tmp_path / "missing.toml")}, {"trian": {}}):
        with pytest.raises(ConfigError) as caught:
            sweep({"config": config, "grid": {LR: [1e-3]}}, run=tmp_path / "s")
        assert "cell" not in caught.value.message


def test_runs_that_were_measured_on_other_rows_are_named(place: Path, tmp_path: Path) -> None:
    columns = {"data.columns.text": ["text", "id"]}
    same = sweep(of(place, grid=columns), run=tmp_path / "same")
    assert not any("not comparable" in note for note in same.notes())
    given = of(place, grid={"data.train.shuffle": [False, True]})
    other = sweep(given, run=tmp_path / "other", overrides={"data.train.take": 40})
    rows = [cell.measured_on for cell in other.stages[0].cells]
    assert (rows[0] != rows[1]) == any("not comparable" in note for note in other.notes())


def test_two_cells_that_are_the_same_run_are_refused(place: Path) -> None:
    together = [{LR: 1e-3, "train.seed": 1}, {"train.seed": 1, LR: 0.001}]
    with refused(ConfigError, key="grid"):
        plan_sweep(of(place, together=together))


def test_a_run_that_fails_stops_the_sweep_unless_it_is_to_go_on(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "rows.csv", tmp_path / "rows.csv")
    files = [str(tmp_path / "rows.csv"), str(tmp_path / "missing.csv")]
    given = of(place, grid={"data.train.files": [files[1], files[0]]})
    with pytest.raises(DataError) as caught:
        sweep(given, run=tmp_path / "s")
    assert files[1] in caught.value.message
    result = sweep(given, run=tmp_path / "s", keep_going=True)
    assert [cell.status for cell in result.stages[0].cells] == ["failed", "done"] and result.exit_code == 2
    assert result.best is result.stages[0].cells[1]
    assert "missing.csv" in (tmp_path / "s" / "sweep.md").read_text(encoding="utf-8")
    with refused(RunError):
        sweep(of(place, grid={"data.train.files": [files[1]]}), run=tmp_path / "none", keep_going=True)


def test_a_folder_of_something_else_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "notes.txt").write_text("mine", encoding="utf-8")
    with refused(RunError, place=str(tmp_path / "s"), reason="something else"):
        sweep(rates(place), run=tmp_path / "s")
    for text in ('{"study": "repeat", "config": {}, "plan": {}}', "{", "[]"):
        (tmp_path / "s" / "study.json").write_text(text, encoding="utf-8")
        with refused(RunError, place=str(tmp_path / "s")):
            sweep(rates(place), run=tmp_path / "s")
    with refused(RunError):
        (tmp_path / "file").write_text("", encoding="utf-8")
        sweep(rates(place), run=tmp_path / "file")
    assert (tmp_path / "s" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_what_no_run_can_be_compared_by_is_refused(place: Path, tmp_path: Path) -> None:
    with refused(ConfigError, key="data.validation"):
        sweep(rates(place), run=tmp_path / "s", overrides={"data.validation.kind": "none"})
    with refused(ConfigError, key=LR):
        sweep(rates(place), run=tmp_path / "s", overrides=[f"{LR}=1"])
    with refused(ConfigError, key="jobs", value=0):
        sweep(rates(place), run=tmp_path / "s", jobs=0)
    assert not (tmp_path / "s").exists()


# --- stages and searches ---------------------------------------------------------------------------------------------


def test_a_stage_starts_from_the_best_run_of_the_one_before(place: Path, tmp_path: Path) -> None:
    stages = [
        {"name": "rates", "grid": {LR: list(RATES)}},
        {"name": "seeds", "grid": {"train.seed": [1, 2]}, "config": {"train": {"duration": "4 steps"}}},
        {"grid": {"train.batch_size": [8]}, "continues": "settings"},
        {"grid": {"train.max_grad_norm": [2.0]}, "continues": "both"},
    ]
    result = sweep(of(place, stages=stages), run=tmp_path / "s")
    first, second, third, last = result.stages
    assert first.best is not None and second.best is not None and third.best is not None and last.best is not None
    assert second.best.run == tmp_path / "s" / "seeds" / first.best.name / second.best.name
    chain = [load_config(stage.best.run / "config.toml").experiment for stage in result.stages if stage.best]
    assert chain[1].model.pretrained == str(first.best.run) and str(chain[1].train.duration) == "4 steps"
    assert chain[1].train.optimizer.lr == RATES[1]  # of the configuration: settings do not go on
    assert (
        chain[2].model.pretrained == chain[0].model.pretrained
        and chain[2].train.seed == second.best.values["train.seed"]
    )
    assert chain[3].model.pretrained == str(third.best.run)
    assert (chain[3].train.seed, chain[3].train.batch_size, chain[3].train.max_grad_norm) == (
        chain[2].train.seed,
        8,
        2,
    )
    alone = textune.train(
        place / "config.toml",
        run=tmp_path / "alone",
        overrides={
            "train.seed": second.best.values["train.seed"],
            "train.duration": "4 steps",
            "model.pretrained": str(first.best.run),
        },
    )
    assert weights(alone.run) == weights(second.best.run)
    text = (tmp_path / "s" / "sweep.md").read_text(encoding="utf-8")
    assert f"## seeds, after {first.best.name}" in text and "## stage-4" in text


def test_a_later_stage_is_checked_before_the_first_run(place: Path, tmp_path: Path) -> None:
    stages: list[dict[str, Any]] = [{"grid": {LR: list(RATES)}}, {"grid": {"train.batch_size": [0]}}]
    with refused(ConfigError, key="train.batch_size", value=0):
        sweep(of(place, stages=stages), run=tmp_path / "s")
    stages[1] = {"optuna": {"trials": 2, "space": {"train.batch_size": {"kind": "int", "low": 0, "high": 9}}}}
    with refused(ConfigError, key="train.batch_size", value=0):
        sweep(of(place, stages=stages), run=tmp_path / "s")
    assert not (tmp_path / "s").exists()
    kinds: list[dict[str, Any]] = [
        {"grid": {"train.optimizer.kind": ["sgd", "adamw"]}},
        {"grid": {"train.optimizer.momentum": [0.5]}, "continues": "settings"},
    ]
    plan_sweep(of(place, stages=kinds))  # sgd has a momentum, and may be the best
    between = {"grid": {"train.seed": [1]}, "continues": "settings"}
    plan_sweep(of(place, stages=[kinds[0], between, kinds[1]]))
    kinds[1]["continues"] = "model"
    with refused(ConfigError, key="train.optimizer.momentum"):
        plan_sweep(of(place, stages=kinds))


def test_the_model_of_every_run_is_where_the_first_stage_starts(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "backbone", tmp_path / "other")
    stages = [{"grid": {LR: [1e-3]}}, {"grid": {"train.seed": [1]}}]
    result = sweep(of(place, stages=stages), run=tmp_path / "s", overrides=[f"model.pretrained={tmp_path / 'other'}"])
    first, second = (load_config(stage.cells[0].run / "config.toml").experiment.model for stage in result.stages)
    assert first.pretrained == str(tmp_path / "other") and second.pretrained == str(result.stages[0].cells[0].run)
    stages[1]["grid"] = {"model.pretrained": [str(place / "backbone")]}  # type: ignore[dict-item]
    with refused(ConfigError, key="model.pretrained"):
        plan_sweep(of(place, stages=stages))


def test_random_values_are_known_before_the_first_run(place: Path, tmp_path: Path) -> None:
    random = {"trials": 2, "space": {LR: {"kind": "log_uniform", "low": 1e-6, "high": 1e-2}}}
    dry = sweep(of(place, random=random), run=tmp_path / "s", dry_run=True)
    assert dry.dry_run and not (tmp_path / "s").exists() and names(dry)[0].startswith("001-lr=")
    result = sweep(of(place, random=random), run=tmp_path / "s")
    more = sweep(of(place, random=random | {"trials": 3}), run=tmp_path / "s")
    assert names(dry) == names(result) == names(more)[:2] and len(names(more)) == 3
    with refused(RunError, place=str(tmp_path / "s"), key="random.seed", value=1):
        sweep(of(place, random=random | {"seed": 1}), run=tmp_path / "s")


OPTUNA: dict[str, Any] = {
    "trials": 4,
    "space": {
        LR: {"kind": "log_uniform", "low": 1e-5, "high": 1e-2},
        "train.batch_size": {"kind": "int", "low": 8, "high": 30, "step": 8},
        "train.schedule": [{"kind": "linear"}, {"kind": "constant"}],
    },
}


@pytest.mark.slow
def test_optuna_proposes_the_same_whether_the_sweep_was_stopped_or_not(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    dry = sweep(of(place, optuna=OPTUNA), run=tmp_path / "whole", dry_run=True)
    assert names(dry) == [] and any("4 runs" in note for note in dry.notes())
    whole = sweep(of(place, optuna=OPTUNA), run=tmp_path / "whole")
    began: list[str] = []

    def stop(run: PlannedRun) -> None:
        began.append(run.name)
        if len(began) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(of(place, optuna=OPTUNA), run=tmp_path / "s", watch=Acting(stop))
    watch = Acting(lambda run: None)
    result = sweep(of(place, optuna=OPTUNA), run=tmp_path / "s", watch=watch)
    assert names(result) == names(whole) and len(names(whole)) == 4 and began == names(whole)[:3]
    assert [number for _, number, _ in watch.said][-1] == 4 and {total for _, _, total in watch.said} == {4}
    assert [cell.value for cell in result.stages[0].cells] == [cell.value for cell in whole.stages[0].cells]
    kinds = {load_config(cell.run / "config.toml").experiment.train.schedule.kind for cell in whole.stages[0].cells}
    assert kinds <= {"linear", "constant"}
    with refused(RunError, place=str(tmp_path / "s"), key="optuna.sampler", value="gp"):
        sweep(of(place, optuna=OPTUNA | {"sampler": "gp"}), run=tmp_path / "s")


def test_proposals_for_runs_at_once_know_of_each_other(place: Path, tmp_path: Path) -> None:
    """They are made before any of them has a value, and are the same for whoever makes them again."""
    pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    from textune.config.sweepkeys import OptunaSearch

    search = OptunaSearch.model_validate(OPTUNA)
    known: list[Trial] = []
    for _ in range(3):
        known.append(propose(search, known, higher_is_better=True))
    assert len({repr(trial.proposed) for trial in known}) == 3
    failed = [Trial(known[0].proposed, float("nan")), Trial(known[1].proposed, 0.5)]
    assert propose(search, failed, higher_is_better=True) == propose(search, failed, higher_is_better=True)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_proposals_close_in_on_what_is_best(sampler: str) -> None:
    """A hill with its top at 0.7, which chance alone would not keep to."""
    pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
    pytest.importorskip("scipy", reason="scipy is not installed")
    from textune.config.sweepkeys import OptunaSearch

    space = {LR: {"kind": "uniform", "low": 0, "high": 1}}
    search = OptunaSearch.model_validate({"trials": 30, "sampler": sampler, "space": space})
    for higher_is_better in (True, False):
        known: list[Trial] = []
        for _ in range(30):
            trial = propose(search, known, higher_is_better=higher_is_better)
            distance = (float(str(trial.proposed[LR])) - 0.7) ** 2
            known.append(Trial(trial.proposed, -distance if higher_is_better else distance))
        late = [abs(float(str(trial.proposed[LR])) - 0.7) for trial in known[15:]]
        assert sorted(late)[len(late) // 2] < 0.15


def test_a_search_by_optuna_without_optuna_says_how_to_install_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError) as caught:
        sweep(of(place, optuna=OPTUNA), run=tmp_path / "s")
    assert caught.value.key == "optuna" and 'pip install "textune[optuna]"' in caught.value.hint


# --- files and the command line --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parity("TW-24")
def test_a_sweep_as_files_is_carried_out_by_a_shell_and_found_complete(place: Path, tmp_path: Path) -> None:
    written = write_sweep(rates(place), tmp_path / "jobs")
    configs = sorted(path.name for path in (tmp_path / "jobs" / "configs").iterdir())
    assert configs == ["lr=0.003.toml", "lr=1e-6.toml"] and len(written.commands) == 2
    plan = plan_sweep(rates(place))
    for cell in plan.stages[0].cells:
        assert cell.loaded is not None
        file = tmp_path / "jobs" / "configs" / f"{cell.name}.toml"
        assert load_config(file).resolved == cell.loaded.resolved
    command = tmp_path / "bin" / "textune"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m textune "$@" --quiet\n', encoding="utf-8")
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", str(written.script)], env=os.environ | {"PATH": path}, check=True, capture_output=True)
    result = sweep(rates(place), run=tmp_path / "jobs", watch=Acting(_nothing_may_begin))
    assert [cell.status for cell in result.stages[0].cells] == ["done", "done"]


def _nothing_may_begin(run: PlannedRun) -> None:
    assert (run.folder / "manifest.json").is_file()
    assert json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))["status"] == "complete"


def test_stages_as_files_are_every_run_after_every_run(place: Path, tmp_path: Path) -> None:
    stages = [{"grid": {LR: list(RATES)}}, {"name": "seeds", "grid": {"train.seed": [1, 2]}, "continues": "both"}]
    written = write_sweep(of(place, stages=stages), tmp_path / "jobs")
    assert len(written.commands) == 2 + 2 * 2
    file = tmp_path / "jobs" / "configs" / "seeds" / "lr=0.003" / "seed=2.toml"
    experiment = load_config(file).experiment
    assert experiment.model.pretrained == str(tmp_path / "jobs" / "stage-1" / "lr=0.003")
    assert (experiment.train.optimizer.lr, experiment.train.seed) == (RATES[1], 2)
    assert f"--run {Path('seeds') / 'lr=0.003' / 'seed=2'} --resume auto" in written.script.read_text(encoding="utf-8")
    with refused(ConfigError, key="optuna"):
        pytest.importorskip("optuna", reason="the extra `optuna` is not installed")
        write_sweep(of(place, optuna=OPTUNA), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(capsys, monkeypatch, tmp_path)


def test_the_command_prints_the_table_and_its_exit_code_says_what_failed(
    call: Any, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "rates.toml").write_text(
        f'config = "{place / "config.toml"}"\n[grid]\n"{LR}" = [3e-3, -1]\n', encoding="utf-8"
    )
    assert call("sweep", "rates.toml").code == 2 and not (tmp_path / "runs").exists()
    dry = call("sweep", "rates.toml", "--dry-run", "--keep-going")
    assert dry.code == 2 and "| lr=0.003 |  |  |  | planned |" in dry.out and not (tmp_path / "runs").exists()
    answer = call("sweep", "rates.toml", "--keep-going", "train.duration=4 steps")
    table = (tmp_path / "runs" / "rates" / "sweep.md").read_text(encoding="utf-8")
    assert answer.code == 2 and table.strip() in answer.out
    assert "textune repeat runs/rates/best.toml --seeds 3" in answer.out
    found = json.loads(call("sweep", "rates.toml", "--keep-going", "train.duration=4 steps", "--json").out)
    assert found["best"]["cell"] == "lr=0.003" and found["stages"][0]["cells"][1]["status"] == "refused"
    written = call("sweep", "rates.toml", "--write", "jobs", "--keep-going")
    assert written.code == 0 and "sh jobs/sweep.sh" in written.out
    assert call("sweep", "rates.toml", "--write", "jobs", "--jobs", "2").code == 2
    error = json.loads(call("sweep", "rates.toml", "--json").out)["error"]
    assert (error["key"], error["value"]) == (LR, "-1")


@pytest.mark.slow
def test_the_figure_is_svg_that_shows_every_run(place: Path, tmp_path: Path) -> None:
    result = sweep(of(place, grid={LR: list(RATES), "train.schedule": [{"kind": "linear"}]}), run=tmp_path / "s")
    text = (tmp_path / "s" / "sweep.svg").read_text(encoding="utf-8")
    assert text == plot(result)
    root = ET.fromstring(text)
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 2 * 2  # with its interval, and over the one key that has several values
    assert sum(circle.get("class") == "best" for circle in circles) == 2
    uneven = of(place, together=[{LR: 1e-3, "train.seed": 1}, {LR: 3e-3}, {LR: 3e-3, "train.seed": 2}])
    sweep(uneven, run=tmp_path / "uneven")
    text = (tmp_path / "uneven" / "sweep.svg").read_text(encoding="utf-8")
    assert len(ET.fromstring(text).findall("{http://www.w3.org/2000/svg}circle")) == 3 + 3 + 2
    empty = StageResult("a<b", (CellResult("x", {}, tmp_path, "planned"),))
    assert "a&lt;b" in plot(SweepResult(tmp_path, "<config>", (empty,))) and ET.fromstring(
        plot(SweepResult(tmp_path, "<config>", (empty,)))
    )


def test_every_refusal_is_a_sentence(place: Path, tmp_path: Path) -> None:
    for given in (rates(place, -1.0), of(place, grid={"train.duration": ["2 weeks"]}), of(place, grid={LR: ["fast"]})):
        with pytest.raises(TextuneError) as caught:
            sweep(given, run=tmp_path / "s")
        assert caught.value.message.startswith("cell ") and caught.value.key and caught.value.value is not None
