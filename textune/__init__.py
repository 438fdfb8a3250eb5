"""textune: a file of labelled text and one TOML config in; a fine-tuned, evaluated, reusable text model out.

    result = textune.train("config.toml", run="runs/x")
    textune.load("runs/x").predict(["a fine film"])

Nothing heavy is imported until one of these names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from textune.imports import importing

if TYPE_CHECKING:
    from textune.errors import TextuneError as TextuneError
    from textune.evaluation import Aim as Aim
    from textune.evaluation import Report as Report
    from textune.exports import push as push
    from textune.pipeline import check as check
    from textune.pipeline import decide as decide
    from textune.pipeline import evaluate as evaluate
    from textune.pipeline import load as load
    from textune.pipeline import models as models
    from textune.pipeline import predict_files as predict_files
    from textune.pipeline import train as train
    from textune.pipeline.load import TrainedModel as TrainedModel
    from textune.pipeline.train import TrainResult as TrainResult
    from textune.prediction import Prediction as Prediction
    from textune.studies import compare as compare
    from textune.studies import doctor as doctor
    from textune.studies import repeat as repeat
    from textune.studies import sweep as sweep

__version__ = "0.1.0"
__all__ = [
    "Aim",
    "Prediction",
    "Report",
    "TextuneError",
    "TrainResult",
    "TrainedModel",
    "__version__",
    "check",
    "compare",
    "decide",
    "doctor",
    "evaluate",
    "load",
    "models",
    "predict_files",
    "push",
    "repeat",
    "sweep",
    "train",
]

_HOMES = {
    "Aim": "textune.evaluation",
    "Prediction": "textune.prediction",
    "Report": "textune.evaluation",
    "TextuneError": "textune.errors",
    "TrainResult": "textune.pipeline",
    "TrainedModel": "textune.pipeline",
    "check": "textune.pipeline",
    "compare": "textune.studies",
    "decide": "textune.pipeline",
    "doctor": "textune.studies",
    "evaluate": "textune.pipeline",
    "load": "textune.pipeline",
    "models": "textune.pipeline",
    "predict_files": "textune.pipeline",
    "push": "textune.exports",
    "repeat": "textune.studies",
    "sweep": "textune.studies",
    "train": "textune.pipeline",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'textune' has no attribute {name!r}")
    with importing():
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
