"""Plots of a report and of training as PNG files, for slides and trackers; by matplotlib, imported where it draws.

They draw what the page draws (`html/figures/`), of bounded size, from the report and the history alone.
To add a plot: write a function that fills a figure and says whether there was anything to draw, and give it a row in
`PLOTS`.

Figures are made without pyplot, in matplotlib's default style: neither the figures nor the settings of a program that
uses matplotlib itself change, or change these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from textune.errors import ConfigError
from textune.evaluation.curves import NUM_BINS, Curves
from textune.evaluation.drawn import NUM_CELLS
from textune.evaluation.render.story import History, Series
from textune.evaluation.report import Report
from textune.evaluation.wording import number, one_line, shorten
from textune.imports import quietly

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class _Draw(Protocol):
    """Fills a figure; false where the report has nothing for it."""

    def __call__(self, figure: Figure, report: Report) -> bool: ...


PACKAGE = "matplotlib"
MAX_CLASSES = 80
"""Classes up to which the whole confusion matrix is drawn."""
MAX_COUNTED = 20
"""Classes up to which each cell says its rows, and most bars of a plot."""
MAX_NAMED = 6
"""Lines that are named, those of the lowest classes; and most panels of a plot."""
MAX_METRICS = 4
"""Metrics drawn over the steps of training."""
_LETTERS = 28
"""Most characters of a name."""
_SIZE = (6.4, 4.8)
"""Width and height in inches, of `_DOTS` points each."""
_DOTS = 100


def require_plots(key: str) -> None:
    """ConfigError where matplotlib, which `key` asks for, is not installed."""
    if find_spec(PACKAGE) is None:
        raise ConfigError(
            f"{key} asks for plots, and the package {PACKAGE} is not installed.",
            hint='Run `pip install "textune[plots]"`, or leave it out: report.html has the same plots.',
            key=key,
            value="true",
            reason=f"{PACKAGE} is not installed",
        )


def plots_of(report: Report) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The plots of a report as PNG, by file name; of several tasks, those of each in a folder of its name."""
    for name, draw in PLOTS.items():
        data = _png(partial(draw, report=report))
        if data is not None:
            yield PurePosixPath(f"{name}.png"), data
    for task, own in report.tasks.items():
        for path, data in plots_of(own):
            yield PurePosixPath(_file_name(task)) / path, data


def plots_of_training(history: History, best_step: int | None) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Loss, learning rate and the first metrics over the steps, as PNG, by file name. `best_step`: that of the best
    model."""
    drawn: list[tuple[str, str, Sequence[Series]]]
    drawn = [("loss", "training loss", (history.loss,)), ("learning-rate", "learning rate", (history.rates,))]
    metrics = list(history.evaluations.items())[:MAX_METRICS]
    drawn += [(f"training-{_file_name(metric)}", metric, series) for metric, series in metrics]
    for name, what, series in drawn:
        data = _png(partial(_over_steps, what=what, series=series, best_step=best_step))
        if data is not None:
            yield PurePosixPath(f"{name}.png"), data


def _png(draw: Callable[[Figure], bool]) -> bytes | None:
    """What `draw` puts into a figure; None where it says that there is nothing."""
    with quietly(PACKAGE):  # of its list of fonts, and of letters that its font lacks
        from matplotlib import style
        from matplotlib.figure import Figure

        with style.context("default"):
            figure = Figure(figsize=_SIZE, dpi=_DOTS, layout="constrained")
            if not draw(figure):
                return None
            data = BytesIO()
            figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


# --- of a report -----------------------------------------------------------------------------------------------------


def confusion_matrix(figure: Figure, report: Report) -> bool:
    """True classes as lines, answers as columns; the darker, the larger a cell's share of its line."""
    if report.matrix is None or not 1 < len(report.names) <= MAX_CLASSES:
        return False
    rows_CC = np.asarray(report.matrix)
    shares_CC = rows_CC / rows_CC.sum(axis=1, keepdims=True).clip(min=1)
    side = max(_SIZE[1], 2 + 0.25 * len(report.names))
    figure.set_size_inches(side + 1, side)
    axes = _axes(figure, "Confusion matrix", "answer", "true class")
    figure.colorbar(axes.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1), label="share of the class", shrink=0.8)
    names = [_name(name) for name in report.names]
    axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    if len(names) <= MAX_COUNTED:
        for (true, answer), rows in np.ndenumerate(rows_CC):
            colour = "white" if shares_CC[true, answer] > 0.5 else "black"
            axes.text(answer, true, f"{rows}", ha="center", va="center", color=colour, fontsize=8)
    return True


