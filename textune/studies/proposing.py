"""Values that Optuna proposes, from what the runs before have shown.

Each proposal follows from the search, its number and the results before it alone: Optuna's study is built anew of what
the sweep has written down. So a sweep that was stopped is given the same proposals as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from textune.atomic import write_text
from textune.config import OptunaSearch, Section, format_value
from textune.errors import ConfigError, RunError
from textune.jsontext import parse_json
from textune.studies.cells import Values
from textune.studies.drawing import greatest, kind_of

NAME = "proposals.json"


@dataclass(frozen=True)
class Trial:
    """A proposal and what came of it."""

    proposed: Mapping[str, object]
    """By dotted key: numbers, or the text of a choice (`format_value`)."""
    value: float | None = None
    """The metric of its run; None while it is not known, NaN where the run failed."""


def require_optuna(search: OptunaSearch) -> None:
    """ConfigError where Optuna, or what its sampler needs, is not installed."""
    for package in ("optuna", *(["scipy"] if search.sampler == "gp" else [])):
        try:
            import_module(package)
        except ImportError:
            raise ConfigError(
                f"[optuna] with the sampler {search.sampler}: {package} is not installed.",
                hint='Run `pip install "textune[optuna]"`, or draw the values in advance: [random].',
                key="optuna",
                value=search.sampler,
            ) from None


def propose(search: OptunaSearch, known: Sequence[Trial], *, higher_is_better: bool) -> Trial:
    """The next proposal after those that are known."""
    import optuna

    space = {key: _as_optuna(section) for key, section in search.space.items()}
    with _quiet():
        direction = "maximize" if higher_is_better else "minimize"
        study = optuna.create_study(sampler=_sampler(search, len(known)), direction=direction)
        for trial in known:
            study.add_trial(_told(trial, space))
        return Trial(study.ask(space).params)


def read_proposals(folder: Path) -> list[dict[str, object]]:
    """What was proposed for the runs in a folder, in order; RunError where the file is damaged."""
    path = folder / NAME
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        return [dict(one) for one in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{path} is damaged: {error}.",
            hint="Restore it from a copy, or choose another folder with --run.",
            place=str(path),
        ) from error


def keep_proposals(folder: Path, proposed: Sequence[Mapping[str, object]]) -> None:
    """Write down what was proposed, before it is tried."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([dict(one) for one in proposed], indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / NAME, text + "\n")


def values_of(search: OptunaSearch, trial: Trial) -> Values:
    """What a cell is made of: a choice as the value itself."""
    found: dict[str, object] = {}
    for key, section in search.space.items():
        proposed = trial.proposed[key]
        options = {format_value(value, one_line=True): value for value in getattr(section, "values", ())}
        found[key] = options[str(proposed)] if options else proposed
    return found


def _told(trial: Trial, space: Mapping[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    params, value = dict(trial.proposed), trial.value
    if value is None:
        return create_trial(params=params, distributions=dict(space), state=TrialState.RUNNING)
    if math.isnan(value):
        return create_trial(params=params, distributions=dict(space), state=TrialState.FAIL)
    return create_trial(params=params, distributions=dict(space), value=value)


def _sampler(search: OptunaSearch, number: int) -> Any:
    """The sampler of one proposal: with a seed of its own, as Optuna keeps none of a stopped study."""
    from optuna.samplers import GPSampler, TPESampler

    seed = (search.seed * 1_000_003 + number) % 2**32
    return {"tpe": TPESampler, "gp": GPSampler}[search.sampler](seed=seed)


def _as_optuna(section: Section) -> Any:
    import optuna.distributions as known

    make: dict[str, Callable[[Any], Any]] = {  # by the names of `drawing.DISTRIBUTIONS`
        "uniform": lambda own: known.FloatDistribution(own.low, own.high),
        "log_uniform": lambda own: known.FloatDistribution(own.low, own.high, log=True),
        "int": lambda own: known.IntDistribution(own.low, greatest(own), step=own.step),
        "choice": lambda own: known.CategoricalDistribution(
            [format_value(value, one_line=True) for value in own.values]
        ),
    }
    return make[kind_of(section)](section)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Optuna says of its own work."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", optuna.exceptions.ExperimentalWarning
            )  # the Gaussian process, in version 4
            yield
    finally:
        optuna.logging.set_verbosity(before)
