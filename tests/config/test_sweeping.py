"""The file of a sweep: what it may hold, and what is refused before anything is looked at."""

from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.config.sweeping import load_sweep
from textune.config.sweepkeys import Choice, LogUniform, Uniform, WholeNumber
from textune.errors import ConfigError

LR = "train.optimizer.lr"
ONE = {"kind": "uniform", "low": 0, "high": 1}


def sweep(**search: Any) -> dict[str, Any]:
    return {"config": "preset:tiny", **search}


def stages(*searches: dict[str, Any]) -> dict[str, Any]:
    return sweep(stages=list(searches))


def drawn(space: Any, **more: Any) -> dict[str, Any]:
    return sweep(random={"trials": 2, "space": space, **more})


def test_keys_are_dotted_or_tables_or_both() -> None:
    dotted = {LR: [1e-5, 3e-5], "train.batch_size": [8], "model.config.hidden_dropout_prob": [0.1, 0.2]}
    tables = {
        "train": {"optimizer": {"lr": [1e-5, 3e-5]}, "batch_size": [8]},
        "model.config": {"hidden_dropout_prob": [0.1, 0.2]},
    }
    found = [load_sweep(sweep(grid=grid)).sweep.grid for grid in (dotted, tables)]
    assert found[0] == found[1] == {key: tuple(values) for key, values in dotted.items()}
    assert list(found[1]) == list(dotted)
    space = {"train": {"optimizer": {"lr": ONE}, "seed": [1, 2]}}
    search = load_sweep(drawn(space)).sweep.random
    assert search is not None and dict(search.space) == {
        LR: Uniform(low=0, high=1),
        "train.seed": Choice(values=(1, 2)),
    }
    together = load_sweep(sweep(together=[{"train": {"batch_size": 8}, LR: 1e-5}])).sweep.together
    assert together == ({"train.batch_size": 8, LR: 1e-5},)


def test_a_value_may_be_a_table_and_extends_is_a_key() -> None:
    schedules = [{"kind": "linear"}, {"kind": "polynomial", "power": 2}]
    found = load_sweep(sweep(grid={"train.schedule": schedules, "extends": ["preset:cpu", "preset:gpus"]})).sweep
    assert found.grid["train.schedule"] == tuple(schedules) and found.keys == ["train.schedule", "extends"]


def test_every_kind_of_distribution_is_read() -> None:
    space = {
        LR: {"kind": "log_uniform", "low": 1e-5, "high": 1e-3},
        "train.seed": {"kind": "int", "low": 1, "high": 9, "step": 2},
        "train.batch_size": {"kind": "choice", "values": [8, 16]},
    }
    search = load_sweep(drawn(space)).sweep.random
    assert search is not None
    assert [type(one) for one in search.space.values()] == [LogUniform, WholeNumber, Choice]


