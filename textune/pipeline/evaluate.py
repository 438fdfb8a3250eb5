"""Evaluates a trained model on labelled rows: the run's own, or a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from textune.batches import RowTexts, TokenRows, open_row_store
from textune.config import (
    Absent,
    Columns,
    DataSection,
    DeviceName,
    EvaluateSection,
    Experiment,
    FilesSource,
    GivenSource,
    HeldOut,
    HubSource,
    OnBadRow,
    PredictionPrecision,
    SetAside,
    StreamSource,
    Switch,
    TokensSection,
    TrainSource,
    load_config,
    require_words,
    user_path,
)
from textune.data import (
    GivenRows,
    Split,
    are_stated,
    choices_of,
    given_names,
    memory_piece,
    prepare_data,
    prepare_held_out,
    texts_with_labels,
)
from textune.errors import ConfigError, DataError, InputError, RunError
from textune.evaluation import EvaluatedSet, MainMetric, Report, read_rows, resolve_metric, write_rows
from textune.jsontext import parse_json
from textune.owncode import article
from textune.pipeline.heard import heard
from textune.pipeline.ownsources import require_own_sources
from textune.pipeline.reportdocuments import documents_of_files, documents_of_run, report_documents
from textune.prediction import ModelCard, Predictor, Scorer, data_source, load_scorer
from textune.ranks import joined
from textune.run import FITTED_ON, Reported, RunFolder, SilentTracker, Tracker, report_split, slices_here, write_report
from textune.tasks import USUAL
from textune.wording import listing


@heard
def evaluate(
    run: str | Path,
    *,
    data: object = None,
    columns: Columns | Mapping[str, object] | None = None,
    part: str | None = None,
    rows: GivenRows | None = None,
    metric: str | Sequence[str] | None = None,
    on_bad_row: OnBadRow = "error",
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: str | Sequence[str] = (),
    decision: bool = True,
    tracker: Tracker | None = None,
) -> Report:
    """Report on a model with the rows of `data`, or with the run's own test (else validation) rows, or those of the
    set `part`.

    `data`: files (a path, or a list of them), read as the run's own of the same suffix were; or a source; or rows in
    memory, in any form that `textune.train` takes: a table, a dictionary of columns, a list of dictionaries, a pair of
    texts and labels. `columns`: which columns have text and
    label, as in `{"label": "stars"}`; others stay as in the run. `rows`: rows in memory by name, for a run trained on
    such. `code`, `decision`: as in `textune.prediction.load`.

    In a run folder the report is kept as `evaluations/NAME.json`, `.md` and `.html`, the rows as `NAME.rows.parquet`.
    Raises RunError where the run has no such rows or its data has changed since training. Processes of one launcher
    share the rows: all of them call it and get the report, and the first one writes it.
    """
    require_words(evaluate, on_bad_row=on_bad_row)
    _require_part(part, data)
    run = user_path(run)
    with joined() as ranks:
        tracker = tracker if tracker is not None and ranks.is_first else SilentTracker()
        scorer = load_scorer(
            run,
            device=device,
            precision=precision,
            max_tokens=max_tokens,
            compile=compile,
            code=code,
            decision=decision,
            ranks=ranks,
            on_notice=tracker.notice,
        )
        main = resolve_metric(metric or scorer.card.metric, scorer.task.heads)
        _require_loss(main, scorer.card, run)
        experiment, section, tokens = _settings_of(run, scorer.card)
        if data is None and experiment is not None:
            require_own_sources(experiment.data, code, run)
        read, given = None if data is None else columns_of(columns, scorer.card), rows or {}
        if scorer.card.is_language_model:
            if read is None:
                documents = documents_of_run(run, experiment, scorer, part, given)
            else:
                _require_files(data)
                documents = documents_of_files(data, read, scorer, on_bad_row=on_bad_row, tracker=tracker)
            reported = report_documents(scorer, documents, part, main, section, tracker)
        else:
            if read is None:
                chosen = _own_rows(run, experiment, scorer, part, given)
            else:
                chosen = _rows_of(data, read, scorer, on_bad_row=on_bad_row, tracker=tracker)
            reported = _report(Predictor(scorer), chosen, main, section, tokens, tracker)
        if ranks.is_first and (run / "manifest.json").is_file():
            _keep(reported, RunFolder(run), tracker)
    return reported.report


def answer_files(
    run: str | Path,
    data: str | Path | Sequence[str | Path] | FilesSource,
    *,
    columns: Columns | Mapping[str, object] | None = None,
    code: str | Sequence[str] = (),
    tracker: Tracker | None = None,
) -> EvaluatedSet:
    """The labelled rows of files with what a classifier answers, as `evaluate` has them; nothing is written."""
    tracker = tracker or SilentTracker()
    scorer = load_scorer(run, code=code, on_notice=tracker.notice)
    main = resolve_metric(scorer.card.metric, scorer.task.heads)
    chosen = _rows_of(data, columns_of(columns, scorer.card), scorer, on_bad_row="error", tracker=tracker)
    section = EvaluateSection(bootstrap=0, mistakes=0)
    return _report(Predictor(scorer), chosen, main, section, scorer.card.tokens, tracker).evaluated


_FITTED_ON = (
    "The decision of the model was fitted on these rows: what it decides here is better than on others. The run's own"
    " report on them is cross-fitted."
)


class _Chosen(NamedTuple):
    """The rows to report on."""

    name: str
    """That of the set, or of the first file."""
    split: Split
    train_targets: dict[str, np.ndarray] | None = None
    """Targets of the training rows, where these were read."""
    drop_longer: int | None = None
    """Rows of more tokens are left out, as the run did."""
    is_fitted_on: bool = False
    """Whether these are the rows that the run fitted its decision on."""


def _report(
    predictor: Predictor,
    chosen: _Chosen,
    main: MainMetric,
    section: EvaluateSection,
    tokens: TokensSection,
    tracker: Tracker,
) -> Reported:
    """Tokenise, score and report."""
    split, tokenised = _tokenised(chosen.split, predictor, tokens, tracker, drop_longer=chosen.drop_longer)
    reported = report_split(
        predictor.scorer,
        split,
        tokenised,
        metric=main,
        train_targets=chosen.train_targets,
        bootstrap=section.bootstrap,
        mistakes=section.mistakes,
        tracker=tracker,
        slices=slices_here(split.chosen_examples, section.slices, tracker.notice),
    )
    report = reported.report
    if chosen.is_fitted_on and any(head.decision != USUAL for head in predictor.card.heads):
        report = replace(report, warnings=(*report.warnings, _FITTED_ON))
    return Reported(report, replace(reported.evaluated, name=chosen.name))


def _settings_of(run: Path, card: ModelCard) -> tuple[Experiment | None, EvaluateSection, TokensSection]:
    """The configuration of a run and two of its sections; for a model without one, what its card knows of them."""
    if (run / "config.toml").is_file():
        experiment = load_config(run / "config.toml").experiment
        return experiment, experiment.evaluate, experiment.tokens
    return None, EvaluateSection(), card.tokens


def _require_loss(metric: MainMetric, card: ModelCard, run: Path) -> None:
    """RunError for a metric of the loss where the model does not know its own."""
    if metric.needs_losses and not card.knows_loss:
        raise RunError(
            f"the loss of {run} is not known: an earlier version of textune did not keep its balanced class weights.",
            hint="Choose another metric.",
            key="evaluate.metric",
            value=metric.name,
            place=str(run),
        )


def _require_part(part: object, data: object) -> None:
    """ConfigError where `part` is not a name, or `data` names rows as well."""
    if part is not None and not isinstance(part, str):
        raise ConfigError(
            f"part = {part!r:.60} is not the name of a set.",
            hint='Write part="validation" or the like.',
            key="part",
            value=part,
        )
    if data is not None and part is not None:
        raise ConfigError(
            "part chooses among the run's own rows, but data names other rows.",
            hint="Give only one of them.",
            key="part",
            value=part,
        )


def _tokenised(
    found: Split, predictor: Predictor, tokens: TokensSection, tracker: Tracker, *, drop_longer: int | None
) -> tuple[Split, TokenRows]:
    """The rows of at most `drop_longer` tokens, and their tokens, from the cache if they are there; DataError if ranks
    read different rows.
    """
    ranks, examples = predictor.scorer.ranks, found.examples
    if ranks.broadcast(found.fingerprint) != found.fingerprint:
        raise DataError(
            f"rank {ranks.rank} reads other rows than the first rank ({examples.rows.source}).",
            hint="The files must be the same on every machine.",
            place=examples.rows.source,
        )
    with ranks.local_first():
        store = open_row_store(
            RowTexts.of(examples),
            predictor.encoder,
            tokens,
            progress=lambda done, total: tracker.progress("tokenising", done, total),
            notice=tracker.notice,
        )
    if drop_longer is not None:
        found = found.only(store.shorter_examples(drop_longer))
    return found, TokenRows(store, found.indices, found.targets, None)


def columns_of(given: Columns | Mapping[str, object] | None, card: ModelCard) -> Columns:
    """The run's columns with those that are given; one label column replaces several, and vice versa."""
    if isinstance(given, Columns):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f"columns = {given!r:.60} is not a dictionary.",
            hint='Write columns={"text": ..., "label": ...}.',
            key="columns",
            value=given,
        )
    changed = {"labels": ()} if "label" in (given or {}) else {}
    try:
        return Columns(**card.columns.model_dump(exclude_unset=True) | changed | dict(given or {}))
    except (ValidationError, TypeError):
        known = ", ".join(Columns.model_fields)
        raise ConfigError(
            f"columns = {given!r:.200} names no columns.", hint=f"Its keys are {known}.", key="columns", value=given
        ) from None


