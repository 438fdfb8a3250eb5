"""The sections of the file of a sweep; `sweeping.py` reads it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from textune.config.fields import keys_of
from textune.config.section import Section
from textune.config.values import Seed


class Uniform(Section):
    """Any number between two, each as likely."""

    kind: Literal["uniform"] = "uniform"
    """Numbers between two."""
    low: float
    """The least."""
    high: float
    """The greatest."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.low, self.high)
        return self


class LogUniform(Section):
    """Any number between two above zero, each order of magnitude as likely."""

    kind: Literal["log_uniform"] = "log_uniform"
    """Orders of magnitude between two numbers."""
    low: Annotated[float, Field(gt=0)]
    """The least."""
    high: float
    """The greatest."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.low, self.high)
        return self


class WholeNumber(Section):
    """A whole number between two, each as likely."""

    kind: Literal["int"] = "int"
    """Whole numbers between two."""
    low: int
    """The least."""
    high: int
    """The greatest."""
    step: PositiveInt = 1
    """How far the numbers are from each other, from `low` on."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_order(self.low, self.high)
        return self


class Choice(Section):
    """One of some values, each as likely."""

    kind: Literal["choice"] = "choice"
    """Values from a list."""
    values: Annotated[tuple[Any, ...], Field(min_length=1)]
    """Those to choose from."""


def _require_order(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"low ({low:g}) must be less than high ({high:g})")


def _as_choice(value: object) -> object:
    return {"kind": "choice", "values": value} if isinstance(value, list | tuple) else value


Distribution = Annotated[
    Uniform | LogUniform | WholeNumber | Choice, Field(discriminator="kind"), BeforeValidator(_as_choice)
]
"""Where values are drawn from; a list is short for a choice."""
Space = Annotated[dict[str, Distribution], Field(min_length=1)]


class RandomSearch(Section):
    """Values drawn at random, all of them before the first run."""

    trials: PositiveInt
    """How many runs."""
    seed: Seed = 0
    """Seed of the draws. More trials begin with the same ones."""
    space: Space
    """A distribution for each dotted key."""


class OptunaSearch(Section):
    """Values that Optuna proposes after what the runs before have shown (`pip install "textune[optuna]"`)."""

    trials: PositiveInt
    """How many runs."""
    seed: Seed = 0
    """Seed of the sampler."""
    sampler: Literal["tpe", "gp"] = "tpe"
    """How it proposes: by a tree-structured Parzen estimator, or by a Gaussian process."""
    space: Space
    """A distribution for each dotted key."""


class SearchKeys(Section):
    """What is tried: a grid, or one of the two searches."""

    grid: dict[str, tuple[Any, ...]] = {}
    """The values of each dotted key: every combination is a run."""
    together: tuple[dict[str, Any], ...] = ()
    """Values that belong together, each table by dotted keys: a run for each, and for each combination of `grid`."""
    random: RandomSearch | None = None
    """A random search, instead of a grid."""
    optuna: OptunaSearch | None = None
    """A search by Optuna, instead of a grid."""

    @property
    def keys(self) -> list[str]:
        """The dotted keys that it sets, in the order of the file."""
        drawn = self.random or self.optuna
        keys = [key for table in self.together for key in table]
        return list(dict.fromkeys([*keys, *self.grid, *(drawn.space if drawn else {})]))


class Stage(SearchKeys):
    """One of several searches, each of which goes on with the best run of the one before."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None
    """What it is called; by default its number."""
    config: str | dict[str, Any] | None = None
    """A file, a preset or a table that is laid over the configuration of the sweep in this stage."""
    continues: Literal["model", "settings", "both"] = "model"
    """What a stage takes over from the best run of the one before: its model, as `model.pretrained`, the values that
    it was tried with, or both."""


class Sweep(SearchKeys):
    """A sweep."""

    config: str | dict[str, Any]
    """The configuration of all runs: a file, a preset, or a table that is one, which may have `extends`."""
    metric: str | tuple[str, ...] | None = None
    """What is compared, as `evaluate.metric` of every run; by default what the configuration says. The value is that
    of a run's best model on the set of `evaluate.best_by`."""
    jobs: PositiveInt = 1
    """Runs at once; on a machine with several GPUs each has one of its own."""
    run: str | None = None
    """Folder of the sweep and its runs, relative to this file; by default `runs/NAME-OF-THE-FILE` in the current
    folder."""
    stages: tuple[Stage, ...] = ()
    """Several searches, one after the other, instead of one."""

    @property
    def searches(self) -> tuple[Stage, ...]:
        """Its stages; a sweep of one search is one stage without a name."""
        if self.stages:
            return self.stages
        shared = {name: getattr(self, name) for name in keys_of(SearchKeys)}
        return (Stage.model_construct(**shared),)
