"""`[[track]]`, of TrainingArguments' `report_to`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from textune.adapters.foreign import Line
from textune.adapters.trainer.given import Values
from textune.wording import listing

_BY_ACCELERATE = ("wandb", "comet_ml", "clearml", "aim", "dvclive", "swanlab", "trackio")
_MODULES = ("tensorboard", "mlflow", *_BY_ACCELERATE)
_MLFLOW = "sqlite:///mlflow.db"


def tracker_lines(values: Values) -> Iterator[Line]:
    """A tracker for each name; `all` are those that are installed, and said."""
    found = values["report_to"]
    names = [found] if isinstance(found, str) else list(found or [])
    names = [part.strip() for name in names for part in name.split(",") if part.strip() not in ("", "none")]
    if "all" in names:
        names = [name for name in _MODULES if find_spec(name) is not None]
        values.notes.append(f"report_to = all: of the trackers, these are installed: {', '.join(names) or 'none'}.")
    tracks = tuple(_track(values, name) for name in names)
    if tracks:
        yield Line("track", tracks, values.origin("report_to"))
    if not any(track["kind"] == "mlflow" for track in tracks):
        values.leave_out("run_name", "trackers call a run by the name of its folder")
    if not any(track["kind"] == "accelerate" for track in tracks):
        values.leave_out("project", "no tracker of report_to has projects")


def _track(values: Values, name: str) -> dict[str, object]:
    if name == "tensorboard":
        return {"kind": "tensorboard"}
    if name == "mlflow":
        values.notes.append(f"report_to: MLflow's server is not read from MLFLOW_TRACKING_URI; {_MLFLOW} is used.")
        return {"kind": "mlflow", "uri": _MLFLOW} | ({"run_name": values["run_name"]} if values["run_name"] else {})
    if name not in _BY_ACCELERATE:
        values.refuse("report_to", f"textune has no tracker {name}.", f"Write one of {listing(_MODULES)}.")
    return {"kind": "accelerate", "name": name, "project": values["project"]}