def _rows_of(
    data: object,
    columns: Columns,
    scorer: Scorer,
    *,
    on_bad_row: OnBadRow,
    tracker: Tracker,
) -> _Chosen:
    """Labelled rows of files or in memory, for a model that knows its labels."""
    card, label_maps = scorer.card, scorer.task.label_maps
    source: FilesSource | HubSource | GivenSource
    given: GivenRows = {}
    if _are_files(data):
        source, said = data_source(card.sources, data)
        name = Path(source.files[0]).name
        if said:
            tracker.notice(said)
    elif isinstance(data, HubSource):
        source = data
        name = "-".join(filter(None, (Path(data.name).name, data.config, data.split)))
    else:
        name, source = _IN_MEMORY, GivenSource(name=_IN_MEMORY)
        named = texts_with_labels(data, name, text=columns.text, label=columns.label)
        given = {name: memory_piece(named, name, f"{name} is")}
    labels = card.labels
    try:
        found = prepare_held_out(
            source,
            columns=columns,
            labels=labels,
            label_maps=label_maps,
            on_bad_row=on_bad_row,
            prefix=card.metadata,
            given=given,
        )
    except DataError as error:
        if error.key in {"data.columns.label", "data.columns.labels"}:
            error.advise("To score rows without labels, use `textune predict`.")
        raise
    for note in found.examples.rows.notes:
        tracker.notice(note)
    return _Chosen(name, found)


