"""Runs read back from TensorBoard's files, MLflow's server and a tracker of Accelerate, beside each other and beside
metrics.jsonl; and what a server of MLflow can do to a run."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from kits.mlflowserver import QUIET, Server
from kits.sinks import FakeTracker
from kits.trained import home
from pydantic import TypeAdapter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import textune
from textune.config.tracking import Track
from textune.pipeline.tracking import replay
from textune.run.tracking.mlflowmanners import DEFAULTS
from textune.training.loop import StepResult

__all__ = ["home"]
pytestmark = QUIET

SHORT = (
    *("train.duration=12 steps", "train.log_every=1 steps", "train.evaluate_every=6 steps"),
    *("train.checkpoint.every=4 steps", "model.compile=off"),
)
Series = dict[str, list[tuple[int, float]]]
"""Steps and values of each figure."""
DOCS = Path(__file__).parents[2] / "docs"


def train(home: Path, run: Path, *tracks: str, **options: Any) -> None:
    textune.train(home / "config.toml", run=run, overrides=[*SHORT, f"track=[{', '.join(tracks)}]"], **options)


def mlflow_track(server: Server, experiment: str, *, wait: float) -> str:
    return f'{{kind = "mlflow", uri = "{server.url}", experiment = "{experiment}", wait = {wait}}}'


@pytest.fixture(scope="module")
def untracked(home: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run without trackers."""
    run = tmp_path_factory.mktemp("untracked") / "run"
    train(home, run)
    return weights(run)


@pytest.fixture
def server(mlflow_server: Server) -> Server:
    mlflow_server.heal()
    return mlflow_server


def weights(run: Path) -> bytes:
    return (run / "best" / "model.safetensors").read_bytes()


def written(run: Path) -> Series:
    """The figures of metrics.jsonl, by the names that trackers give them."""
    found: Series = {}
    for line in map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        if line["kind"] == "step":
            named = {f"train/{name}": line[name] for name in ("loss", "grad_norm", "epoch", "tokens_per_second")}
            named |= {"train/learning_rate": line["lr"], "system/memory": line["use"].get("memory")}
        elif line["kind"] == "evaluation":
            named = {f"{line['set']}/{name}": value for name, value in line["metrics"].items()}
            named |= {f"best/{line['main']}": line["metrics"][line["main"]]} if line["is_best"] else {}
        else:
            continue
        for name, value in named.items():
            if value is not None:
                found.setdefault(name, []).append((line["step"], value))
    return found


def in_tensorboard(folder: Path) -> Series:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def mlflow_run(server: Server, experiment: str) -> Any:
    """The only run of an experiment, and its client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=server.url)
    [run] = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run, client


def in_mlflow(server: Server, experiment: str) -> Series:
    run, client = mlflow_run(server, experiment)
    return {
        name: sorted((one.step, one.value) for one in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }


def require_same(found: Series, lines: Series, *, exactly: bool = True) -> None:
    """A tracker has every figure of metrics.jsonl once; those that a resumed run computes again are the same bits."""
    for name, values in lines.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        if not name.startswith(("system/", "train/tokens_per_second")):  # what is measured again differs
            assert [value for _, value in found[name]] == pytest.approx(
                [value for _, value in values], rel=0 if exactly else 1e-6, abs=0
            ), name
    assert {name.partition("/")[0] for name in found} == {"train", "system", "validation", "best", "report"}


def failing_at(step: int) -> Callable[[StepResult], None]:
    def after_step(result: StepResult) -> None:
        if result.step == step:
            raise RuntimeError("the machine is gone")

    return after_step


@pytest.mark.slow
@pytest.mark.parity("TR-08", "mlflow")
def test_all_trackers_show_the_same_run_as_metrics_jsonl_after_steps_were_done_again(
    home: Path, tmp_path: Path, untracked: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTracker.register(monkeypatch)
    run = tmp_path / "run"
    tracks = (
        f'{{kind = "tensorboard", folder = "{tmp_path / "boards"}", wait = 60}}',
        mlflow_track(server, "beside", wait=60),
        '{kind = "accelerate", name = "fake", wait = 60}',
    )
    with pytest.raises(RuntimeError, match="the machine is gone"):
        train(home, run, *tracks, after_step=failing_at(7))
    first, _ = mlflow_run(server, "beside")
    assert first.info.status == "FAILED" and len(in_mlflow(server, "beside")["train/loss"]) >= 6
    train(home, run, *tracks, resume="auto")
    assert weights(run) == untracked

    lines = written(run)
    assert len(lines["train/loss"]) == 12 and len(lines["validation/accuracy"]) == 2
    require_same(in_mlflow(server, "beside"), lines)
    require_same(in_tensorboard(tmp_path / "boards" / "run"), lines, exactly=False)  # it keeps 32 bits
    require_same(FakeTracker.series(), lines)

    last, client = mlflow_run(server, "beside")
    assert last.info.run_id == first.info.run_id and last.info.status == "FINISHED"
    assert (last.data.params["train.batch_size"], last.data.params["facts.steps"]) == ("16", "12")
    kept = {file.path for file in client.list_artifacts(last.info.run_id)}
    assert kept >= {"config.toml", "manifest.json", "metrics.jsonl", "report.json", "report.md", "best"}
    copy = Path(client.download_artifacts(last.info.run_id, "best", str(tmp_path)))
    assert (copy / "model.safetensors").read_bytes() == weights(run)
    report = json.loads((run / "report-test.json").read_text())
    assert in_mlflow(server, "beside")["report/test/accuracy"][0][1] == report["metrics"]["accuracy"]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("mode", ["hangs", "closes", "fails", "full"])
def test_a_server_that_goes_wrong_changes_nothing_and_gets_the_rest_afterwards(
    home: Path, tmp_path: Path, untracked: bytes, server: Server, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEFAULTS, "MLFLOW_HTTP_REQUEST_TIMEOUT", 2)
    run = tmp_path / "run"

    def after_step(result: StepResult) -> None:
        if result.step == 5:
            server.mode = mode

    train(home, run, mlflow_track(server, mode, wait=0.5), after_step=after_step)
    assert weights(run) == untracked
    server.heal()
    monkeypatch.setitem(DEFAULTS, "MLFLOW_HTTP_REQUEST_TIMEOUT", 60)
    [sent], [again] = replay(run), replay(run)
    assert sent.records + sent.files > 0 and (again.records, again.files) == (0, 0)
    require_same(in_mlflow(server, mode), written(run))
    assert mlflow_run(server, mode)[0].info.status == "FINISHED"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / "tracking.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_of_the_docs_are_tables_of_the_configuration() -> None:
    tables: list[Mapping[str, Any]] = [table for block in blocks("toml") for table in tomllib.loads(block)["track"]]
    found = [TypeAdapter[Any](Track).validate_python(table) for table in tables]
    assert [one.kind for one in found] == ["python", "tensorboard", "mlflow", "accelerate"]


def test_the_class_of_the_docs_follows_a_run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = blocks("python")
    (tmp_path / "my_trackers.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    table = tmp_path / "table.csv"
    options = f'{{file = "{table}"}}'
    train(
        home,
        tmp_path / "run",
        f'{{kind = "python", object = "my_trackers:Table", options = {options}, wait = 60}}',
    )
    written_down = table.read_text(encoding="utf-8").splitlines()
    assert len([line for line in written_down if "train/loss" in line]) == 12
    assert any("validation/accuracy" in line for line in written_down)
