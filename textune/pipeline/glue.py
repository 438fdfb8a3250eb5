"""The nine tasks of GLUE, one run each, compared with bert-base-cased in run_glue.py; `gluetable.py` shows them.

    glue(["data/glue"], "google-bert/bert-base-cased") -> GlueResult

The settings are those of `preset:glue/NAME`. A run that is complete is not repeated; one that was stopped resumes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from textune.atomic import write_text
from textune.config import Experiment, FilesSource, load_config, preset_names, require_runnable, user_path
from textune.data import find_files
from textune.errors import ConfigError, DataError, Preempted, RunError, TextuneError
from textune.pipeline.gluetable import SAMPLE, TASKS, GlueResult, TaskResult
from textune.pipeline.train import train
from textune.ranks import launched
from textune.run import SilentTracker, Tracker, read_manifest
from textune.wording import listing, nearest

HUB = "hub"
"""Instead of a folder of data: rows from the Hugging Face hub."""


def glue(
    data: Sequence[str | Path],
    pretrained: str | Path,
    *,
    tasks: Sequence[str] = (),
    out: str | Path = "runs/glue",
    overrides: Sequence[str] = (),
    watch: Callable[[str], AbstractContextManager[Tracker]] = lambda line: nullcontext(SilentTracker()),
) -> GlueResult:
    """Train and evaluate the tasks of GLUE that `data` has rows of, each in its own run folder in `out`.

    `data`: folders with the published files (or `hub`); the first that has training and validation rows of a task is
    used. `tasks`: which ones, by default all. `overrides` apply to every run. `watch` is called with a sentence about
    each run and gives what tracks it. A task that fails does not stop the others. Writes `glue.md` and `glue.json`
    into `out`. ConfigError for a task that does not exist, DataError if there are no rows of any task.
    """
    if launched():
        raise RunError(
            "the tasks of GLUE run one after the other in one process.",
            hint="Under a launcher, train them one by one: textune train preset:glue/mrpc.",
        )
    folder = user_path(out)
    words = [*overrides, f"model.pretrained={os.fspath(pretrained)}"]
    names = _asked(tasks)
    chosen = {name: _choose(name, [os.fspath(place) for place in data], words) for name in names}
    if not any(found.preset for found in chosen.values()):
        reason = max(chosen.values(), key=lambda found: found.broken).reason
        raise DataError(f"There are no rows of any task of GLUE: {reason}", key="data", value=list(map(str, data)))
    results = []
    for name, found in chosen.items():
        if not found.preset:  # of a task that was asked for by its name, that is a failure
            failed = 2 if tasks or found.broken else 0
            results.append(TaskResult(name, "missing", reason=found.reason, exit_code=failed))
            continue
        run = folder / name
        with watch(f"{TASKS[name].title}: {found.preset} into {run}") as tracker:
            results.append(_run(name, found, run, words, tracker))
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


def _run(task: str, choice: _Choice, run: Path, words: Sequence[str], tracker: Tracker) -> TaskResult:
    try:
        result = train(choice.preset, run=run, overrides=[*words, *choice.overrides], resume="auto", tracker=tracker)
    except Preempted:
        raise
    except TextuneError as error:
        return TaskResult(task, "failed", choice.preset, run, reason=str(error), exit_code=error.exit_code)
    except Exception as error:  # the other tasks go on; the command ends with the exit code of a bug
        reason = f"internal error in textune: {type(error).__name__}: {error}"
        return TaskResult(task, "failed", choice.preset, run, reason=reason, exit_code=1)
    manifest = read_manifest(run)
    return TaskResult(
        task,
        "done",
        choice.preset,
        run,
        reports=result.reports,
        num_train=manifest.rows.get("train"),
        seconds=manifest.seconds,
    )
