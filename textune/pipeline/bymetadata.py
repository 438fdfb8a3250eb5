"""What metadata is worth to a language model: the same characters scored with it, without it, and in the same context,
type by type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from textune.atomic import write_text
from textune.config import (
    Columns,
    DeviceName,
    FilesSource,
    ModelSection,
    OnBadRow,
    PredictionPrecision,
    Switch,
    load_config,
    require_count,
    require_words,
    user_path,
)
from textune.data import GivenRows, text_numbers
from textune.errors import ConfigError, DataError, ModelError
from textune.evaluation import CompareGroup, Comparison, compare, render
from textune.metadata import DocumentSet, NothingToScore, Written
from textune.model import Recipe, find_pretrained, load_language_model, load_tokenizer, prepare, require_weights
from textune.pipeline.heard import heard
from textune.pipeline.ownsources import require_own_sources
from textune.pipeline.reportdocuments import (
    ChosenDocuments,
    documents_of_files,
    documents_of_run,
    scored_rows,
    scored_set,
    types_within,
)
from textune.prediction import Scorer, load_scorer
from textune.ranks import joined
from textune.run import SilentTracker, Tracker
from textune.wording import count, listing

Chunks = Literal["all", "first"]
ALL, TOGETHER, TRAINED = "all", "together", "trained"
_FORMS: dict[str, Callable[[Comparison], str]] = {
    ".json": render.comparison.as_json,
    ".md": render.comparison.as_markdown,
}
_ARMS = ("with", "without", "same-context")


class Choice(NamedTuple):
    """Which documents are compared, and how."""

    types: tuple[str, ...]
    max_documents: int | None
    """Most documents of each group, from the start."""
    chunks: Chunks
    dedupe: bool
    prompt: bool


@heard
def evaluate_by_metadata(
    run: str | Path,
    *,
    data: str | Path | Sequence[str | Path] | FilesSource | None = None,
    columns: Columns | None = None,
    part: str | None = None,
    rows: GivenRows | None = None,
    types: str | Sequence[str] = (),
    max_documents: int | None = None,
    chunks: Chunks = "all",
    dedupe: bool = False,
    prompt: bool = False,
    untrained: str | None = None,
    bootstrap: int = 1000,
    out: str | Path | None = None,
    on_bad_row: OnBadRow = "error",
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: str | Sequence[str] = (),
    tracker: Tracker | None = None,
) -> Comparison:
    """Compare what a language model needs for documents with their metadata and without.

    There are groups of all documents, of those that have a type (without their other metadata) for each of `types`
    (all that occur), and of those that have all of these. Each is scored with metadata, without, and in the same
    context, over the same characters.

    - `chunks = "first"`: of a document with several chunks, only what the first one has.
    - `dedupe`: of documents whose texts are equal up to case, spacing and punctuation, only the first.
    - `prompt`: metadata also as a few words before the text.
    - `untrained`: a backbone, as it came, scores the same rows; its tokenizer must be the model's.
    - `bootstrap`: resamples for the intervals of the differences, 0 for none.
    - `out`: a file for the result, .json or .md.

    Documents and other arguments as in `evaluate`, for ranks as well. Raises ModelError for a classifier.
    """
    require_words(evaluate_by_metadata, chunks=chunks, on_bad_row=on_bad_row)
    require_count("max_documents", max_documents)
    target = None if out is None else _target(user_path(out))
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
            ranks=ranks,
            on_notice=tracker.notice,
        )
        known = scorer.card.required_documents.types
        if data is None:
            config = run / "config.toml"
            experiment = load_config(config).experiment if config.is_file() else None
            if experiment is not None:
                require_own_sources(experiment.data, code, run)
            chosen = documents_of_run(run, experiment, scorer, part, rows or {})
            _require_whole(part, chosen)
        else:
            own = columns or scorer.card.columns
            chosen = documents_of_files(data, own, scorer, on_bad_row=on_bad_row, tracker=tracker)
        wanted = (types,) if isinstance(types, str) else tuple(dict.fromkeys(types))
        choice = Choice(_types(chosen, known, wanted), max_documents, chunks, dedupe, prompt)
        scorers = {TRAINED: scorer}
        if untrained is not None:
            # A folder may have the name that stands for the other model.
            name = untrained if untrained != TRAINED else f"./{untrained}"
            scorers[name] = _untrained(untrained, scorer)
        comparison = _compared(chosen, scorers, choice, bootstrap, tracker)
        if ranks.is_first:
            if target is not None:
                _write(comparison, target)
            if (run / "manifest.json").is_file():
                _keep(comparison, run / "evaluations", chosen.name, tracker)
    return comparison


def _require_whole(part: str | None, chosen: ChosenDocuments) -> None:
    """ConfigError where the set is one by type or an arm: these are what is compared of a set of documents."""
    if part not in (None, chosen.name):
        raise ConfigError(
            f'part = "{part}" is made of the documents of {chosen.name}, which are compared as a whole: by type, and'
            " in every arm.",
            hint=f"Name {chosen.name}; types = [...] (--type) chooses the groups.",
            key="part",
            value=part,
            reason="not all documents of a set",
        )


def _target(path: Path) -> Path:
    """A file that the result can be written to, before anything slow; ConfigError for any other."""
    if path.suffix not in _FORMS:
        raise ConfigError(
            f"out = {path}: a comparison is written as {listing(_FORMS)}.",
            hint=f"Name a file such as {path.stem}.md.",
            key="out",
            value=str(path),
            reason="neither .json nor .md",
        )
    if not path.parent.is_dir():
        raise ConfigError(
            f"out = {path}: there is no folder {path.parent}.",
            hint="Make it first, or name another file.",
            key="out",
            value=str(path),
            reason="no such folder",
        )
    return path


def _write(comparison: Comparison, path: Path) -> None:
    """Write the result in the form that the name says."""
    write_text(path, _FORMS[path.suffix](comparison))


def _keep(comparison: Comparison, folder: Path, name: str, tracker: Tracker) -> None:
    """Write the result beside the other reports of a run; if that fails, it is still returned."""
    stem = re.sub(r"[^\w.-]+", "_", f"{name}-by-metadata")
    try:
        folder.mkdir(exist_ok=True)
        for suffix in _FORMS:
            _write(comparison, folder / f"{stem}{suffix}")
    except OSError as error:  # such as another user's run
        tracker.notice(f"the comparison was not kept in {folder}: {error.strerror or error}")


def _types(chosen: ChosenDocuments, known: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The types to compare by; `known`: those that the model reads."""
    documents = chosen.sets[0].documents
    num_with: Mapping[str, int] = dict(zip(documents.types, documents.has_type.sum(axis=0).tolist(), strict=True))
    found = types_within(num_with, wanted, known)
    if not found:
        raise DataError(
            f"no document of {chosen.rows.source} has metadata that the model reads.",
            hint="Name rows that have some with --data FILE.",
            key="data",
            value=0,
            place=chosen.rows.source,
            reason="no document has metadata",
        )
    return found


