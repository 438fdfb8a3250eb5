"""Composition root: the verbs of textune as importable functions, each building its parts in the order the data flows."""

from textune.pipeline.checking import CheckResult, check
from textune.pipeline.evaluating import evaluate
from textune.pipeline.loading import TrainedModel, load
from textune.pipeline.predicting import predict_file
from textune.pipeline.training import TrainResult, train

__all__ = ["CheckResult", "TrainResult", "TrainedModel", "check", "evaluate", "load", "predict_file", "train"]
