"""The first room: TOML files and overrides in, one checked and frozen `Experiment` out. Free of torch, pyarrow and the like."""

from textune.config.explain import show
from textune.config.load import Config, Loaded, experiment_from_dict, load_config, require_runnable
from textune.config.overrides import Overrides
from textune.config.reference import json_schema, reference_markdown
from textune.config.schema import Experiment
from textune.config.starter import StarterFacts, starter_config, validation_ratio
from textune.config.values import Duration

__all__ = [
    "Config",
    "Duration",
    "Experiment",
    "Loaded",
    "Overrides",
    "StarterFacts",
    "experiment_from_dict",
    "json_schema",
    "load_config",
    "reference_markdown",
    "require_runnable",
    "show",
    "starter_config",
    "validation_ratio",
]
