"""A sweep that was read and checked: its stages, their cells, and where each goes on; before `sweep.py`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textune.config import (
    Loaded,
    LoadedSweep,
    Overrides,
    Stage,
    load_sweep,
    user_path,
)
from textune.studies.cells import (
    Cell,
    Ground,
    Values,
    combinations,
    named,
    require_different,
    require_some_sound,
    tree_of,
)
from textune.studies.drawing import corners, drawn
from textune.studies.folder import Study
from textune.studies.proposing import require_optuna
from textune.wording import count

_SETTINGS, _MODEL = ("settings", "both"), ("model", "both")
_MAX_HANDED_ON = 100
"""Settings that a stage could hand on, on which the next is checked."""


@dataclass(frozen=True)
class PlannedStage:
    """One search of a sweep, checked as far as that is possible before the stage in front of it is done."""

    name: str
    search: Stage
    ground: Ground
    base: Loaded
    """The configuration that its cells are laid over."""
    cells: tuple[Cell, ...]
    """Of a search by Optuna none: its cells are not known yet."""
    settings: tuple[Values, ...]
    """Some of those that it could hand on."""

    def place(self, chain: Sequence[str]) -> str:
        """Where its runs are in the folder of the sweep; `chain`: the cells that it goes on with, the first first."""
        return "/".join(filter(None, (self.name, *chain)))


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that was read and checked."""

    loaded: LoadedSweep
    config: str
    """What it sweeps over, in words."""
    stages: tuple[PlannedStage, ...]

    @property
    def study(self) -> Study:
        """What must stay the same for the runs of a sweep to go on together.

        The values of a grid may change, the number of trials, and keys that only say how a run is computed.
        """
        kept: dict[str, Any] = {}
        for number, stage in enumerate(self.stages):
            search = stage.search
            start = f"stages[{number}]." if self.loaded.sweep.stages else ""
            kept |= {f"{start}keys": sorted(search.keys), f"{start}continues": search.continues}
            for kind in ("random", "optuna"):
                section = getattr(search, kind)
                said = {} if section is None else section.model_dump(mode="json", exclude={"trials"})
                kept |= {f"{start}{kind}.{key}": value for key, value in said.items()}
        return Study("sweep", self.stages[0].base.resolved, kept)

    def notices(self) -> tuple[str, ...]:
        """What is not known of it before its runs."""
        searches = [(stage.name or "the search", stage.search.optuna) for stage in self.stages]
        return tuple(
            f"{name}: {count(search.trials, 'run')} with values that Optuna proposes after the runs before."
            for name, search in searches
            if search is not None
        )

    def folder(self, run: str | Path | None) -> Path:
        """The folder of the sweep."""
        if run is not None:
            return user_path(run)
        own = self.loaded.sweep.run
        return Path("runs") / self.loaded.name if own is None else self.loaded.folder / user_path(own)


def plan_sweep(
    sweep: str | os.PathLike[str] | Mapping[str, object], *, overrides: Overrides = (), keep_going: bool = False
) -> SweepPlan:
    """Read a sweep and check all that can be checked before its first run."""
    loaded = load_sweep(sweep)
    stages: list[PlannedStage] = []
    for number, search in enumerate(loaded.sweep.searches, 1):
        ground = Ground(loaded.config, loaded.origin, tuple(loaded.layers(search, overrides)))
        name = (search.name or f"stage-{number}") if loaded.sweep.stages else ""
        stages.append(_plan_stage(name, search, ground, stages[-1] if stages else None, keep_going=keep_going))
    return SweepPlan(loaded, loaded.shown, tuple(stages))


def _plan_stage(
    name: str, search: Stage, ground: Ground, before: PlannedStage | None, *, keep_going: bool
) -> PlannedStage:
    base = ground.bare({})  # what is wrong with it is no cell's fault
    taken = before.settings if before is not None and search.continues in _SETTINGS else ({},)
    if search.optuna is not None:
        require_optuna(search.optuna)
        cells = _checked(named(corners(search.optuna.space)), ground, taken)
        require_some_sound(cells, keep_going=False)
        return PlannedStage(name, search, ground, base, (), _handed_on(taken, cells))
    each = drawn(search.random) if search.random is not None else combinations(search)
    cells = _checked(named(each, numbered=search.random is not None), ground, taken)
    require_some_sound(cells, keep_going=keep_going)
    require_different(cells)
    return PlannedStage(name, search, ground, base, tuple(cells), _handed_on(taken, cells))


def _checked(cells: Sequence[Cell], ground: Ground, taken: Sequence[Values]) -> list[Cell]:
    """The cells, each checked on what it could take over from the stage before, until it fits somewhere."""
    grounds = [ground.with_(tree_of(values)) for values in taken]
    found = []
    for cell in cells:
        checks = (each.check(cell) for each in grounds)
        first = next(checks)
        found.append(first if first.refusal is None else next((one for one in checks if one.loaded), first))
    return found


def _handed_on(taken: Sequence[Values], cells: Sequence[Cell]) -> tuple[Values, ...]:
    """Settings after a stage: what it could take over, and its own."""
    pairs = ({**values, **cell.values} for values in taken for cell in cells)
    return tuple(itertools.islice(pairs, _MAX_HANDED_ON))


def continued(stages: Sequence[PlannedStage], chain: Sequence[Values], run: Path) -> Ground:
    """The ground of a stage after cells of all stages before it, of which `run` is the last one's."""
    settings: dict[str, object] = {}
    for number, values in enumerate(chain):
        kept = settings if stages[number].search.continues in _SETTINGS else {}
        settings = {**kept, **values}
    stage = stages[len(chain)]
    ground = stage.ground
    if stage.search.continues in _SETTINGS:
        ground = ground.with_(tree_of(settings))
    if stage.search.continues in _MODEL:
        ground = ground.with_({"model": {"pretrained": str(run.resolve())}})
    return ground
