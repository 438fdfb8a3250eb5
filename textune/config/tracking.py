"""Keys for trackers, which a run is sent to while it trains; part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from textune.config.section import Section
from textune.config.values import DottedPath, FilePath


class TrackKeys(Section):
    """Keys of every kind of tracker."""

    files: Literal["all", "reports", "none"] = "all"
    """What a tracker that keeps files gets when the run is complete: `reports` are its configuration, manifest,
    metrics, plots and reports, which quote some of the texts; `all` also the best model and, for each reported set,
    the file with the answer to every row."""
    wait: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    """Seconds that the end of a run waits for a tracker that has not received everything yet; `textune tracking
    replay` sends the rest."""


class TensorBoardTrack(TrackKeys):
    """TensorBoard: files that `tensorboard --logdir` shows."""

    kind: Literal["tensorboard"] = "tensorboard"
    """Event files of TensorBoard."""
    folder: FilePath | None = None
    """Where they are written; by default `tensorboard` in the run folder."""


class MlflowTrack(TrackKeys):
    """MLflow: a server, or a database in a file."""

    kind: Literal["mlflow"] = "mlflow"
    """A run of MLflow."""
    uri: Annotated[str, Field(min_length=1, examples=["sqlite:///mlflow.db"])]
    """Address of a server, such as `http://localhost:5000`, or of a database, such as `sqlite:///mlflow.db`."""
    experiment: Annotated[str, Field(min_length=1)] = "textune"
    """The experiment of MLflow; made if need be."""
    run_name: str | None = None
    """What MLflow calls the run; by default the name of the run folder."""


class AccelerateTrack(TrackKeys):
    """A tracker that Hugging Face's Accelerate knows, such as Weights & Biases, Comet or ClearML."""

    kind: Literal["accelerate"] = "accelerate"
    """A tracker of Accelerate."""
    name: Annotated[str, Field(min_length=1, examples=["wandb"])]
    """Accelerate's name of it, such as `wandb`, `comet_ml` or `clearml`."""
    project: Annotated[str, Field(min_length=1)] = "textune"
    """What the tracker calls the project."""
    options: dict[str, Any] = {}
    """Keyword arguments of the tracker's class, such as `{ entity = "us" }`."""


class PythonTrack(TrackKeys):
    """Your own class."""

    kind: Literal["python"] = "python"
    """A tracker in Python."""
    object: DottedPath
    """`package.module:Name`; called with `options`, it returns an object with the methods `open`, `send` and
    `finish` (docs/tracking.md)."""
    options: dict[str, Any] = {}
    """Keyword arguments of the call."""


Track = Annotated[TensorBoardTrack | MlflowTrack | AccelerateTrack | PythonTrack, Field(discriminator="kind")]
