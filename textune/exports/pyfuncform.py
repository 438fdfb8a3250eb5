"""What the writer of an MLflow folder and the code in that folder both know of it; without MLflow."""

from __future__ import annotations

from textune.data import text_columns
from textune.prediction import ModelCard

MODEL = "model"
"""Name of the artefact that is our plain model folder."""
ALL_SCORES, DECISION = "all_scores", "decision"
"""Parameters of a prediction."""
CONFIG = {"device": "auto", "precision": "fp32", "max_tokens": None, "compile": "auto"}
"""How the folder is opened, unless `mlflow.pyfunc.load_model(..., model_config=...)` says otherwise: in the arithmetic
in which it was compared with the model that it was made of."""


def takes_lists(card: ModelCard) -> bool:
    """Whether a list of texts says all that the model reads. Its signature then has one column without a name: MLflow
    takes a list for no other one."""
    return card.metadata is None and len(text_columns(card.columns)) == 1
