"""Evaluates a language model on documents: those of a set of its run, or of files; for `evaluate.py` and
`bymetadata.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textune.batches import TokenRows
from textune.config import (
    Absent,
    Arm,
    Columns,
    EvaluateSection,
    Experiment,
    OnBadRow,
    SetAside,
    SetsByType,
    StreamSource,
    arm_of_set,
    sets_of_rows,
)
from textune.data import GivenRows, Rows, key_of
from textune.errors import ConfigError, DataError, RunError
from textune.evaluation import EvaluatedRows, EvaluatedSet, MainMetric, ScoredRows, build_task_report
from textune.metadata import (
    DocumentSet,
    NothingToScore,
    ScoredSet,
    Written,
    examples_of,
    open_documents,
    read_document_rows,
    read_documents,
    score_arms,
    sets_of,
)
from textune.prediction import Scorer, data_source
from textune.run import Reported, Tracker, facts_of, score_rows, slices_here
from textune.wording import listing

ARMS: tuple[Arm, ...] = ("without", "same-context")
"""Every arm beside the documents with their metadata."""


@dataclass(frozen=True)
class ChosenDocuments:
    """The documents to report on."""

    name: str
    """Of the set, or of the first file."""
    sets: tuple[DocumentSet, ...]
    """All documents, then those by type."""
    rows: Rows
    """Where they come from."""
    notes: tuple[str, ...]
    """What of the rows is not in them."""

    @property
    def dataset(self) -> str:
        """What is evaluated, for a reader."""
        return f"{self.name}: {self.rows.source}"


def documents_of_files(
    data: object, columns: Columns, scorer: Scorer, *, on_bad_row: OnBadRow, tracker: Tracker
) -> ChosenDocuments:
    """The documents of files, read as those of the run were."""
    source, said = data_source(scorer.card.sources, data)
    if said:
        tracker.notice(said)
    rows = read_document_rows(source, on_bad_row, {}, key="data")
    return _chosen(Path(source.files[0]).name, SetsByType(), rows, columns, scorer)


def documents_of_run(
    run: Path, experiment: Experiment | None, scorer: Scorer, part: str | None, given: GivenRows
) -> ChosenDocuments:
    """The run's own test (else validation) documents, or those behind the set `part`, be it one by type or an arm."""
    if experiment is None:
        raise RunError(
            f"{run} is a model folder without a run: its data is unknown.", hint="Name a file with --data FILE."
        )
    data = experiment.data
    name = "validation" if isinstance(data.test, Absent) else "test"
    if part is not None:
        every_arm = experiment.evaluate.model_copy(update={"arms": ARMS})
        whole = experiment.model_copy(update={"evaluate": every_arm})
        sets = {found: one for one in data.held_out for found in sets_of_rows(whole, one)}
        if part not in sets:
            raise ConfigError(
                f'part = "{part}" is not a set of this run.',
                hint=f"It has {listing(sets, 12)}.",
                key="part",
                value=part,
            )
        name = sets[part]
    source = data.held_out[name]
    if isinstance(source, Absent) or (isinstance(source, SetAside) and isinstance(data.train, StreamSource)):
        raise RunError(f"{run} has no {name} documents.", hint="Name a file with --data FILE.")
    if isinstance(source, SetAside):
        rows = open_documents(data, given).shares[name]
    else:
        rows = read_document_rows(source, data.on_bad_row, given, key=key_of(name))
    if scorer.card.data.get(name, rows.fingerprint) != rows.fingerprint:
        raise RunError(
            f"the {name} data of {run} changed since training ({rows.source}).",
            hint="Restore the files, or evaluate what is there now with --data FILE.",
        )
    return _chosen(name, source, rows, data.columns, scorer)