def confusions(figure: Figure, report: Report) -> bool:
    """The most frequent confusions, where the matrix is too large to see them in."""
    if not report.confusions or len(report.names) <= MAX_COUNTED:
        return False
    shown = report.confusions[:MAX_COUNTED]
    axes = _axes(figure, "Most frequent confusions", "rows", "")
    _bars(axes, [f"{_name(pair.true)} → {_name(pair.predicted)}" for pair in shown], [pair.rows for pair in shown])
    return True


def lowest_classes(figure: Figure, report: Report) -> bool:
    """F1 of the classes that have rows, lowest first."""
    shown = [report.classes[at] for at in report.worst_classes() if report.classes[at].support][:MAX_COUNTED]
    if not shown:
        return False
    axes = _axes(figure, "Classes with the lowest F1", "F1", "")
    axes.set_xlim(0, 1)
    _bars(axes, [_name(row.name) for row in shown], [row.f1 for row in shown])
    return True


def precision_recall(figure: Figure, report: Report) -> bool:
    """Precision over recall, a line for each class."""
    areas = {row.name: row.average_precision for row in report.classes}
    axes = _axes(figure, "Precision and recall (average precision)", "recall", "precision")
    return _lines(axes, report, areas, lambda one: (one.thresholds.recall, one.thresholds.precision))


def roc(figure: Figure, report: Report) -> bool:
    """Recall over the false positive rate, a line for each class."""
    areas = {row.name: row.roc_auc for row in report.classes}
    axes = _axes(figure, "ROC curve (area)", "share of other rows mistaken", "share of rows found")
    _diagonal(axes, 0, 1)
    return _lines(
        axes,
        report,
        areas,
        lambda one: ((0.0, *one.thresholds.false_positive_rate), (0.0, *one.thresholds.recall)),
    )


def scores(figure: Figure, report: Report) -> bool:
    """Density of the probability of a class over its own rows and over the others, for the lowest classes."""
    if not report.curves:
        return False
    areas = {row.name: row.roc_auc for row in report.classes}
    shown = _lowest_first(report, areas)[:MAX_NAMED]
    columns = min(len(shown), 2)
    lines = math.ceil(len(shown) / columns)
    figure.set_size_inches(_SIZE[0], max(_SIZE[1], 2.4 * lines))
    for place, one in enumerate(shown, 1):
        axes = figure.add_subplot(lines, columns, place)
        _density(axes, one)
        axes.set_title(_name(one.name), parse_math=False)
    figure.supxlabel("probability of the class")
    figure.supylabel("density of rows")
    return True


def reliability(figure: Figure, report: Report) -> bool:
    """Share of right answers over their probability."""
    if (known := report.drawn.confidence) is None:
        return False
    title = f"Reliability (expected calibration error {number(known.error)})"
    what = "answers that are right" if report.label_map.exclusive else "labels that a row has"
    axes = _axes(figure, title, "probability", f"share of {what}")
    _diagonal(axes, 0, 1)
    axes.plot(known.reliability.score, known.reliability.share, marker="o")
    return True


def coverage(figure: Figure, report: Report) -> bool:
    """Accuracy of the surest answers, over how many are given."""
    if (known := report.drawn.coverage) is None:
        return False
    axes = _axes(figure, "What abstaining is worth", "share of rows that are answered", "share of these that is right")
    axes.plot(known.coverage, known.accuracy, marker=".")
    axes.set_xlim(0, 1)
    return True


def predicted_and_true(figure: Figure, report: Report) -> bool:
    """Predicted beside true numbers: a square of cells, the darker the more rows."""
    if (known := report.drawn.spread) is None:
        return False
    rows_PT = np.zeros((NUM_CELLS, NUM_CELLS))
    for true, predicted, rows in known.cells:
        rows_PT[predicted, true] = rows
    axes = _axes(figure, "Predicted and true", "true", "predicted")
    ends = (known.low, known.high)
    shown = np.ma.masked_equal(rows_PT, 0)
    figure.colorbar(axes.imshow(shown, cmap="viridis_r", origin="lower", extent=(*ends, *ends)), label="rows")
    _diagonal(axes, *ends)
    return True


