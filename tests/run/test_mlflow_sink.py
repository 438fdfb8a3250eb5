"""The sink of MLflow by itself: in a database in a file, and on a real server with faults put in front of it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused
from kits.mlflowserver import QUIET, Server
from kits.sinks import evaluation, notice, step, tracked

from textune.atomic import WRITING
from textune.config.tracking import MlflowTrack
from textune.errors import ConfigError
from textune.run.tracking.mlflow import MAX_NAME, MlflowSink, database_file, make_database, metric_name
from textune.run.tracking.mlflowmanners import DEFAULTS, GOOD_MANNERS
from textune.run.tracking.sink import Ended, TrackedRun
from textune.run.tracking.table import KINDS
from textune.wording import without_passwords

pytestmark = QUIET
END = Ended("complete", {"test": {"f1": 0.6, "auroc": None}}, best_step=2)


@pytest.fixture
def server(mlflow_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setitem(DEFAULTS, "MLFLOW_HTTP_REQUEST_TIMEOUT", 30)
    mlflow_server.heal()
    return mlflow_server


def client(uri: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def history(found: Any, run: str) -> dict[str, list[tuple[int, int, float]]]:
    """The metrics of a run: step, milliseconds and value of each."""
    return {
        name: sorted((one.step, one.timestamp, one.value) for one in found.get_metric_history(run, name))
        for name in found.get_run(run).data.metrics
    }


def begun(server: Server, experiment: str, run: TrackedRun) -> tuple[MlflowSink, str]:
    sink = MlflowSink(MlflowTrack(uri=server.url, experiment=experiment), "track[0]")
    return sink, sink.open(run).run


@pytest.mark.parity("mlflow")
def test_a_run_is_begun_taken_up_and_ended_and_says_how_far_it_came(server: Server, tmp_path: Path) -> None:
    found = client(server.url)
    sink, run = begun(server, "all", tracked(tmp_path))
    sink.send([step(1), step(2), notice("one"), evaluation(2, is_best=True, **{"f1": 0.5, "f1[ä]": 0.25})])
    sink.finish(Ended("interrupted"))
    sink.close()
    assert found.get_run(run).info.status == "KILLED"

    # The process was killed before it could note what MLflow calls the run; a longer run has another seed.
    again = MlflowSink(MlflowTrack(uri=server.url, experiment="all"), "track[0]")
    opened = again.open(tracked(tmp_path, train={"seed": 2, "betas": [0.9, 0.99], "new": True}))
    assert opened.run == run and opened.sent == {"step": 2, "evaluation/validation": 2}
    assert found.get_run(run).info.status == "RUNNING"
    for _ in range(2):
        again.send([step(2), step(3), notice("one"), notice("two", 2)])
        (tmp_path / "best").mkdir(exist_ok=True)
        (tmp_path / "best" / "config.json").write_text("{}")
        (tmp_path / "report.json").write_text("{}")
        (tmp_path / "roc.png").write_bytes(b"ink")
        again.keep("best", tmp_path / "best")
        again.keep("report.json", tmp_path / "report.json")
        again.keep("plots/test/roc.png", tmp_path / "roc.png")
        again.finish(END)
    again.close()

    kept = found.get_run(run)
    assert kept.info.status == "FINISHED" and kept.info.run_name == "x"
    assert kept.data.params["train.seed"] == "1" and kept.data.tags["changed.train.seed"] == "2"
    assert (kept.data.params["train.new"], kept.data.params["facts.steps"]) == ("True", "4")
    assert kept.data.tags["notices"] == "one\ntwo\n"
    metrics = history(found, run)
    assert metrics["train/loss"] == [(1, 1001000, 1.0), (2, 1002000, 0.5), (3, 1003000, 1 / 3)]
    assert metrics["best/f1"] == [(2, 1002000, 0.5)]
    assert metrics[metric_name("validation/f1[ä]")] == [(2, 1002000, 0.25)]
    assert [(at, value) for at, _, value in metrics["report/test/f1"]] == [(2, 0.6)]
    assert [file.path for file in found.list_artifacts(run)] == ["best", "plots", "report.json"]
    assert [file.path for file in found.list_artifacts(run, "best")] == ["best/config.json"]
    assert [file.path for file in found.list_artifacts(run, "plots/test")] == ["plots/test/roc.png"]


def test_a_run_that_was_deleted_is_begun_again_under_another_name(server: Server, tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    sink, run = begun(server, "deleted", tracked(tmp_path))
    client(server.url).delete_run(run)
    with pytest.raises(MlflowException):  # its records are not left out
        sink.send([step(1)])
    assert sink.open(tracked(tmp_path, known=run)).run != run
    assert sink.open(tracked(tmp_path, known="0" * 32, key="other")).run != run


@pytest.mark.slow
def test_more_than_a_request_takes_is_sent_in_parts(server: Server, tmp_path: Path) -> None:
    sink, run = begun(server, "much", tracked(tmp_path, **{f"key{number}": "ü" * 6001 for number in range(30)}))
    sink.send([step(number, **{f"m{index}": 1.0 for index in range(300)}) for number in range(1, 5)])
    found = client(server.url).get_run(run)
    assert len(found.data.params["key29"]) == 6000 and len(found.data.params) == 33
    assert len(history(client(server.url), run)["train/m299"]) == 4


def test_what_a_server_refuses_is_shortened_or_left_out_with_a_reason(server: Server, tmp_path: Path) -> None:
    server.mode = "narrow"
    sink, run = begun(server, "narrow", tracked(tmp_path, long="a" * 1000))
    reasons = sink.send([step(1), notice("b" * 1000), step(2)])
    assert len(reasons) == 1 and "too long" in reasons[0]
    found = client(server.url).get_run(run)
    assert "refused.long" in found.data.tags and found.data.params["train.seed"] == "1"
    assert len(history(client(server.url), run)["train/loss"]) == 2


@pytest.mark.every_day(1)
@pytest.mark.parametrize("mode", ["hangs", "closes", "fails", "full"])
def test_any_fault_is_an_exception_soon_and_the_same_records_can_be_sent_again(
    server: Server, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    sink, run = begun(server, "faults", tracked(tmp_path, key=mode))
    monkeypatch.setitem(DEFAULTS, "MLFLOW_HTTP_REQUEST_TIMEOUT", 1)
    server.mode = mode
    before = len(server.requests)
    with pytest.raises(MlflowException):
        sink.send([step(1)])
    assert len(server.requests) == before + 1  # the sender tries again, not MLflow
    with pytest.raises(MlflowException):
        sink.open(tracked(tmp_path, key=mode, known=run, more=1))
    server.heal()
    monkeypatch.setitem(DEFAULTS, "MLFLOW_HTTP_REQUEST_TIMEOUT", 30)
    assert sink.open(tracked(tmp_path, key=mode, known=run)).sent == {}
    sink.send([step(1)])
    assert history(client(server.url), run)["train/loss"] == [(1, 1001000, 1.0)]


def test_a_database_in_a_file_keeps_artefacts_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    sink = MlflowSink(MlflowTrack(uri=uri), "track[0]")
    run = sink.open(tracked(tmp_path)).run
    sink.send([step(1)])
    (tmp_path / "report.json").write_text("{}")
    sink.keep("report.json", tmp_path / "report.json")
    sink.finish(END)
    with GOOD_MANNERS:
        assert history(client(uri), run)["train/loss"] == [(1, 1001000, 1.0)]
    assert list((tmp_path / "mlartifacts").rglob("report.json"))
    assert not list((tmp_path / "elsewhere").iterdir())
    assert capfd.readouterr() == ("", "")


def test_mlflow_is_a_guest_that_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import environment_variables as variables

    with GOOD_MANNERS:
        assert variables.MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 60
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")  # the user has the last word
        assert variables.MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 7

    level, before = logging.getLogger("mlflow").level, variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()
    with GOOD_MANNERS, GOOD_MANNERS:
        assert variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 0
    assert variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == before and logging.getLogger("mlflow").level == level
    assert all(hasattr(variables, name) for name in DEFAULTS)


def test_mlflow_is_imported_without_its_telemetry() -> None:
    code = """
