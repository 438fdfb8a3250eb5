"""One configuration on several folds and seeds: how its scores spread, and every row with an answer by a model that
has not seen it.

    repeat("config.toml", folds=5, seeds=3) -> RepeatResult

config --> a run for each fold and seed (`runs.py`) --> spreads of metrics (`spread.py`) and the held-out rows, pooled
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textune.atomic import write_text
from textune.config import (
    Absent,
    Config,
    FoldOff,
    Loaded,
    Overrides,
    SetAside,
    SplitOff,
    require_count,
    user_path,
)
from textune.data import GivenRows
from textune.errors import ConfigError, RunError, TextuneError
from textune.evaluation import (
    ROWS_SUFFIX,
    EvaluatedRows,
    EvaluatedSet,
    Mistake,
    Report,
    build_task_report,
    pool_rows,
    read_rows,
    write_rows,
)
from textune.pipeline import SetsInMemory, load_with_rows
from textune.run import RunFolder, write_report
from textune.studies.folder import Study, opened_study
from textune.studies.repeated import RepeatResult, SetSpread
from textune.studies.runs import PlannedRun, RunResult, Watch, carry_out
from textune.studies.spread import interval_over_folds, interval_over_seeds, spread_of
from textune.studies.suspectlabels import SUSPECTS, find_suspect_labels, suspects_in_words, write_suspect_labels
from textune.wording import count

if TYPE_CHECKING:
    from textune.evaluation import HardDocument

HELD_OUT = "held-out"
"""The set of all held-out rows, and the name of its file."""
_HELD = "validation"
"""The set that is a fold in each run."""
_LARGEST_SEED = 2**32


def repeat(
    config: Config | None = None,
    *,
    folds: int | None = None,
    seeds: int | None = None,
    run: str | Path | None = None,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    train: object = None,
    test: object = None,
    evaluations: Mapping[str, object] | None = None,
    rows: GivenRows | None = None,
    jobs: int = 1,
    keep_going: bool = False,
    watch: Watch | None = None,
) -> RepeatResult:
    """Train a configuration on each of so many folds of its training rows, with each of so many seeds, or both.

    Every run has a folder of its own in `run` (by default `runs/<name of the config>-repeat`): `fold-0-seed-0` and so
    on. The first seed is `train.seed`, the others follow it; all see the same folds. `folds` without `seeds`: with
    that seed alone; `seeds` without `folds`: on the validation rows that the configuration names. Keys `stratify`,
    `group_by` and `seed` of `data.validation` are those of the folds. Runs that are complete are not repeated; those
    that were stopped resume.

    `train`, `test`, `evaluations`, `rows`: rows in memory, as in `textune.train`. `jobs`, `keep_going`, `watch`: as in
    `textune.studies.runs.carry_out`. Writes `repeat.json` and `repeat.md` into the folder; with folds also the report
    on all held-out rows, `report.json`, `report.md` and `report.html`, and these rows, `held-out.rows.parquet`.
    """
    _require_numbers(folds, seeds)
    in_memory = SetsInMemory(train, None, test, evaluations or {}, rows or {})
    loaded, given = load_with_rows(config, overrides, unset, in_memory)
    if watch is None:  # who watches hears it of each run
        for note in loaded.notes:
            logging.getLogger("textune").warning("%s", note)
    folder = user_path(run) if run is not None else Path("runs") / f"{loaded.name}-repeat"
    numbers = _seeds(loaded, seeds)
    planned = [
        _planned(loaded, folder, given, fold, folds, seed if seeds is not None else None)
        for seed in numbers
        for fold in (range(folds) if folds is not None else [None])
    ]
    study = Study("repeat", loaded.resolved, {"folds": folds})
    with opened_study(folder, study):
        try:
            ended = carry_out(planned, jobs=jobs, keep_going=keep_going, watch=watch)
        except TextuneError as error:
            _name_folds(error)
            raise
        for one in ended:
            _name_folds(one.error)
        result = _result(loaded, folder, ended, folds=folds, seeds=numbers)
        _write(result)
    return result


def _require_numbers(folds: int | None, seeds: int | None) -> None:
    require_count("folds", folds)
    require_count("seeds", seeds)
    if folds is None and seeds is None:
        raise ConfigError(
            "there is nothing to repeat: neither folds nor seeds are given.",
            hint="Say over what, such as --folds 5, --seeds 3, or both.",
            key="folds",
        )
    if folds == 1:
        raise ConfigError(
            "folds = 1: of one fold no rows would be left to train on.",
            hint="Give at least 2, or only seeds.",
            key="folds",
            value=folds,
        )


def _seeds(loaded: Loaded, seeds: int | None) -> tuple[int, ...]:
    first, number = loaded.experiment.train.seed, seeds or 1
    if first + number > _LARGEST_SEED:
        raise ConfigError(
            f"seeds = {number} from train.seed = {first} on would pass the largest seed, {_LARGEST_SEED - 1}.",
            hint="Set train.seed to a smaller number.",
            key="train.seed",
            value=first,
        )
    return tuple(range(first, first + number))


def _planned(
    loaded: Loaded, folder: Path, rows: GivenRows, fold: int | None, folds: int | None, seed: int | None
) -> PlannedRun:
    """The run of one fold and seed; None: those of the configuration."""
    own: dict[str, object] = {} if seed is None else {"train.seed": seed}
    if fold is not None and folds is not None:
        own["data.validation"] = _fold(loaded, fold, folds).model_dump()
    parts = [("fold", fold), ("seed", seed)]
    name = "-".join(f"{what}-{number}" for what, number in parts if number is not None)
    return PlannedRun(name, loaded, folder / name, own, rows)


def _fold(loaded: Loaded, fold: int, folds: int) -> FoldOff:
    """One of the folds, cut as the configuration cuts its validation rows off the training rows."""
    found = loaded.experiment.data.validation
    if not isinstance(found, SplitOff | FoldOff):
        return FoldOff(fold=fold, folds=folds)
    shared = {name: getattr(found, name) for name in FoldOff.model_fields if name in type(found).model_fields}
    return FoldOff(**shared | {"kind": "fold", "fold": fold, "folds": folds})


# --- what came of it -------------------------------------------------------------------------------------------------


def _result(
    loaded: Loaded, folder: Path, ended: Sequence[RunResult], *, folds: int | None, seeds: tuple[int, ...]
) -> RepeatResult:
    done = [one for one in ended if one.error is None]
    _require_same_data(done)
    reports = {one.name: one.reports for one in done}
    whole = len(done) == len(ended)
    sets = {
        name: _spread_of_set(
            name,
            {run: found[name] for run, found in reports.items() if name in found},
            folds=folds,
            num_seeds=len(seeds) if whole else 0,
        )
        for name in dict.fromkeys(name for found in reports.values() for name in found)
    }
    pooled = None
    if folds is not None and whole:
        limit = loaded.experiment.evaluate.mistakes
        bootstrap = loaded.experiment.evaluate.bootstrap
        pooled = _pool(done, reports, folder, num_seeds=len(seeds), mistakes=limit, bootstrap=bootstrap)
    notes = _notes(loaded, folds, pooled)
    return RepeatResult(folder, folds, seeds, tuple(ended), sets, pooled, notes)


def _name_folds(error: Exception | None) -> None:
    """Say where the number of folds comes from, in an error about it: no key of a configuration counts here."""
    if isinstance(error, TextuneError) and error.key == "data.validation.folds":
        error.advise("Their number is that of `textune repeat --folds`.")


def _require_same_data(done: Sequence[RunResult]) -> None:
    """RunError where runs were trained or evaluated on other data, as their files changed between them."""
    read = [one.manifest.data for one in done]
    for run, data in zip(done, read, strict=True):
        changed = [f"data.{name}" for name in data if data[name] != read[0].get(name)]
        if changed:
            raise RunError(
                f"{changed[0]} has changed: {run.name} read other rows than {done[0].name}.",
                hint="Restore the data and remove the runs on other rows, or choose another folder with --run.",
                key=changed[0],
                place=str(run.folder),
                reason=f"{changed[0]} has changed",
            )


def _notes(loaded: Loaded, folds: int | None, pooled: Report | None) -> tuple[str, ...]:
    notes = []
    own = loaded.experiment.data.validation
    if folds is not None:
        if not isinstance(own, SetAside | Absent):
            notes.append("data.validation, which has rows of its own, is not used: folds are of the training rows.")
        if loaded.experiment.evaluate.best_by == _HELD:
            notes.append(
                "Each run chose its best step on the fold that it is measured on, so these scores are a little too"
                " high; evaluated only at the end (train.evaluate_every), they are not."
            )
        if pooled is None:
            notes.append("Not every run is complete: there is no report on all held-out rows yet.")
    return tuple(notes)


def _spread_of_set(name: str, reports: Mapping[str, Report], *, folds: int | None, num_seeds: int) -> SetSpread:
    """`num_seeds`: 0 where runs are missing, and with them the balance that an interval takes for granted."""
    found = list(reports.values())
    metrics = [metric for metric in found[0].metrics if all(metric in report.metrics for report in found)]
    spreads = {}
    for metric in metrics:
        values = [report.metrics[metric] for report in found]
        interval = None
        if name == _HELD and folds is not None:
            interval = interval_over_folds(values, folds) if num_seeds else None
        elif num_seeds:  # the mean of each seed over the folds, which come one after the other
            each = len(values) // num_seeds
            by_seed = [values[start : start + each] for start in range(0, len(values), each)]
            interval = interval_over_seeds([spread_of(some).mean for some in by_seed])
        spreads[metric] = spread_of(values, interval)
    return SetSpread(name, found[0].metric, found[0].higher_is_better, tuple(reports), spreads)


def _pool(
    done: Sequence[RunResult],
    reports: Mapping[str, Mapping[str, Report]],
    folder: Path,
    *,
    num_seeds: int,
    mistakes: int,
    bootstrap: int,
) -> Report:
    """The report on the held-out rows of all runs, written with the rows themselves."""
    sets = [read_rows(RunFolder(one.folder).rows_of(_HELD)) for one in done]
    dataset = f"held-out rows of {count(len(done), 'run')}: {sets[0].dataset.partition(': ')[2]}"
    pooled, order_N = pool_rows(sets, name=HELD_OUT, dataset=dataset)
    write_rows(pooled, folder / f"{HELD_OUT}{ROWS_SUFFIX}")
    seen = _SeenTexts(sets, [reports[one.name][_HELD] for one in done], order_N.tolist())
    report = build_task_report(
        pooled.scored,
        EvaluatedRows(
            texts=seen,
            pairs=seen.pairs,
            place=seen.place,
            dataset=dataset,
            fingerprint=pooled.fingerprint,
            facts=pooled.facts,
            num_left_out=sum(reports[one.name][_HELD].num_left_out for one in done),
        ),
        main=pooled.main,
        # Rows that count several times are no other rows, as an interval would take them to be.
        bootstrap=bootstrap if num_seeds == 1 else 0,
        mistakes=mistakes,
    )
    suspects = find_suspect_labels(pooled)
    if report.tasks or report.num_mistakes is not None:
        write_suspect_labels(suspects, folder / SUSPECTS)
        said = suspects_in_words(suspects, len(pooled) // num_seeds, one_seed=num_seeds == 1)
        report = replace(report, notes=(*report.notes, said))
    if num_seeds > 1:
        said = f"Each row counts {num_seeds} times, once for each seed; there is no interval for it."
        report = replace(report, notes=(said, *report.notes))
    write_report(report, folder, "report", page=True)
    return report


class _SeenTexts:
    """The texts of the rows that the reports of the runs show, by their number among the pooled ones.

    The most confident mistakes of all rows are among those of each run, and so are the hardest documents.
    """

    def __init__(self, sets: Sequence[EvaluatedSet], reports: Sequence[Report], order: Sequence[int]) -> None:
        """`order`: which row, counted through the sets, each of the pooled ones is."""
        self._order = order
        self._shown: dict[int, Mistake | HardDocument] = {}
        start = 0
        for evaluated, report in zip(sets, reports, strict=True):
            for part in (report, *report.tasks.values()):
                shown: list[Mistake | HardDocument] = [*part.mistakes, *part.hardest]
                self._shown |= {start + one.row: one for one in shown}
            start += len(evaluated)
        has_pairs = any(getattr(shown, "pair", None) is not None for shown in self._shown.values())
        self.pairs = _Pairs(self) if has_pairs else None

    def shown(self, row: int) -> Mistake | HardDocument:
        """What a run's report shows of a pooled row."""
        return self._shown[self._order[row]]

    def __getitem__(self, row: int) -> str:
        return self.shown(row).text

    def place(self, row: int) -> str:
        """Where it stands in the source."""
        return self.shown(row).place


class _Pairs:
    """The second texts of the same rows."""

    def __init__(self, texts: _SeenTexts) -> None:
        self._texts = texts

    def __getitem__(self, row: int) -> str:
        return getattr(self._texts.shown(row), "pair", None) or ""


def _write(result: RepeatResult) -> None:
    text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(result.study / "repeat.json", text + "\n")
    write_text(result.study / "repeat.md", result.markdown())
