"""Names of figures and parameters, and the sinks of TensorBoard and Accelerate by themselves."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from kits.errors import refused
from kits.sinks import FakeTracker, evaluation, notice, step, tracked
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

from textune.config.tracking import AccelerateTrack, TensorBoardTrack
from textune.errors import ConfigError
from textune.run.tracking.accelerate import SERVICES, AccelerateSink, Service
from textune.run.tracking.installed import require_installed
from textune.run.tracking.sink import Ended, as_scalars
from textune.run.tracking.table import build_targets
from textune.run.tracking.tensorboard import TensorBoardSink

END = Ended("complete", {"test": {"f1": 0.6, "auroc": None}}, best_step=2)


def test_figures_have_names_that_say_where_they_are_from() -> None:
    assert step(2).numbers == {"train/loss": 0.5, "train/learning_rate": 0.1, "system/cpu": 99.0}
    assert evaluation(2, f1=0.5, auroc=None).numbers == {"validation/f1": 0.5}
    assert evaluation(2, is_best=True, f1=0.5, kappa=0.1).numbers == {
        **{"validation/f1": 0.5, "validation/kappa": 0.1},
        "best/f1": 0.5,
    }
    assert evaluation(2, name="train", loss=0.5).numbers == {"evaluation/train/loss": 0.5}
    assert END.numbers == {"report/test/f1": 0.6}


def test_parameters_are_scalars_by_dotted_name(tmp_path: Path) -> None:
    parameters = as_scalars(tracked(tmp_path, model={"name": None}).parameters)
    assert parameters == {
        **{"train.seed": 1, "train.betas": "[0.9, 0.99]", "model.name": "", "facts.steps": 4},
    }


def sent_to(sink: Any, run: Any, *records: Any, ended: Ended | None = None) -> str:
    """What the sink calls the run, after one session."""
    name: str = sink.open(run).run
    assert list(sink.send(records)) == []
    if ended is not None:
        sink.finish(ended)
    sink.close()
    return name


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, round(event.value, 6)) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


@pytest.mark.parity("TR-08")
def test_event_files_hold_each_figure_once_whatever_is_sent_again(tmp_path: Path) -> None:
    run = tracked(tmp_path)
    first = sent_to(TensorBoardSink(TensorBoardTrack(), "track[0]"), run, step(1), step(2), notice("one"))
    [file] = (tmp_path / "tensorboard").iterdir()
    with file.open("ab") as cut:  # half a record, of a process that was killed
        cut.write(file.read_bytes()[-9:])
    again = [step(2), evaluation(2, is_best=True, f1=0.5), step(3), notice("one"), notice("two", 2)]
    for _ in range(2):
        sink = TensorBoardSink(TensorBoardTrack(), "track[0]")
        assert sent_to(sink, tracked(tmp_path, known=first), *again, ended=END) == first
    found = scalars(tmp_path / "tensorboard")
    assert found["train/loss"] == [(1, 1.0), (2, 0.5), (3, 0.333333)] and found["best/f1"] == [(2, 0.5)]
    assert found["report/test/f1"] == [(2, 0.6)]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.tensor_proto.string_val[0] for event in events.Tensors("notices")] == [b"one", b"two"]
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    shown = parse_session_start_info_plugin_data(content).hparams
    assert shown["train.seed"].number_value == 1 and shown["train.betas"].string_value == "[0.9, 0.99]"


@pytest.mark.parametrize("left", [0, 5, 20, 60])
def test_a_file_that_was_hardly_begun_does_not_part_a_run_from_its_folder(tmp_path: Path, left: int) -> None:
    run = tracked(tmp_path)
    sent_to(TensorBoardSink(TensorBoardTrack(), "track[0]"), run)
    [file] = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:left])
    sent_to(TensorBoardSink(TensorBoardTrack(), "track[0]"), run, step(1))
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    assert scalars(tmp_path / "tensorboard")["train/loss"] == [(1, 1.0)]


def test_runs_of_one_name_have_folders_of_their_own_where_they_share_one(tmp_path: Path) -> None:
    track = TensorBoardTrack(folder=str(tmp_path / "all"))
    for _ in range(2):
        sent_to(TensorBoardSink(track, "track[0]"), tracked(tmp_path, key="a"), step(1))
        sent_to(TensorBoardSink(track, "track[0]"), tracked(tmp_path, key="b"), step(1), step(2))
    assert len(scalars(tmp_path / "all" / "x")["train/loss"]) == 1
    assert len(scalars(tmp_path / "all" / "x-2")["train/loss"]) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_a_fault_and_what_was_written_counts(tmp_path: Path) -> None:
    run = tracked(tmp_path)
    sink = TensorBoardSink(TensorBoardTrack(), "track[0]")
    sink.open(run)
    sink.send([step(1)])
    with Path("/dev/full").open("wb") as full:
        sink._file._writer, file = full, sink._file._writer
        with pytest.raises(OSError, match="No space left"):
            sink.send([step(2)])
        sink.close()
    file.close()
    sent_to(TensorBoardSink(TensorBoardTrack(), "track[0]"), run, step(1), step(2))
    assert [at for at, _ in scalars(tmp_path / "tensorboard")["train/loss"]] == [1, 2]


@pytest.mark.parity("HF-14")
def test_a_tracker_of_accelerate_gets_everything_and_leaves_the_process_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTracker.register(monkeypatch)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")  # a process of Accelerate's own would wait for another one
    before, state = sys.stdin, dict(PartialState._shared_state)
    sink = AccelerateSink(AccelerateTrack(name="fake", project="films", options={"mode": "quiet"}), "track[0]")
    run = tracked(tmp_path)
    assert sent_to(sink, run, step(1), evaluation(1, f1=0.5), notice("left out"), ended=END) == run.key
    assert FakeTracker.said == [
        ("project", "films", {"mode": "quiet"}),
        ("processes", 1, "cpu"),
        ("parameters", as_scalars(run.parameters)),
        (1, step(1).numbers),
        (1, {"validation/f1": 0.5}),
        (None, {"report/test/f1": 0.6}),
        ("finish",),
    ]
    assert state == PartialState._shared_state and sys.stdin is before and os.environ["WORLD_SIZE"] == "2"


@pytest.mark.parity("HF-14")
def test_every_tracker_of_accelerate_has_a_row_or_a_kind_of_its_own() -> None:
    assert set(SERVICES) | {"tensorboard", "mlflow"} == set(LOGGER_TYPE_TO_CLASS)


@pytest.mark.parametrize(
    ("name", "reason"), [("wandb", "not installed"), ("wandbb", "unknown"), ("mlflow", "a kind of its own")]
)
def test_a_tracker_that_is_unknown_or_not_installed_is_refused(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERVICES, "wandb", replace(SERVICES["wandb"], package="not_there"))
    with refused(ConfigError, key="track[1].name", value=name, reason=reason):
        AccelerateSink(AccelerateTrack(name=name), "track[1]")


def test_a_package_that_is_missing_is_named_with_what_installs_it() -> None:
    with refused(ConfigError, key="track[0].kind", value="mlflow", reason="not installed"):
        require_installed("mlflow_that_is_not_there", key="track[0].kind", value="mlflow")


def test_a_service_that_keeps_its_run_for_the_process_is_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTracker.register(monkeypatch)
    tracks = [AccelerateTrack(name="fake", project=project) for project in ("one", "other")]
    with refused(ConfigError, key="track[1]", value="fake", reason="track[0]"):
        build_targets(tracks, tmp_path)
    boards = [TensorBoardTrack(folder=folder) for folder in ("one", "other")]
    assert len(build_targets(boards, tmp_path)) == 2


def test_a_service_gives_its_own_name_of_the_run_and_gets_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTracker.register(monkeypatch)
    service = Service("accelerate", lambda run: {"known": run.known}, run_of=lambda _: "their-7", takes_texts=True)
    monkeypatch.setitem(SERVICES, "fake", service)
    sink = AccelerateSink(AccelerateTrack(name="fake"), "track[0]")
    assert sent_to(sink, tracked(tmp_path), notice("said")) == "their-7"
    assert sent_to(sink, tracked(tmp_path, known="their-7")) == "their-7"
    assert (0, {"notice/1": "said"}) in FakeTracker.said
    assert [one[2] for one in FakeTracker.said if one[0] == "project"] == [{"known": ""}, {"known": "their-7"}]


def test_services_write_into_the_run_folder_where_they_can_be_told(tmp_path: Path) -> None:
    run = tracked(tmp_path)
    told = {
        name
        for name, service in SERVICES.items()
        if any(str(value).startswith(str(tmp_path)) for value in service.options(run).values())
    }
    assert told == {"wandb", "aim", "dvclive", "swanlab"}
