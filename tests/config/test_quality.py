"""--preset: three presets by a short name, over the config and under the command line; refused where not meant."""

import tomllib
from dataclasses import replace

import pytest
from kits.errors import refused

from textune.adapters import load_any
from textune.config import StarterFacts, laid_over, preset_names, starter_config
from textune.config.quality import QUALITIES
from textune.errors import ConfigError


def test_a_preset_is_laid_over_the_config_and_under_every_override() -> None:
    config = {"train": {"duration": "9 epochs", "batch_size": 8, "seed": 4}, "model": {"pretrained": "x/y"}}
    for overrides in (["train.batch_size=16"], {"train.batch_size": 16}):
        train = load_any(config, overrides, preset="fast").experiment.train
        assert (str(train.duration), train.batch_size, train.seed) == ("2 epochs", 16, 4)
    loaded = load_any(config, preset="preset:best")
    assert loaded.origins["train.duration"] == "preset:best" and loaded.experiment.model.name == "x/y"


def test_what_the_overrides_extend_is_laid_over_the_preset() -> None:
    for overrides in (["extends=preset:glue"], {"extends": "preset:glue"}, {"extends": ["preset:glue"]}):
        loaded = load_any(None, overrides, preset="best")
        assert loaded.origins["train.duration"] == "preset:glue"
        assert loaded.origins["train.early_stopping.patience"] == "preset:best"


def test_a_starter_config_leaves_to_the_preset_how_to_train() -> None:
    facts = StarterFacts(files=("reviews.csv",), text="text", label="label", pretrained="x/y", num_rows=100)
    own, by_preset = (tomllib.loads(starter_config(replace(facts, preset=preset))) for preset in ("", "fast"))
    assert own["train"]["duration"] == "10 epochs" and "extends" not in own
    assert by_preset["extends"] == "preset:fast" and by_preset["train"] == {"seed": 0}
    assert str(load_any(by_preset).experiment.train.duration) == "2 epochs"


def test_without_a_preset_nothing_changes() -> None:
    assert laid_over(["a=1"], None) == ["a=1"]
    assert set(QUALITIES) <= set(preset_names())


@pytest.mark.parametrize(("given", "near"), [("bset", "best"), ("quick", ""), (3, "")])
def test_an_unknown_preset_is_refused_with_the_nearest_name(given: object, near: str) -> None:
    with refused(ConfigError, key="preset", value=given, reason="there is no such preset") as error:
        load_any(None, preset=given)  # type: ignore[arg-type]
    assert f"Did you mean {near}?" in error.value.hint if near else "Did you mean" not in error.value.hint


@pytest.mark.parametrize(
    ("config", "place"),
    [
        ({"model": {"lora": {}}}, "model.lora"),
        ({"task": {"kind": "conditional_lm"}}, "task.kind"),
        ({"metadata": {}}, "task.kind"),
    ],
    ids=["adapters", "language model", "documents"],
)
@pytest.mark.parametrize("preset", QUALITIES)
def test_a_preset_is_refused_where_its_rates_are_not_meant(config: dict[str, object], place: str, preset: str) -> None:
    with refused(ConfigError, key="preset", value=preset, place=place):
        load_any(config, preset=preset)
