"""Metrics, their intervals, and the report: what scores are worth against the targets."""

from textune.evaluation.intervals import bootstrap_interval
from textune.evaluation.metrics import METRICS, ClassMetrics, Metric, compute_metrics, metrics_for, per_class, resolve_metric
from textune.evaluation.report import Report, build_report

__all__ = [
    "METRICS",
    "ClassMetrics",
    "Metric",
    "Report",
    "bootstrap_interval",
    "build_report",
    "compute_metrics",
    "metrics_for",
    "per_class",
    "resolve_metric",
]
