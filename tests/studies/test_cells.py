"""Cells: every combination once, names that a person and a file system can read, draws that never change."""

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.errors import refused

from textune.config.sweepkeys import RandomSearch, SearchKeys
from textune.errors import ConfigError
from textune.studies.cells import Cell, combinations, named, short_keys, tree_of, values_in_words
from textune.studies.drawing import corners, drawn

LR = "train.optimizer.lr"


def names(*values: dict[str, Any], **how: Any) -> list[str]:
    return [cell.name for cell in named(values, **how)]


def test_a_grid_is_every_combination_and_its_last_key_changes_first() -> None:
    search = SearchKeys(
        grid={LR: (1, 2), "train.seed": (3, 4)}, together=({"train.batch_size": 8}, {"train.batch_size": 16})
    )
    found = combinations(search)
    expected = [
        {"train.batch_size": size, LR: lr, "train.seed": seed} for size in (8, 16) for lr in (1, 2) for seed in (3, 4)
    ]
    assert found == expected
    with refused(ConfigError, key="grid", value=10**6):
        combinations(SearchKeys(grid={LR: tuple(range(1000)), "train.seed": tuple(range(1000))}))


def test_names_say_the_values_in_short() -> None:
    values = {
        LR: 1e-5,
        "train.batch_size": 16,
        "train.deterministic": True,
        "train.duration": "2 epochs",
        "model.pretrained": "sentence-transformers/all-MiniLM-L6-v2",
        "train.schedule": {"kind": "polynomial", "warmup": "6 %"},
        "model.freeze": ["backbone", "embeddings"],
    }
    assert names(values) == [
        "lr=1e-5,batch_size=16,deterministic=true,duration=2-epochs,pretrained=all-MiniLM-L6-v2,"
        + names(values)[0].rpartition(",")[2]
    ]
    assert len(names(values)[0]) <= 100
    assert names({"train.schedule": values["train.schedule"]}) == ["schedule=polynomial+6-pct"]
    assert names({"model.freeze": []}, {"model.freeze": ["a", "b"]}) == ["freeze=none", "freeze=a+b"]
    assert short_keys(["train.optimizer.kind", "train.schedule.kind", "train.seed"]) == {
        "train.optimizer.kind": "optimizer.kind",
        "train.schedule.kind": "schedule.kind",
        "train.seed": "seed",
    }
    assert names({LR: 1}, {LR: 2}, numbered=True) == ["001-lr=1", "002-lr=2"]


def test_values_that_read_alike_get_names_of_their_own() -> None:
    found = names({"model.pretrained": "a/model"}, {"model.pretrained": "b/model"}, {"model.pretrained": "b/MODEL"})
    assert found[0] == "pretrained=model" and len({name.lower() for name in found}) == 3
    again = names({"model.pretrained": "a/model"}, {"model.pretrained": "c/model"}, {"model.pretrained": "b/model"})
    assert again[2] == found[1]  # the hash follows from the values alone


_VALUES = st.one_of(
    st.text(max_size=60), st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans()
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from([LR, "train.seed", "model.pretrained"]), _VALUES, min_size=1), max_size=8)
)
def test_any_values_make_names_that_are_safe_and_unique(each: list[dict[str, Any]]) -> None:
    distinct = list({repr(sorted(values.items())): values for values in each}.values())
    found = names(*distinct)
    assert all(re.fullmatch(r"[A-Za-z0-9._+=,-]{1,120}", name) and not name.startswith((".", "-")) for name in found)
    assert len({name.lower() for name in found}) == len(found)


def test_values_by_dotted_key_become_tables() -> None:
    assert tree_of({"a.b": 1, "a.c.d": 2, 'e."x.y"': 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": {"x.y": 3}}
    assert values_in_words({LR: 1e-5, "train.duration": "2 epochs"}) == 'lr = 1e-5, duration = "2 epochs"'
    assert Cell("x", {}).loaded is None


SPACE: dict[str, Any] = {
    LR: {"kind": "log_uniform", "low": 1e-5, "high": 1e-3},
    "train.optimizer.weight_decay": {"kind": "uniform", "low": 0, "high": 0.1},
    "train.batch_size": {"kind": "int", "low": 8, "high": 30, "step": 8},
    "train.schedule.kind": ["linear", "constant"],
}


def search(trials: int, **more: Any) -> RandomSearch:
    return RandomSearch.model_validate({"trials": trials, "space": SPACE, **more})


def test_draws_are_those_of_the_seed_and_more_trials_begin_alike() -> None:
    few, many = drawn(search(3)), drawn(search(50))
    assert many[:3] == few != drawn(search(3, seed=1))
    assert few[0] == {  # whatever the platform and the version of numpy
        LR: few[0][LR],
        "train.optimizer.weight_decay": few[0]["train.optimizer.weight_decay"],
        "train.batch_size": few[0]["train.batch_size"],
        "train.schedule.kind": few[0]["train.schedule.kind"],
    }
    assert len({repr(values) for values in many}) == 50


def test_draws_keep_to_their_distributions() -> None:
    many = drawn(search(2000))
    rates = [float(str(values[LR])) for values in many]
    decays = [float(str(values["train.optimizer.weight_decay"])) for values in many]
    assert all(1e-5 <= rate <= 1e-3 for rate in rates) and all(0 <= decay <= 0.1 for decay in decays)
    assert sum(rate < 1e-4 for rate in rates) / 2000 == pytest.approx(0.5, abs=0.05)  # half of the two decades
    assert sum(decay < 0.05 for decay in decays) / 2000 == pytest.approx(0.5, abs=0.05)
    sizes = [values["train.batch_size"] for values in many]
    assert all(sizes.count(size) / 2000 == pytest.approx(1 / 3, abs=0.05) for size in (8, 16, 24))
    assert {values["train.schedule.kind"] for values in many} == {"linear", "constant"}
    assert all(float(f"{rate:.4g}") == rate for rate in rates)
    assert math.isclose(sum(map(math.log10, rates)) / 2000, -4, abs_tol=0.1)


def test_a_space_with_fewer_combinations_than_trials_is_refused() -> None:
    space = {"train.seed": [1, 2], "train.batch_size": {"kind": "int", "low": 1, "high": 2}}
    every = drawn(RandomSearch.model_validate({"trials": 4, "space": space}))
    assert len({repr(values) for values in every}) == 4
    with refused(ConfigError, key="random.trials", value=5):
        drawn(RandomSearch.model_validate({"trials": 5, "space": space}))
    with refused(ConfigError, key="random.trials", value=9):
        narrow = {LR: {"kind": "uniform", "low": 0.5, "high": 0.5002}}
        drawn(RandomSearch.model_validate({"trials": 9, "space": narrow}))


def test_corners_show_every_edge_of_a_space() -> None:
    found = corners(search(1).space)
    assert [values[LR] for values in found[:2]] == [1e-5, 1e-3]
    assert {values["train.batch_size"] for values in found} == {8, 24}
    assert {values["train.schedule.kind"] for values in found} == {"linear", "constant"} and len(found) == 5