import os, sys, threading
from textune.run.tracking.mlflowmanners import import_client
import_client()
from mlflow.telemetry import get_telemetry_client
print(get_telemetry_client(), "MLFLOW_DISABLE_TELEMETRY" in os.environ, threading.active_count())
"""
    # As outside of tests, where MLflow would count.
    testing = ("PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in testing}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["None", "False", "1"]


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "mlruns",
        "./mlruns",
        "file:///tmp/mlruns",
        "localhost:5000",
        "ftp://host",
        "",
    ],
)
def test_what_is_no_address_is_refused_before_anything_runs(uri: str) -> None:
    with refused(ConfigError, key="track[2].uri", value=uri):
        MlflowSink(MlflowTrack.model_construct(uri=uri), "track[2]")


def test_names_become_those_that_mlflow_takes_and_stay_apart(server: Server) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert metric_name("validation/f1 macro.x_y-z") == "validation/f1 macro.x_y-z" and metric_name("ä/ö") == "ä/ö"
    odd = ["f1[a]", "f1(a)", "/a", "a/", "a//b", "../x", "a/../b", ".", "", "x" * 300, "x" * 301, "a:b", "a\nb"]
    names = [metric_name(name) for name in odd]
    assert len(set(names)) == len(odd) and max(map(len, names)) <= MAX_NAME
    for name in names:
        _validate_metric_name(name)


def test_a_place_shows_no_password() -> None:
    track = MlflowTrack(uri="https://me:secret@host:5000/a", experiment="e")
    assert KINDS["mlflow"].place(track, Path()) == "https://host:5000/a, experiment e"
    assert without_passwords("sqlite:///a@b.db") == "sqlite:///a@b.db"


def test_only_an_address_of_sqlite_names_a_file() -> None:
    assert (
        database_file("sqlite:////x/y.db") == Path("/x/y.db")
        and database_file("sqlite:///y.db") == Path.cwd() / "y.db"
    )
    assert database_file("http://host") is None and database_file("postgresql://host/x") is None


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_makes_the_tables_leaves_no_half_database(tmp_path: Path) -> None:
    code = f"""
import os, sqlalchemy
from pathlib import Path
from textune.run.tracking.mlflow import make_database
made = []
def killed(connection, cursor, statement, *more):
    made.extend([statement] if "CREATE TABLE" in statement else [])
    if len(made) == 20:
        os._exit(9)
sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", killed)
make_database(Path({str(tmp_path / "mlflow.db")!r}))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 9
    assert [path.name for path in tmp_path.iterdir() if WRITING not in path.name] == []
    sink = MlflowSink(MlflowTrack(uri=f"sqlite:///{tmp_path / 'mlflow.db'}"), "track[0]")
    assert sink.open(tracked(tmp_path)).run
    before = (tmp_path / "mlflow.db").read_bytes()
    with GOOD_MANNERS:
        make_database(tmp_path / "mlflow.db")  # as another process would
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_the_tags_of_textune_are_json(server: Server, tmp_path: Path) -> None:
    sink, run = begun(server, "tags", tracked(tmp_path))
    sink.send([evaluation(3, name="other", f1=1.0)])
    tags = client(server.url).get_run(run).data.tags
    assert json.loads(tags["textune.sent"]) == {"evaluation/other": 3} and tags["textune.key"] == tracked(tmp_path).key
