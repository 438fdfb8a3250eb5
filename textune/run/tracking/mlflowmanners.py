"""MLflow as a guest in this process: it asks nobody, reports to nobody, prints nothing, and gives up soon.

Its defaults are changed only while a sink is using it; an environment variable of MLflow's still has the last word.
They are changed in MLflow itself, not in the environment of the process, which other threads may be reading.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from textune.run.tracking.whileused import WhileUsed

DEFAULTS: dict[str, object] = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": 60,
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 0,
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": 300,
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": False,
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True,
    "MLFLOW_UV_AUTO_DETECT": False,
}
"""By environment variable: seconds that a server may be silent, no tries but those of the sender, nothing printed,
no files of the working directory in a saved model."""
_AT_IMPORT = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
"""Environment variables that MLflow reads when it is imported."""


def import_client() -> Any:
    """`MlflowClient`, imported without MLflow's telemetry, unless somebody has imported MLflow before."""
    missing = {name: value for name, value in _AT_IMPORT.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        from mlflow.tracking import MlflowClient
    finally:
        for name in missing:
            del os.environ[name]
    return MlflowClient


def _behave() -> Callable[[], None]:
    from mlflow import environment_variables

    variables = {name: getattr(environment_variables, name, None) for name in DEFAULTS}
    known = {name: variable for name, variable in variables.items() if variable is not None}  # in this version
    before = {name: variable.default for name, variable in known.items()}
    log = logging.getLogger("mlflow")
    level = log.level

    def restore() -> None:
        for name, variable in known.items():
            variable.default = before[name]
        log.setLevel(level)

    for name, variable in known.items():
        variable.default = DEFAULTS[name]
    log.setLevel(logging.ERROR)
    return restore


GOOD_MANNERS = WhileUsed(_behave)
"""Around every use of MLflow: `DEFAULTS` hold, and only errors are logged."""
