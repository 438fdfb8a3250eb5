"""The nine tasks of GLUE, one run each, compared with bert-base-cased in run_glue.py; `gluetable.py` shows them.

    glue(["data/glue"], "google-bert/bert-base-cased") -> GlueResult

The settings are those of `preset:glue/NAME`. A run that is complete is not repeated; one that was stopped resumes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from textune.atomic import write_text
from textune.config import (
    Experiment,
    FilesSource,
    Overrides,
    load_config,
    override_words,
    preset_names,
    require_runnable,
    user_path,
)
from textune.data import find_files
from textune.errors import ConfigError, DataError
from textune.studies.gluetable import SAMPLE, TASKS, GlueResult, TaskResult
from textune.studies.runs import PlannedRun, RunResult, Watch, carry_out
from textune.wording import listing, nearest

HUB = "hub"
"""Instead of a folder of data: rows from the Hugging Face hub."""


def glue(
    data: Sequence[str | Path],
    pretrained: str | Path,
    *,
    tasks: Sequence[str] = (),
    out: str | Path = "runs/glue",
    overrides: Overrides = (),
    watch: Watch | None = None,
) -> GlueResult:
    """Train and evaluate the tasks of GLUE that `data` has rows of, each in its own run folder in `out`.

    `data`: folders with the published files (or `hub`); the first that has training and validation rows of a task is
    used. `tasks`: which ones, by default all. `overrides` apply to every run. `watch` is told of each run. A task that
    fails does not stop the others. Writes `glue.md` and `glue.json` into `out`. ConfigError for a task that does not
    exist, DataError if there are no rows of any task.
    """
    folder = user_path(out)
    words = [*override_words(overrides), f"model.pretrained={os.fspath(pretrained)}"]
    names = _asked(tasks)
    chosen = {name: _choose(name, [os.fspath(place) for place in data], words) for name in names}
    if not any(found.preset for found in chosen.values()):
        reason = max(chosen.values(), key=lambda found: found.broken).reason
        raise DataError(f"There are no rows of any task of GLUE: {reason}", key="data", value=list(map(str, data)))
    runs = [
        PlannedRun(name, found.preset, folder / name, [*words, *found.overrides])
        for name, found in chosen.items()
        if found.preset
    ]
    ended = {done.name: done for done in carry_out(runs, keep_going=True, watch=watch)}
    results = []
    for name, found in chosen.items():
        if name in ended:
            results.append(_result(found, ended[name]))
        else:  # of a task that was asked for by its name, that is a failure
            failed = 2 if tasks or found.broken else 0
            results.append(TaskResult(name, "missing", reason=found.reason, exit_code=failed))
    result = GlueResult(folder, os.fspath(pretrained), tuple(results))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "glue.md", result.markdown())
    text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "glue.json", text + "\n")
    return result


@dataclass(frozen=True)
class _Choice:
    """The preset of a task and where its rows are, or why there is none."""

    preset: str = ""
    place: str = ""
    reason: str = ""
    broken: bool = False
    """Whether an archive of the task is there, but cannot be read or does not hold its files."""

    @property
    def overrides(self) -> list[str]:
        return [f"data.folder={self.place}"] if self.place else []


def _asked(tasks: Sequence[str]) -> list[str]:
    for name in tasks:
        if name not in TASKS:
            near = nearest(name.lower().replace("-", ""), TASKS)
            hint = f"Did you mean {near}?" if near else f"The tasks are {listing(TASKS)}."
            raise ConfigError(f"GLUE has no task {name!r}.", hint=hint, key="tasks", value=name)
    return list(dict.fromkeys(tasks)) or list(TASKS)


def _choose(task: str, places: Sequence[str], words: Sequence[str]) -> _Choice:
    """The first place that has the rows of the task, and the preset that reads them; or what the first one misses."""
    errors = []
    for place in places:
        if place == HUB:
            return _Choice(f"preset:glue/{task}/{HUB}")
        for name in (name for name in (f"glue/{task}", f"glue/{task}{SAMPLE}") if name in preset_names()):
            choice = _Choice(f"preset:{name}", place)
            loaded = load_config(choice.preset, [*words, *choice.overrides])
            require_runnable(loaded.experiment)
            try:
                _require_files(loaded.experiment)
            except DataError as error:
                errors.append(error)
            else:
                return choice
    broken = [error for error in errors if error.place]  # an archive; a file that is not there has no place
    return _Choice(reason=str((broken or errors)[0]), broken=bool(broken))


def _require_files(experiment: Experiment) -> None:
    """DataError for the first file of a run that is not there."""
    data = experiment.data
    for source in (data.train, data.validation, *data.evaluations.values()):
        if isinstance(source, FilesSource):
            find_files(source.files)


def _result(choice: _Choice, done: RunResult) -> TaskResult:
    """What became of a task whose rows were found."""
    if done.error is not None:
        return TaskResult(
            done.name, "failed", choice.preset, done.folder, reason=done.reason, exit_code=done.exit_code
        )
    manifest = done.manifest
    return TaskResult(
        done.name,
        "done",
        choice.preset,
        done.folder,
        reports=done.reports,
        num_train=manifest.rows.get("train"),
        seconds=manifest.seconds,
    )