def test_a_file_names_its_config_from_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    file = tmp_path / "inside" / "rates.toml"
    file.write_text(f'config = "../base.toml"\n[grid]\n"{LR}" = [1e-5]\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = load_sweep("inside/rates.toml")
    assert (found.config, found.name, found.label, found.folder) == (
        "base.toml",
        "rates",
        "rates.toml",
        tmp_path / "inside",
    )
    with refused(ConfigError, key="train.optimizer.lrr", place="bad.toml"):
        (tmp_path / "bad.toml").write_text('config = "base.toml"\n[grid]\ntrain.optimizer.lrr = [1]\n')
        load_sweep("bad.toml")


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        (sweep(), "grid", None),
        (sweep(grid={}), "grid", None),
        (sweep(gird={LR: [1]}), "gird", None),
        (sweep(lr=[1]), "lr", None),
        ({"grid": {LR: [1]}}, "config", None),
        ({"config": 3, "grid": {LR: [1]}}, "config", 3),
        (sweep(grid=[1]), "grid", [1]),
        (sweep(grid={"train.optimizer.lrr": [1]}), "train.optimizer.lrr", None),
        (sweep(grid={"train": {"optimiser": {"lr": [1]}}}), "train.optimiser", None),
        (sweep(grid={"train.seed.x": [1]}), "train.seed.x", None),
        (sweep(grid={"train..seed": [1]}), 'grid."train..seed"', "train..seed"),
        (sweep(grid={LR: 1e-5}), f'grid."{LR}"', 1e-5),
        (sweep(grid={LR: []}), f'grid."{LR}"', []),
        (sweep(grid={LR: [1e-5, 2e-5, 1e-5]}), f'grid."{LR}"', 1e-5),
        (sweep(grid={"evaluate.metric": ["f1"]}), "evaluate.metric", None),
        (sweep(grid={"data.validation.count": [10, 20]}), "data.validation.count", None),
        (sweep(grid={"train.optimizer": [{"lr": 1}], LR: [1]}), LR, None),
        (sweep(grid={LR: [1]}, together=[{LR: 2}]), LR, None),
        (sweep(together=[{"train.optimizer.lrr": 2}]), "train.optimizer.lrr", None),
        (sweep(together={LR: 2}), "together", {LR: 2}),
        (sweep(grid={LR: [1]}, jobs=0), "jobs", 0),
        (sweep(grid={LR: [1]}, random={"trials": 2, "space": {"train.seed": [1, 2]}}), "random", None),
        (drawn({LR: ONE}, trials=0), "random.trials", 0),
        (drawn({LR: ONE}, trails=2), "random.trails", None),
        (drawn({}), "random.space", {}),
        (sweep(random={"trials": 2}), "random.space", None),
        (drawn({LR: 3}), f'random.space."{LR}"', 3),
        (drawn({LR: []}), f'random.space."{LR}".values', []),
        (drawn({LR: {"kind": "normal"}}), f'random.space."{LR}".kind', "normal"),
        (drawn({LR: {"low": 1, "high": 2}}), f'random.space."{LR}".kind', ""),
        (drawn({LR: {"kind": "uniform", "low": 1}}), f'random.space."{LR}".high', None),
        (drawn({LR: {**ONE, "low": "a"}}), f'random.space."{LR}".low', "a"),
        (drawn({LR: {**ONE, "high": 0}}), f'random.space."{LR}"', {**ONE, "high": 0}),
        (drawn({LR: {**ONE, "kind": "log_uniform"}}), f'random.space."{LR}".low', 0),
        (drawn({LR: {**ONE, "log": True}}), f'random.space."{LR}".log', None),
        (drawn({"train.lr": ONE}), "train.lr", None),
        (sweep(optuna={"trials": 2, "sampler": "tpee", "space": {LR: ONE}}), "optuna.sampler", "tpee"),
        (sweep(optuna={"trials": 0, "space": {LR: ONE}}), "optuna.trials", 0),
        (sweep(stages=3), "stages", 3),
        (sweep(grid={LR: [1]}, stages=[{"grid": {LR: [1]}}]), "grid", None),
        (stages({"grid": {LR: [1]}}, {}), "stages[1].grid", None),
        (stages({"nam": "x", "grid": {LR: [1]}}), "stages[0].nam", None),
        (stages({"name": "a/b", "grid": {LR: [1]}}), "stages[0].name", "a/b"),
        (stages({"name": "2", "grid": {LR: [1]}}, {"grid": {LR: [1]}}), "stages[1].name", "2"),
        (stages({"grid": {LR: [1]}, "continues": "all"}), "stages[0].continues", "all"),
        (stages({"grid": {LR: [1]}, "random": {"trials": 1, "space": {LR: ONE}}}), "stages[0].random", None),
    ],
)
def test_what_cannot_be_tried_is_refused(given: dict[str, Any], key: str, value: Any) -> None:
    with refused(ConfigError, key=key, value=value):
        load_sweep(given)


def test_what_is_no_sweep_at_all_is_refused(tmp_path: Path) -> None:
    with refused(ConfigError):
        load_sweep(5)  # type: ignore[arg-type]
    (tmp_path / "rates.toml").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_sweep(tmp_path / "rate.toml")
    assert "rate.toml" in caught.value.place and str(tmp_path / "rates.toml") in caught.value.hint
    for other in (tmp_path / "missing.toml", tmp_path):
        with refused(ConfigError, place=str(other)):
            load_sweep(other)


def test_the_nearest_key_is_named_and_where_values_belong() -> None:
    for given, hint in [
        (sweep(grid={"train.optimizer.lrr": [1]}), LR),
        (sweep(grid={"train.learning_rate": [1]}), LR),
        (sweep(gird={}), "grid"),
        (sweep(lr=[1]), f'"{LR}"'),
        (drawn({LR: ONE}, trails=2), "random.trials"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load_sweep(given)
        assert hint in caught.value.hint