def distribution(figure: Figure, report: Report) -> bool:
    """How many rows have an error, or documents a loss, in each range."""
    if (known := report.drawn.distribution) is None:
        return False
    axes = _axes(figure, "Distribution", known.what, f"{report.unit}s")
    axes.stairs(known.rows, known.edges, fill=True)
    return True


PLOTS: dict[str, _Draw] = {
    "confusion-matrix": confusion_matrix,
    "confusions": confusions,
    "lowest-classes": lowest_classes,
    "precision-recall": precision_recall,
    "roc": roc,
    "scores": scores,
    "reliability": reliability,
    "coverage": coverage,
    "predicted-and-true": predicted_and_true,
    "distribution": distribution,
}
"""Every plot of a report by the name of its file."""


# --- parts of plots --------------------------------------------------------------------------------------------------


def _over_steps(figure: Figure, what: str, series: Sequence[Series], best_step: int | None) -> bool:
    """Values over steps, a line for each set."""
    shown = [one for one in series if one.steps]
    if not shown:
        return False
    axes = _axes(figure, one_line(what, _LETTERS), "step", one_line(what, _LETTERS))
    lines = [axes.plot(one.steps, one.values, marker="." if len(one.steps) <= 20 else "")[0] for one in shown]
    names = [_name(one.name).lstrip("_") for one in shown]  # older matplotlibs leave such names out
    if best_step is not None:
        lines.append(axes.axvline(best_step, color="grey", linestyle=":"))
        names.append("the best model")
    if len(names) > 1:
        _legend(axes, lines, names)
    return True


def _lines(
    axes: Axes,
    report: Report,
    areas: dict[str, float],
    points: Callable[[Curves], tuple[Sequence[float], Sequence[float]]],
) -> bool:
    """A line for each class: the lowest by name, the others faint."""
    ordered = _lowest_first(report, areas)
    for one in ordered[MAX_NAMED:]:
        axes.plot(*points(one), color="lightgrey", linewidth=0.8)
    lines = [axes.plot(*points(one))[0] for one in ordered[:MAX_NAMED]]
    if lines:
        _legend(axes, lines, [f"{number(areas[one.name])} {_name(one.name)}" for one in ordered[:MAX_NAMED]])
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return bool(lines)


def _lowest_first(report: Report, areas: dict[str, float]) -> list[Curves]:
    return sorted(report.curves, key=lambda one: areas.get(one.name, 1.0))


def _density(axes: Axes, one: Curves) -> None:
    """Of each range of probabilities, its share of the rows of the class, and of the others, over its width."""
    known = one.reliability
    rows_R, shares_R = np.asarray(known.rows, np.float64), np.asarray(known.share)
    range_R = (np.asarray(known.score) * NUM_BINS).astype(np.int64).clip(0, NUM_BINS - 1)
    edges = np.linspace(0, 1, NUM_BINS + 1)
    lines, names = [], ("the others", "of the class")
    for counts_R in (rows_R * (1 - shares_R), rows_R * shares_R):
        counts = np.bincount(range_R, counts_R, NUM_BINS)
        lines.append(axes.stairs(counts / counts.sum() * NUM_BINS, edges, fill=True, alpha=0.55))
    _legend(axes, lines, names)


def _axes(figure: Figure, title: str, x_title: str, y_title: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_title(title, parse_math=False)
    axes.set_xlabel(x_title, parse_math=False)
    axes.set_ylabel(y_title, parse_math=False)
    return axes


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float]) -> None:
    """Bars from the left, the first on top."""
    places = range(len(names))
    axes.barh(places, values)
    axes.set_yticks(places, names, parse_math=False)
    axes.invert_yaxis()


def _diagonal(axes: Axes, low: float, high: float) -> None:
    axes.plot((low, high), (low, high), color="grey", linestyle="--", linewidth=1)


def _legend(axes: Axes, lines: Sequence[Any], names: Sequence[str]) -> None:
    for text in axes.legend(lines, names, fontsize=8).get_texts():
        text.set_parse_math(False)  # names of the data are no formulas


def _name(text: str) -> str:
    return shorten(one_line(text, 1000), _LETTERS)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "-", text)