_IN_MEMORY = "data"
"""What rows in memory are called: in messages, and by their report."""


def _are_files(data: object) -> bool:
    """Whether rows are named by paths or a source, not given themselves."""
    if isinstance(data, list | tuple):
        return bool(data) and all(isinstance(one, str | Path) for one in data)
    return isinstance(data, str | Path | FilesSource)


def _require_files(data: object) -> None:
    """InputError for documents in memory."""
    if not _are_files(data):
        raise InputError(
            f"data is {article(data)}: a language model is evaluated on files of documents.",
            hint="Write the documents to a file, such as one JSON object per line.",
            key="data",
            reason=article(data),
        )


def _own_rows(
    run: Path,
    experiment: Experiment | None,
    scorer: Scorer,
    part: str | None,
    given: GivenRows,
) -> _Chosen:
    """The run's own test (else validation) rows, or those of the set `part`."""
    card, label_maps = scorer.card, scorer.task.label_maps
    stated = label_maps if are_stated(label_maps) else {}
    if experiment is None:
        raise RunError(
            f"{run} is a model folder without a run: its data is unknown.", hint="Name a file with --data FILE."
        )
    name = part or ("validation" if isinstance(experiment.data.test, Absent) else "test")
    section, streamed = experiment.data, isinstance(experiment.data.train, StreamSource)
    source = _source_of(section, name)
    if isinstance(source, Absent | StreamSource) or (streamed and isinstance(source, SetAside)):
        raise RunError(f"{run} has no {name} rows.", hint="Name a file with --data FILE.")
    train_targets = None
    if streamed and not isinstance(source, SetAside):
        # The shards may have moved by now, and do not affect these rows: the labels were given.
        found = prepare_held_out(
            source,
            columns=section.columns,
            labels=section.labels,
            label_maps=label_maps,
            on_bad_row=section.on_bad_row,
            prefix=section.metadata,
            name=name,
            given=given,
        )
        read = [found]
        same_labels = (
            bool(stated)
            or given_names(section.labels, section.columns.labels) == card.names
            or not choices_of(label_maps)
        )
    else:
        prepared = prepare_data(section, kind=experiment.task.kind, known_names=card.names, stated=stated, given=given)
        own = prepared.splits[name]
        read = [prepared.train] if name == "train" else [prepared.train, own]
        found, train_targets = own, prepared.train_targets
        same_labels = prepared.label_maps == label_maps
    # A set that a resumed run came to have may be younger than its best model.
    changed = [split.name for split in read if card.data.get(split.name, split.fingerprint) != split.fingerprint]
    if changed or not same_labels:
        what = f"the {' and '.join(changed)} data" if changed else "the labels of the data"
        raise RunError(
            f"{what} of {run} changed since training ({found.examples.rows.source}).",
            hint="Restore the files, or evaluate what is there now with --data FILE.",
        )
    return _Chosen(name, found, train_targets, experiment.tokens.drop_longer, is_fitted_on=name == FITTED_ON)


