"""Metrics, their intervals, and the report: what scores are worth against the targets."""

from textune.evaluation.intervals import Interval, confidence_interval
from textune.evaluation.metrics import METRICS, ClassMetrics, Metric, compute_metrics, metrics_for, per_class, resolve_metric
from textune.evaluation.reduction import Reduction, num_ranked, ranking_note, scored_rows
from textune.evaluation.report import Report, build_report
from textune.evaluation.scored import Scored
from textune.evaluation.stored import read_report

__all__ = [
    "METRICS",
    "ClassMetrics",
    "Interval",
    "Metric",
    "Reduction",
    "Report",
    "Scored",
    "build_report",
    "compute_metrics",
    "confidence_interval",
    "metrics_for",
    "num_ranked",
    "per_class",
    "ranking_note",
    "read_report",
    "resolve_metric",
    "scored_rows",
]
