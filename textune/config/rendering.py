"""What documents with metadata cannot go with, and keys of `metadata` that contradict each other."""

from __future__ import annotations

from textune.config.problems import Problem
from textune.config.schema import Experiment


def rendering_problems(experiment: Experiment) -> list[Problem]:
    """Documents are rendered for language models, which no task trains."""
    if experiment.metadata is None:
        return []
    message = "metadata renders documents for a language model, and no task trains one: tasks are classifiers."
    return [Problem(("metadata",), message, "Leave the section out; textune render and textune check read it.")]
