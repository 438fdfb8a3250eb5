"""The sections themselves: durations, coercions, constraints, descriptions, and what importing them costs."""

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import textune.config.schema as schema
from textune.config.schema import Experiment, TrainSection
from textune.config.section import Section
from textune.config.sources import FilesSource, Labels
from textune.config.taskkinds import AutoTask, BinaryTask
from textune.config.values import Duration


def sections(root: type[Section] = Section) -> Iterator[type[Section]]:
    for section in root.__subclasses__():
        yield section
        yield from sections(section)


def test_every_section_and_key_is_described() -> None:
    found = list(sections())
    assert {Experiment, FilesSource, AutoTask} <= set(found)
    for section in found:
        assert section.__doc__ and section.__doc__.rstrip().endswith("."), section
        for name, field in section.model_fields.items():
            assert field.description and field.description.rstrip().endswith("."), f"{section.__name__}.{name}"


def test_every_section_is_frozen_and_strict_about_keys() -> None:
    for section in sections():
        assert section.model_config.get("frozen") and section.model_config.get("extra") == "forbid"
    with pytest.raises(ValidationError):
        Experiment().train.seed = 3


def test_defaults_are_valid_and_hashable_values_are_tuples() -> None:
    assert Experiment.model_validate(Experiment().model_dump()) == Experiment()
    assert Experiment.model_validate_json(Experiment().model_dump_json()) == Experiment()
    assert FilesSource(files=["a"]).files == ("a",)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500 steps", Duration(500, "steps")),
        ("1 step", Duration(1, "steps")),
        ("2 epochs", Duration(2, "epochs")),
        (" 0.25  epochs ", Duration(0.25, "epochs")),
        (".5 epoch", Duration(0.5, "epochs")),
        ("3. steps", Duration(3, "steps")),
        ("6 %", Duration(6, "%")),
        (" 12.5% ", Duration(12.5, "%")),
        ("1%", Duration(1, "%")),
    ],
)
def test_durations_are_read(text: str, duration: Duration) -> None:
    assert Duration.parse(text) == duration
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "steps",
        "-1 steps",
        "2.5 steps",
        "1e3 steps",
        "2 weeks",
        "",
        3,
        None,
        "9" * 400 + " steps",
        "6%%",
        "%",
        "-6 %",
    ],
)
def test_other_durations_are_refused_with_a_reason(text: object) -> None:
    with pytest.raises(ValueError, match=r"duration is|whole numbers"):
        Duration.parse(text)


def test_a_share_is_one_of_the_run_and_at_most_all_of_it() -> None:
    assert [Duration(amount, "%").steps(10, 250) for amount in (0, 0.01, 6, 100)] == [0, 1, 15, 250]
    with pytest.raises(ValueError, match="at most 100 %"):
        Duration.parse("101 %")
    with pytest.raises(ValidationError, match="cannot say how long the run is"):
        TrainSection.model_validate({"duration": "50 %"})


@given(
    st.integers(0, 10**12).map(lambda n: Duration(float(n), "steps"))
    | st.floats(0, 1e12).map(lambda n: Duration(n, "epochs"))
    | st.floats(0, 100).map(lambda n: Duration(n, "%"))
)
def test_durations_survive_being_written(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


def test_durations_in_steps() -> None:
    assert [Duration(amount, "%").steps(10, 100, rounding="up") for amount in (0, 0.01, 6.1, 7, 100)] == [
        0,
        1,
        7,
        math.ceil(100 * 0.07),  # as Trainer multiplies
        100,
    ]
    assert Duration(0.21, "epochs").steps(10, rounding="up") == 3
    assert Duration(2, "epochs").steps(10) == 20
    assert Duration(0.25, "epochs").steps(10) == 2
    assert Duration(0.001, "epochs").steps(10) == 1
    assert Duration(0, "epochs").steps(10) == 0
    assert Duration(7, "steps").steps(10) == 7
    assert (str(Duration(1, "epochs")), str(Duration(1234567, "steps"))) == ("1 epoch", "1234567 steps")


def test_names_take_one_or_more_and_numbers() -> None:
    assert Labels(names="a").names == ("a",)
    assert Labels(names=[0, 1]).names == ("0", "1")
    with pytest.raises(ValidationError):
        Labels(names=[True])


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (TrainSection, {"duration": "0 epochs"}),
        (TrainSection, {"evaluate_every": "0 %"}),
        (TrainSection, {"schedule": {"kind": "linear", "power": 1}}),
        (TrainSection, {"schedule": {"kind": "cosine_with_restarts", "num_cycles": 0}}),
        (TrainSection, {"schedule": {"kind": "polynomial", "power": 0}}),
        (TrainSection, {"schedule": {"kind": "inverse_sqrt", "timescale": 0}}),
        (TrainSection, {"log_every": "0 steps"}),
        (TrainSection, {"seed": -1}),
        (TrainSection, {"max_grad_norm": float("inf")}),
        (FilesSource, {"encoding": "hex"}),
        (FilesSource, {"encoding": "a\0"}),
        (FilesSource, {"pattern": "no groups"}),
        (FilesSource, {"files": [""]}),
        (Labels, {"delimiter": ""}),
        (BinaryTask, {"num_logits": 3}),
        (AutoTask, {"class_weights": {"a": float("nan")}}),
    ],
)
def test_values_outside_their_limits(section: type[Section], values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(values)


def test_encodings_and_logits_that_are_fine() -> None:
    assert [FilesSource(encoding=name).encoding for name in ("latin-1", "utf-16", "cp1252")] == [
        "latin-1",
        "utf-16",
        "cp1252",
    ]
    assert BinaryTask.model_validate({"num_logits": "1"}).num_logits == 1


def test_config_is_light() -> None:
    heavy = "('torch', 'pyarrow', 'transformers', 'datasets', 'numpy', 'pandas')"
    code = f"import sys, textune.config; print([name for name in {heavy} if name in sys.modules])"
    root = Path(schema.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]"
