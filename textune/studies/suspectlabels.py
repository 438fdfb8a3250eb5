"""Labels that are probably wrong by the held-out rows of all folds: counted in a report, and listed in a file.

pooled rows --mean over seeds--> questions --confident learning--> suspects.csv

`textune doctor` finds the same and more, with the texts: it reads the data, this only the scores.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from textune.atomic import write_text
from textune.evaluation import EvaluatedSet, positions_of
from textune.studies.suspicions import questions_of, suspect_labels
from textune.wording import count

SUSPECTS = "suspects.csv"


class SuspectLabel(NamedTuple):
    """A label that is probably wrong; the columns of the file."""

    row: int
    """Its number in the training source, from 0."""
    task: str
    label: str
    """As it stands in the data; of several labels empty."""
    proposed: str
    """The label instead; of several labels `+name` or `-name`."""
    worth: float
    """One minus the held-out probability of the label."""
    why: str


def find_suspect_labels(pooled: EvaluatedSet) -> list[SuspectLabel]:
    """Those of rows whose scores are kept, the most worthwhile first; a row of several seeds has the mean of their
    probabilities."""
    return sorted(_suspects(pooled), key=lambda one: (-one.worth, one.row, one.task, one.proposed))


def _suspects(pooled: EvaluatedSet) -> Iterator[SuspectLabel]:
    for name, scored in pooled.scored.by_head.items():
        label_map = scored.head.label_map
        if not label_map.choices or (seen := scored.ranked.seen) is None:
            continue
        kept = positions_of(pooled.scored, name) if scored.sample is None else np.asarray(scored.sample.rows)
        rows, first, which = np.unique(pooled.facts.row[kept], return_index=True, return_inverse=True)
        mean_NC = np.zeros((len(rows), seen.shape[1]))
        np.add.at(mean_NC, which, seen)
        mean_NC /= np.bincount(which)[:, None]
        hits = scored.ranked.hits[first]
        targets = hits.argmax(axis=1) if label_map.exclusive else hits.astype(np.int64)
        for question in questions_of({name: label_map}, {name: targets}, {name: mean_NC}):
            for found in suspect_labels(question):
                label = label_map.names[targets[found.row]] if label_map.exclusive else ""
                yield SuspectLabel(
                    int(rows[found.row]), name, label, question.written(found.proposed), found.worth, found.why
                )


def write_suspect_labels(found: list[SuspectLabel], path: Path) -> None:
    """A line for each, for spreadsheets and editors alike."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SuspectLabel._fields)
    writer.writerows(one._replace(worth=f"{one.worth:.4g}") for one in found)  # type: ignore[arg-type]
    write_text(path, text.getvalue())


def suspects_in_words(found: list[SuspectLabel], num_rows: int, *, one_seed: bool) -> str:
    """How many there are, and where they are listed. `one_seed`: the folder is one in which `textune doctor` trains
    nothing again."""
    if not found:
        return f"No label of {count(num_rows, 'row')} is suspect by these held-out answers (confident learning)."
    return (
        f"{count(len(found), 'label')} of {count(num_rows, 'row')} {'is' if len(found) == 1 else 'are'} probably wrong"
        f" by these held-out answers (confident learning): {SUSPECTS} lists them by row. `textune doctor`"
        f"{' with the same config, folds and --run' if one_seed else ''} adds their texts and a file to review."
    )
