"""What a session of a run works with once everything is open; made by `session.py`, used by the drive and its
parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textune.batches import Batches
from textune.model import CallerBudget
from textune.prediction import Scorer
from textune.run.folder import RunFolder
from textune.run.parts import Parts
from textune.run.signals import Interruption
from textune.run.state import Identity
from textune.run.tracking import Tracker
from textune.training import BestTracker, CheckpointKeeper, Learner

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True)
class Setup:
    """Everything that trains, evaluates, saves and reports in one process of a run."""

    parts: Parts
    config: Mapping[str, JsonValue]
    """The resolved configuration, as a checkpoint keeps it."""
    identity: Identity
    learner: Learner
    loader: Batches
    scorer: Scorer
    """The model in training, for evaluation."""
    budget: CallerBudget
    """Tokens that an evaluation computes at once."""
    best: BestTracker
    folder: RunFolder
    keeper: CheckpointKeeper
    tracker: Tracker
    interruption: Interruption
