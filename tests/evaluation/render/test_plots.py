"""The plots of reports and of training as PNG files."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from kits.reports import PAGES, classes_report, labels_report, numbers_report, story

from textune.errors import ConfigError
from textune.evaluation.render import plots
from textune.evaluation.render.plots import plots_of, plots_of_training, require_plots
from textune.evaluation.render.story import Series

CLASSES = {"lowest-classes", "precision-recall", "roc", "scores", "reliability"}
EXPECTED = {
    "labels": CLASSES,
    "many": CLASSES | {"confusion-matrix", "confusions", "coverage"},
    "binary": CLASSES | {"confusion-matrix", "coverage"},
    "numbers": {"predicted-and-true", "distribution"},
    "absent": CLASSES | {"confusion-matrix", "coverage"},
    "documents": {"distribution"},
}


def pixels(data: bytes) -> np.ndarray:
    """Float32 [height, width, 3] from 0 to 1."""
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(imread(BytesIO(data), format="png"))[:, :, :3]


def ink(data: bytes) -> float:
    """The share of a picture that has a colour; titles, axes, diagonals and faint lines have none."""
    shown = pixels(data)
    return float((shown.max(axis=2) - shown.min(axis=2) > 0.1).mean())


@pytest.fixture(autouse=True)
def matplotlib() -> Any:
    return pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parity("TW-19")
def test_each_kind_has_its_plots_and_each_has_ink(kind: str) -> None:
    drawn = {path.as_posix(): data for path, data in plots_of(PAGES[kind]())}
    assert set(drawn) == {f"{name}.png" for name in EXPECTED[kind]}
    shares = {name: ink(data) for name, data in drawn.items()}
    assert min(shares.values()) > 0.002, shares


def test_each_plot_is_drawn_for_some_kind() -> None:
    assert set().union(*EXPECTED.values()) == set(plots.PLOTS)


@pytest.mark.slow
def test_plots_of_tasks_are_in_folders_of_their_own() -> None:
    report = PAGES["tasks"]()
    folders = {path.parent.as_posix() for path, _ in plots_of(report)}
    assert folders == set(report.tasks)


def test_training_is_drawn_over_its_steps() -> None:
    history = story().history
    assert history is not None
    history = replace(history, rates=Series("learning rate", (), ()))
    drawn = {path.as_posix(): data for path, data in plots_of_training(history, 20)}
    assert set(drawn) == {"loss.png", "training-accuracy.png"}  # nothing is known of the learning rate
    assert min(map(ink, drawn.values())) > 0.002


def test_a_matrix_is_drawn_as_it_is() -> None:
    """The darkest cells of a good classifier are those of the diagonal."""
    (data,) = [data for path, data in plots_of(classes_report(2, 4000)) if path.stem == "confusion-matrix"]
    report = classes_report(2, 4000)
    assert report.matrix is not None
    swapped = replace(report, matrix=(report.matrix[1], report.matrix[0]))
    (other,) = [data for path, data in plots_of(swapped) if path.stem == "confusion-matrix"]
    first, second = pixels(data), pixels(other)
    assert first.shape == second.shape and not np.array_equal(first, second)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("name", ["$x_{", "_hidden", "情感", "a\nb\x00", "", "x" * 500])
def test_names_of_the_data_are_written_as_they_are(name: str) -> None:
    """They are no formulas, no hidden entries of a legend, and no font has to know them."""
    report = classes_report(2, 60)
    names = (report.names[0], name)
    report = replace(
        report,
        names=names,
        classes=(report.classes[0], replace(report.classes[1], name=name)),
        curves=tuple(replace(one, name=name) for one in report.curves),
    )
    assert len(list(plots_of(report))) == len(EXPECTED["binary"])


def test_the_settings_of_a_program_change_nothing(matplotlib: Any) -> None:
    """Nor do plots change these."""
    expected = dict(plots_of(numbers_report(50)))
    with matplotlib.rc_context({"axes.facecolor": "red", "text.usetex": True, "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        assert dict(plots_of(numbers_report(50))) == expected
        assert dict(matplotlib.rcParams) == before


def test_labels_without_curves_have_no_empty_plots() -> None:
    report = replace(labels_report(3, 40), curves=())
    assert {path.stem for path, _ in plots_of(report)} == {"lowest-classes", "reliability"}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        require_plots("evaluate.plots")
    assert (error.value.key, error.value.reason) == ("evaluate.plots", "matplotlib is not installed")
    assert 'pip install "textune[plots]"' in str(error.value.hint)
