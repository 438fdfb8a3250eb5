"""From a model and batches to trained weights; after `model`, before `predict`."""

from textune.training.keeper import CheckpointKeeper
from textune.training.learner import Learner, build_learner
from textune.training.loop import StepResult, steps
from textune.training.stopping import BestTracker, Improvement

__all__ = ["BestTracker", "CheckpointKeeper", "Improvement", "Learner", "StepResult", "build_learner", "steps"]
