"""The nine tasks of GLUE as the scripts know them: columns of the hub's rows, class names, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Glue:
    """One task; one without classes asks for a number."""

    texts: tuple[str, ...]
    classes: tuple[str, ...]
    metric: str | tuple[str, ...]
    """What `evaluate.load("glue", ...)` computes, in our words; of several, the combined score is the mean."""
    validation: str = "validation"
    test: str = "test"


_PAIR = ("sentence1", "sentence2")
_ENTAILS = ("entailment", "not_entailment")

GLUE: Mapping[str, Glue] = {
    "cola": Glue(("sentence",), ("unacceptable", "acceptable"), "mcc"),
    "mnli": Glue(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        "accuracy",
        "validation_matched",
        "test_matched",
    ),
    "mrpc": Glue(_PAIR, ("not_equivalent", "equivalent"), ("f1", "accuracy")),
    "qnli": Glue(("question", "sentence"), _ENTAILS, "accuracy"),
    "qqp": Glue(("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
    "rte": Glue(_PAIR, _ENTAILS, "accuracy"),
    "sst2": Glue(("sentence",), ("negative", "positive"), "accuracy"),
    "stsb": Glue(_PAIR, (), ("pearson", "spearman")),
    "wnli": Glue(_PAIR, ("not_entailment", "entailment"), "accuracy"),
}
"""By the names that `--task_name` takes."""
MISMATCHED = {"validation": "validation_mismatched", "test": "test_mismatched"}
"""The second sets of MNLI."""