def _source_of(section: DataSection, name: str) -> TrainSource | HeldOut:
    """Where the rows of a split or an evaluation set come from; ConfigError for an unknown name."""
    sources: dict[str, TrainSource | HeldOut] = {"train": section.train, **section.held_out}
    if name not in sources:
        raise ConfigError(
            f'part = "{name}" is not a set of this run.', hint=f"It has {listing(sources, 8)}.", key="part", value=name
        )
    return sources[name]


def _keep(reported: Reported, folder: RunFolder, tracker: Tracker) -> None:
    """Write the report and its rows into a folder of the run; if that fails, the result is still returned."""
    try:
        folder.evaluations.mkdir(exist_ok=True)
        stem = _free_stem(folder, reported.evaluated)
        write_report(reported.report, folder.evaluations, stem, page=True)
        write_rows(reported.evaluated, folder.rows_of(stem))
    except OSError as error:  # such as another user's run
        tracker.notice(f"the report was not kept in {folder.evaluations}: {error.strerror or error}")


def _free_stem(folder: RunFolder, evaluated: EvaluatedSet) -> str:
    """The name of a report's files; different rows under the same file name get different names."""
    stem, own = re.sub(r"[^\w.-]+", "_", evaluated.name), evaluated.fingerprint
    existing = folder.evaluations / f"{stem}.json"
    others = [parse_json(existing.read_text(encoding="utf-8"))["fingerprint"]] if existing.is_file() else []
    if folder.rows_of(stem).is_file():
        others.append(read_rows(folder.rows_of(stem)).fingerprint)
    return stem if all(other == own for other in others) else f"{stem}-{own[:8]}"
