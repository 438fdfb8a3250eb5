"""A sweep as files: a configuration for each cell, and a shell script with the command that trains it.

The runs go where `textune sweep` looks for them, so that whoever has carried them out, it finds them complete.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textune.atomic import write_text
from textune.config import Overrides, show, user_path
from textune.errors import ConfigError
from textune.studies.cells import Cell, require_some_sound
from textune.studies.folder import opened_study
from textune.studies.sweepplan import PlannedStage, continued, plan_sweep
from textune.wording import count

CONFIGS = "configs"
SCRIPT = "sweep.sh"


@dataclass(frozen=True)
class WrittenSweep:
    """What was written."""

    folder: Path
    script: Path
    commands: tuple[str, ...]
    """One for each run, to be started in `folder`."""

    def to_dict(self) -> dict[str, object]:
        """As a JSON object."""
        return {"folder": str(self.folder), "script": str(self.script), "commands": list(self.commands)}


def write_sweep(
    sweep: str | os.PathLike[str] | Mapping[str, object],
    folder: str | Path,
    *,
    overrides: Overrides = (),
    keep_going: bool = False,
) -> WrittenSweep:
    """Write what `textune sweep` would run, and run nothing.

    Which run of a stage is the best is not known yet: each of them is followed by every run of the next stage.
    ConfigError for a search whose cells follow from results; otherwise as `sweep`.
    """
    plan = plan_sweep(sweep, overrides=overrides, keep_going=keep_going)
    for stage in plan.stages:
        if stage.search.optuna is not None:
            raise ConfigError(
                "[optuna] cannot be written down: what it proposes follows from the runs before.",
                hint="Draw the values in advance: [random].",
                key="optuna",
            )
    path = user_path(folder)
    commands = []
    with opened_study(path, plan.study):
        for place, cell in _cells(plan.stages, path, (), keep_going=keep_going):
            assert cell.loaded is not None
            config = Path(CONFIGS) / place / f"{cell.name}.toml"
            (path / config).parent.mkdir(parents=True, exist_ok=True)
            write_text(path / config, show(cell.loaded, diff=True))
            run = shlex.quote(str(Path(place) / cell.name))
            commands.append(f"textune train {shlex.quote(str(config))} --run {run} --resume auto")
        head = [
            "#!/bin/sh",
            f"# {count(len(commands), 'run')} of {plan.config}. Those of a stage need those of the stage before.",
            'cd "$(dirname "$0")" || exit',
        ]
        write_text(path / SCRIPT, "\n".join([*head, *commands]) + "\n")
    return WrittenSweep(path, path / SCRIPT, tuple(commands))


def _cells(
    stages: Sequence[PlannedStage], folder: Path, chain: tuple[Cell, ...], *, keep_going: bool
) -> Iterator[tuple[str, Cell]]:
    """The cells of a stage, each after every chain of cells of the stages before, and where its runs are."""
    stage = stages[len(chain)]
    place = stage.place([cell.name for cell in chain])
    cells: Sequence[Cell] = stage.cells
    if chain:
        before = stages[len(chain) - 1].place([cell.name for cell in chain[:-1]])
        ground = continued(stages, [cell.values for cell in chain], folder / before / chain[-1].name)
        cells = [ground.check(Cell(cell.name, cell.values)) for cell in cells]
        require_some_sound(cells, keep_going=keep_going)
    sound = [cell for cell in cells if cell.loaded is not None]
    yield from ((place, cell) for cell in sound)
    if len(chain) + 1 < len(stages):
        for cell in sound:
            yield from _cells(stages, folder, (*chain, cell), keep_going=keep_going)
