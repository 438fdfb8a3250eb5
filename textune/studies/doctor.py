"""What is worth mending in labelled rows: one list of suspect labels, conflicts and leaks, and a file to review.

    doctor("config.toml", folds=5) -> Diagnosis

config --repeat--> held-out probabilities, with the prepared rows --suspicions.py--> one proposal for each row and
question --> Diagnosis, corrections.csv --> mending.py
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from textune.config import ConditionalLmTask, Config, Loaded, Overrides, StreamSource, load_config, user_path
from textune.data import (
    Correction,
    Examples,
    NearPairs,
    PreparedData,
    Split,
    content_numbers,
    near_pairs,
    plain_texts,
    prepare_data,
    require_datasketch,
)
from textune.errors import ConfigError
from textune.evaluation import ROWS_SUFFIX, EvaluatedSet, positions_of, read_rows
from textune.studies.diagnosis import Diagnosis
from textune.studies.folder import Study, opened_study
from textune.studies.mending import default_folder, require_uncorrected
from textune.studies.repeat import HELD_OUT, repeat
from textune.studies.runs import Watch
from textune.studies.suspicions import (
    KINDS,
    Neighbours,
    Suspicion,
    conflicting_labels,
    leaks,
    questions_of,
    suspect_labels,
    unequal_numbers,
)
from textune.tasks import stated_labels
from textune.wording import count

MAX_COMPARED = 100_000
"""Different texts among which nearly the same ones are looked for; beyond, only equal ones are found."""
_SHOWN_TEXT = 400
"""Characters of a text in the file to review."""


def doctor(
    config: Config | None = None,
    *,
    folds: int = 5,
    run: str | Path | None = None,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    jobs: int = 1,
    keep_going: bool = False,
    watch: Watch | None = None,
) -> Diagnosis:
    """Examine the training rows of a configuration, and propose what to mend, the most worthwhile first.

    Trains on each of so many folds, as `textune.repeat` does in the same folder (`run`, by default
    `runs/<name of the config>-doctor`): every row gets probabilities by a model that has not seen it. Where labels are
    numbers nothing is trained, and only equal texts and leaks are found. Writes `doctor.json`, `doctor.md` and
    `corrections.csv` there. Raises ConfigError for streams and language models, and where datasketch is absent.
    """
    loaded = load_config(config, overrides, unset)
    _require_examinable(loaded)
    require_datasketch()
    data = _prepared(loaded)
    rows = _Rows.of(data)
    folder = user_path(run) if run is not None else default_folder(loaded)
    if any(label_map.choices for label_map in data.label_maps.values()):
        options: dict[str, Any] = {"jobs": jobs, "keep_going": keep_going, "watch": watch}
        ended = repeat(config, folds=folds, run=folder, overrides=overrides, unset=unset, **options)
        for one in ended.runs:
            if one.error is not None:
                raise one.error
        found = _examined(data, rows, folder, read_rows(folder / f"{HELD_OUT}{ROWS_SUFFIX}"), folds)
        found.write()
        return found
    with opened_study(folder, Study("doctor", loaded.resolved, {})):
        found = _examined(data, rows, folder, None, None)
        found.write()
    return found


def _require_examinable(loaded: Loaded) -> None:
    experiment = loaded.experiment
    reason = ""
    if isinstance(experiment.task, ConditionalLmTask):
        reason, key = "a language model has no labels to examine", "task.kind"
    elif isinstance(experiment.data.train, StreamSource):
        reason, key = "rows that are streamed are read once, and cannot be held out in turn", "data.train.kind"
    if reason:
        raise ConfigError(
            f"textune doctor cannot examine this configuration: {reason}.",
            hint="Examine labelled rows that are read from files; some of the shards do as well.",
            key=key,
            reason=reason,
        )
    require_uncorrected(loaded)


def _prepared(loaded: Loaded) -> PreparedData:
    section, task = loaded.experiment.data, loaded.experiment.task
    return prepare_data(section, kind=task.kind, stated=stated_labels(task, section.columns))


@dataclass(frozen=True, eq=False)
class _Rows:
    """The N rows that are examined: those that train, and those set aside from them as validation rows."""

    examples: Examples
    targets: Mapping[str, np.ndarray]
    in_training_N: np.ndarray
    """bool [N] whether a run of the configuration trains on the row."""

    @classmethod
    def of(cls, data: PreparedData) -> _Rows:
        """Those of a configuration, in the order of the source."""
        share = _share(data)
        shares = [data.train] if share is None else [data.train, share]
        chosen = np.sort(np.concatenate([split.indices for split in shares]))
        everything = replace(data.train, indices=chosen)
        return cls(
            everything.chosen_examples, everything.chosen_targets, np.isin(chosen, data.train.indices, kind="sort")
        )

    def __len__(self) -> int:
        return len(self.examples)


def _share(data: PreparedData) -> Split | None:
    """The validation rows, where they were set aside from the training rows."""
    return data.validation if data.validation is not None and data.validation.is_share else None


def _examined(
    data: PreparedData, rows: _Rows, folder: Path, held_out: EvaluatedSet | None, folds: int | None
) -> Diagnosis:
    """Everything that is suspicious, as one list."""
    # A share for validation is of the rows that are examined: what it has in common with others are equal texts.
    apart = [name for name, split in data.splits.items() if name != "train" and split is not _share(data)]
    sets = {name: data.splits[name] for name in apart}
    texts, of_sets, notes = _neighbours(rows, sets)
    found: list[Suspicion] = []
    if held_out is None:
        for targets_N in rows.targets.values():
            found += unequal_numbers(targets_N, texts)
    else:
        seen = {name: _probabilities(held_out, name, data, rows) for name in data.label_maps}
        absent = sum(int(np.isnan(of_head).any(axis=1).sum()) for of_head in seen.values())
        if absent:
            notes.append(f"{count(absent, 'label')} without held-out probabilities: only its texts were compared.")
        for question in questions_of(data.label_maps, rows.targets, seen):
            found += suspect_labels(question)
            found += conflicting_labels(question, texts)
    for name, held in of_sets.items():
        found += leaks(name, held, texts, rows.in_training_N)
    if _share(data) is not None and data.test is None:
        notes.append(
            "There are no test rows: what mending is worth will be measured on validation rows, whose labels are of"
            " the same source."
        )
    lines = _as_lines(found, data, rows)
    counts: dict[str, int] = {kind: len({one.row for one in found if one.kind == kind}) for kind in KINDS}
    return Diagnosis(folder, folds, len(rows), tuple(lines), counts, tuple(notes))


def _probabilities(held_out: EvaluatedSet, head: str, data: PreparedData, rows: _Rows) -> np.ndarray:
    """float64 [N, C] of a head, in the order of its labels in the data; NaN for rows that have none."""
    names = data.label_maps[head].names
    seen_NC = np.full((len(rows), len(names)), np.nan)
    scored = held_out.scored.by_head.get(head)
    if scored is None or scored.ranked.seen is None:
        return seen_NC
    own = [scored.head.labels.index(name) for name in names]
    ranked = scored.ranked
    kept = positions_of(held_out.scored, head) if scored.sample is None else np.asarray(ranked.rows)
    place = np.searchsorted(rows.examples.indices, held_out.facts.row[kept])
    seen_NC[place] = np.asarray(ranked.seen)[:, own]
    return seen_NC


# --- texts -----------------------------------------------------------------------------------------------------------


def _neighbours(rows: _Rows, sets: Mapping[str, Split]) -> tuple[Neighbours, dict[str, np.ndarray], list[str]]:
    """Which texts occur where; of each held-out set the text of every row, int64, -1 for an empty one."""
    ids: dict[int, int] = {}  # a hash of each text, so that the texts themselves need not stay
    kept: list[str] = []

    def numbered(examples: Examples) -> np.ndarray:
        numbers = []
        for text in plain_texts(examples):
            number = ids.setdefault(hash(text), len(ids)) if text else -1
            if number == len(kept) < MAX_COMPARED:
                kept.append(text)
            numbers.append(number)
        return np.array(numbers, np.int64)

    of_sets = {name: numbered(split.chosen_examples) for name, split in sets.items()}
    text_N = numbered(rows.examples)
    order = np.argsort(text_N, kind="stable")
    limits = np.searchsorted(text_N[order], np.arange(len(ids) + 1))
    by_text = [order[start:end] for start, end in itertools.pairwise(limits.tolist())]
    notes = []
    if len(ids) > MAX_COMPARED:
        notes.append(
            f"Texts that are nearly the same were looked for among the first {MAX_COMPARED:,} of {len(ids):,}"
            " different ones (held-out rows first); equal ones among all."
        )
    held = {name: numbers[numbers >= 0] for name, numbers in of_sets.items()}
    return Neighbours(by_text, _by_text(near_pairs(kept))), held, notes


def _by_text(found: NearPairs) -> dict[int, dict[int, float]]:
    """Of each text those that are nearly the same."""
    near: dict[int, dict[int, float]] = defaultdict(dict)
    for (one, other), similarity in zip(found.pairs_P2.tolist(), found.similarity_P.tolist(), strict=True):
        near[one][other] = near[other][one] = similarity
    return near


# --- one list --------------------------------------------------------------------------------------------------------


def _as_lines(found: Sequence[Suspicion], data: PreparedData, rows: _Rows) -> list[Correction]:
    """One proposal for each row and question, with all reasons; a row that is to be left out has that one alone."""
    by_row: dict[int, list[Suspicion]] = defaultdict(list)
    for one in found:
        by_row[one.row].append(one)
    content_N = content_numbers(rows.examples.take(np.array(sorted(by_row), np.int64)))
    lines: list[Correction] = []
    for content, (row, about) in zip(content_N.tolist(), sorted(by_row.items()), strict=True):
        text = " ".join(" | ".join(_texts_of(rows.examples, row)).split())[:_SHOWN_TEXT]
        shared = Correction(
            row=int(rows.examples.indices[row]),
            task="",
            label="",
            proposed="",
            content=f"{content:016x}",
            place=rows.examples.place(row),
            text=text,
        )
        lines += _lines_of_row(shared, row, about, data, rows)
    return sorted(lines, key=lambda line: (-line.worth, line.row, line.task, line.proposed))


def _texts_of(examples: Examples, row: int) -> list[str]:
    columns = [examples.text] if examples.text_pair is None else [examples.text, examples.text_pair]
    return [column[row].as_py() for column in columns]


def _lines_of_row(
    shared: Correction, row: int, about: Sequence[Suspicion], data: PreparedData, rows: _Rows
) -> list[Correction]:
    labels = [one for one in about if one.question is not None]
    out = [one for one in about if one.question is None]
    if out:  # a wrong label goes with its row
        worth = sum(one.worth for one in out) + max((one.worth for one in labels), default=0.0)
        task = next(iter(data.label_maps))
        return [replace(shared, task=task, label=_given(data, task, rows, row), worth=worth, why=_reasons(about))]
    by_question: dict[int, list[Suspicion]] = defaultdict(list)
    for one in labels:
        by_question[id(one.question)].append(one)
    lines = []
    for of_question in by_question.values():
        best = max(of_question, key=lambda one: one.worth)
        question = best.question
        assert question is not None, "the row is not left out"
        lines.append(
            replace(
                shared,
                task=question.task,
                label=_given(data, question.task, rows, row),
                proposed=question.written(best.proposed),
                worth=best.worth,
                why=_reasons(of_question),
            )
        )
    return lines


def _reasons(about: Sequence[Suspicion]) -> str:
    return "; ".join(f"{one.kind}: {one.why}" for one in about)


def _given(data: PreparedData, task: str, rows: _Rows, row: int) -> str:
    """The label of a row as the data has it; of several labels, and of numbers, empty."""
    label_map, target = data.label_maps[task], rows.targets[task][row]
    return label_map.names[int(target)] if label_map.exclusive and target >= 0 else ""