def _chosen(name: str, source: SetsByType, rows: Rows, columns: Columns, scorer: Scorer) -> ChosenDocuments:
    """The documents of these rows; DataError if there are none, or if ranks read others."""
    if scorer.ranks.broadcast(rows.fingerprint) != rows.fingerprint:
        raise DataError(
            f"rank {scorer.ranks.rank} reads other rows than the first rank ({rows.source}).",
            hint="The files must be the same on every machine.",
            place=rows.source,
        )
    read = read_documents(rows, columns, scorer.card.required_documents)
    if not len(rows):
        raise DataError(
            f"{rows.source} has no rows.", hint="Check the file.", key="data", value=0, reason="there are no rows"
        )
    notes = [*rows.notes, *([read.bad.left_out] if read.bad.left_out else [])]
    sets = sets_of(name, source, rows, read.documents, key=key_of(name))
    return ChosenDocuments(name, tuple(sets), rows, tuple(notes))


def scored_set(found: DocumentSet, scorer: Scorer, tracker: Tracker, *, how: Written) -> ScoredSet:
    """The rows of every arm of a set, from the token cache if they are there; errors as `score_arms`."""
    card, nothing = scorer.card, None
    with scorer.ranks.local_first():
        try:
            return score_arms(
                found,
                scorer.tokenizer,
                card.tokens,
                card.required_documents,
                arms=ARMS,
                how=how,
                notice=tracker.notice,
                progress=lambda done, total: tracker.progress("tokenising", done, total),
            )
        except NothingToScore as error:  # which every rank finds, in its turn
            nothing = error
    raise nothing


def scored_rows(
    scorer: Scorer, rows: TokenRows, found: DocumentSet, tracker: Tracker, *, stage: str, with_losses: bool = False
) -> ScoredRows:
    """Scores of one arm, document by document."""
    scored = score_rows(scorer, rows, tracker, place=found.places.__getitem__, stage=stage, with_losses=with_losses)
    assert scored is not None, "nobody stops it"
    return scored


def report_documents(
    scorer: Scorer,
    chosen: ChosenDocuments,
    part: str | None,
    metric: MainMetric,
    section: EvaluateSection,
    tracker: Tracker,
) -> Reported:
    """The report on one set: on all documents, or on `part`."""
    name = part or chosen.name
    found = next(one for one in chosen.sets if name in {one.name, *(arm_of_set(one.name, arm) for arm in ARMS)})
    examples = examples_of(found, chosen.rows)
    slices = slices_here(examples, section.slices, tracker.notice)
    scored = scored_set(found, scorer, tracker, how=Written())
    if name not in scored.rows:
        raise DataError(
            f"no document of {found.name} has metadata, so all its arms are the same.",
            hint=f"Evaluate {found.name}.",
            key="part",
            value=name,
            reason="no document has metadata",
        )
    stage = f"evaluating {name}"
    of_arm = scored_rows(scorer, scored.rows[name], found, tracker, stage=stage, with_losses=metric.needs_losses)
    dataset = f"{name}: {chosen.rows.source}"
    facts = facts_of(examples, scored.rows[name], of_arm, slices)
    rows = EvaluatedRows(
        texts=found.documents.texts,
        place=found.places.__getitem__,
        dataset=dataset,
        fingerprint=chosen.rows.fingerprint,
        num_left_out=len(scored.unscored) + len(chosen.rows.skipped),
        warnings=chosen.notes,
        facts=facts,
    )
    report = build_task_report(of_arm, rows, main=metric, bootstrap=section.bootstrap, mistakes=section.mistakes)
    return Reported(report, EvaluatedSet(name, dataset, chosen.rows.fingerprint, metric, of_arm, facts))


def types_within(documents: Mapping[str, int], wanted: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The types to compare: those that are wanted, or all that some document has; `documents`: how many have each.

    ConfigError for one that the model does not read, DataError for one that no document has.
    """
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"the model does not read {name}.",
                hint=f"Its types are {listing(known)}.",
                key="types",
                value=name,
                reason="not a type of this model",
            )
        if not documents[name]:
            raise DataError(
                f"no document has {name}.",
                hint="Leave it out, or name other rows.",
                key="types",
                value=name,
                reason="no document has it",
            )
    return tuple(wanted) or tuple(name for name in known if documents[name])