def _untrained(name: str, scorer: Scorer) -> Scorer:
    """The same scorer with a backbone as it came, on the same tokens.

    ModelError where it has no weights, its tokenizer is another one, or its positions are too few for the rows.
    """
    section = ModelSection(pretrained=name)
    require_weights(find_pretrained(name, section, key="untrained"))
    tokenizer = load_tokenizer(section)
    own, other = scorer.tokenizer.get_vocab(), tokenizer.get_vocab()
    added = sorted(own.keys() - other.keys(), key=own.__getitem__)
    if other.keys() - own.keys() or any(own[token] != number for token, number in other.items()):
        raise ModelError(
            f"untrained = {name!r}: its tokenizer is not that of the model, so it would score other tokens.",
            hint="Name the backbone that the model was trained from.",
            key="untrained",
            value=name,
            reason="another tokenizer",
        )
    if added:  # by the run: their rows start as they did there
        section = section.model_copy(update={"added_tokens": tuple(added)})
        tokenizer = load_tokenizer(section)
    model = load_language_model(section, tokenizer, seed=0)
    limit = model.max_positions
    if limit is not None and limit < scorer.card.max_length:
        raise ModelError(
            f"untrained = {name!r}: it has positions for {limit} tokens, but the rows of the model have up to"
            f" {scorer.card.max_length}.",
            hint="Name a backbone with more positions.",
            key="untrained",
            value=name,
            reason="too few positions",
        )
    prepare(model, Recipe(scorer.device, "prediction", compiled=scorer.card.compiled))
    return Scorer(
        model,
        scorer.tokenizer,
        scorer.task,
        scorer.card,
        device=scorer.device,
        max_tokens=scorer.max_tokens,
        ranks=scorer.ranks,
        on_notice=scorer.on_notice,
    )


def _compared(
    chosen: ChosenDocuments, scorers: Mapping[str, Scorer], choice: Choice, bootstrap: int, tracker: Tracker
) -> Comparison:
    found, notes = chosen.sets[0], list(chosen.notes)
    if choice.dedupe:
        kept = _distinct(found)
        notes.append(f"{count(len(found) - len(kept), 'document')} with the text of an earlier one left out")
        found = found.only(found.name, kept, found.documents.types)
    groups: list[CompareGroup] = []
    for group, documents in _groups(found, choice):
        if not len(documents):
            notes.append(f"{group}: no document has all of these types")
            continue
        for style in ("tags", "prompt") if choice.prompt else ("tags",):
            how = Written(as_prompt=style == "prompt", first_only=choice.chunks == "first")
            try:
                arms = scored_set(documents, scorers[TRAINED], tracker, how=how)
            except NothingToScore:
                if group == ALL:
                    raise
                notes.append(f"{group}: no document has a token to score")
                continue
            if num := len(arms.unscored):
                notes.append(f"{group}: {count(num, 'document')} without a token to score left out")
            rows = dict(zip(_ARMS, arms.rows.values(), strict=False))
            for model, scorer in scorers.items():
                scored = {
                    arm: scored_rows(scorer, of_arm, documents, tracker, stage=f"{group} {arm}")
                    for arm, of_arm in rows.items()
                }
                groups.append(compare(scored, group=group, model=model, style=style, samples=bootstrap))
    options: dict[str, Any] = choice._asdict() | {"models": list(scorers)}
    return Comparison(chosen.dataset, chosen.rows.fingerprint, tuple(groups), tuple(dict.fromkeys(notes)), options)


def _groups(found: DocumentSet, choice: Choice) -> Iterator[tuple[str, DocumentSet]]:
    """The documents of each group, by its name; of one type alone, there is no group of all types."""
    documents, most = found.documents, choice.max_documents
    has_DT = documents.has_type[:, [documents.types.index(name) for name in choice.types]]
    yield ALL, found.only(found.name, np.arange(len(found))[:most], documents.types)
    for column, name in enumerate(choice.types):
        yield name, found.only(found.name, np.flatnonzero(has_DT[:, column])[:most], {name})
    if len(choice.types) > 1:
        yield TOGETHER, found.only(found.name, np.flatnonzero(has_DT.all(axis=1))[:most], choice.types)


def _distinct(found: DocumentSet) -> np.ndarray:
    """int64 the documents whose text no earlier one has, up to case, spacing and punctuation."""
    numbers = text_numbers(pa.chunked_array([pa.array(found.documents.texts, pa.large_string())]))
    return np.sort(np.unique(numbers, return_index=True)[1])
