"""The rows and the model of a run on documents with their metadata; used by `build.py`.

documents by set -> model -> what makes rows of training documents -> rows of the held-out ones -> plan
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from textune.batches import MaxLength, TokenRows
from textune.config import ConditionalLmTask, Experiment, MetadataSection, TokensSection, reported_sets
from textune.data import PreparedData, require_slices
from textune.errors import ConfigError, DataError
from textune.evaluation import resolve_metric
from textune.metadata import (
    ChunkEncoder,
    DocumentRun,
    DocumentSample,
    PreparedDocuments,
    prepare_documents,
    require_inline_types,
    require_known_types,
    score_arms,
)
from textune.model import FullTable, TextModel, load_language_model, load_tokenizer
from textune.pipeline.cautions import fit_length, pad_rows, require_judge, suit_engine, tokenizer_notice
from textune.pipeline.groundwork import Building, Groundwork
from textune.pipeline.sharing import require_unshared
from textune.tasks import build_task
from textune.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EVERY_TOKEN = "a language model predicts every token of its vocabulary"


def lay_documents(building: Building) -> Groundwork:
    """Everything of a run on documents but the preparation of its model.

    Errors as those that this calls; DataError where no document has a chunk, where a set has no row, and for training
    documents that are evaluated on as well.
    """
    experiment, earlier = building.experiment, building.earlier
    section, task = experiment.metadata, experiment.task
    assert section is not None and isinstance(task, ConditionalLmTask), "a run on documents"
    require_inline_types(section)
    with building.ranks.local_first():
        documents = prepare_documents(experiment.data, section, building.given)
    require_unshared(building, documents)
    require_slices(documents.data, experiment.evaluate.slices, sets=reported_sets(experiment))
    loaded = _loaded(building, section)
    run = DocumentRun(
        documents.train,
        experiment.data,
        section,
        loaded.encoder,
        experiment.train,
        metadata_loss=task.metadata_loss,
    )
    state = None if earlier is None else earlier.loader
    maker, sample = run.maker(state=state), run.sample(state=state)
    require_known_types(section.types, documents.found | sample.found, documents.not_named | sample.not_named)
    _require_chunks(sample, documents.train.name)
    data, rows = _held_out(building, documents, loaded, section)
    require_judge(experiment.train, data, best_by=experiment.evaluate.best_by)
    _require_budget(experiment, loaded)
    head = build_task(task, data.label_maps)
    return Groundwork(
        data=data,
        task=head,
        metric=resolve_metric(experiment.evaluate.metric, head.heads),
        tokenizer=loaded.tokenizer,
        model=loaded.model,
        tokens=loaded.tokens,
        max_length_reason=loaded.max_length.reason,
        encoder=loaded.encoder,
        rows={"train": sample.rows} | rows,
        maker=maker,
        plan=run.plan(maker),
        vocabulary=FullTable(_EVERY_TOKEN),
        documents=sample.estimate,
        notices=[*data.notices, *loaded.notices],
    )


@dataclass(frozen=True)
class _Loaded:
    """A language model, and how documents become tokens for it."""

    tokenizer: PreTrainedTokenizerBase
    model: TextModel
    tokens: TokensSection
    """With `max_length` as a number."""
    max_length: MaxLength
    encoder: ChunkEncoder
    notices: list[str]


def _loaded(building: Building, section: MetadataSection) -> _Loaded:
    """The model with the weights it starts from."""
    experiment, earlier = building.experiment, building.earlier
    name = experiment.model.name
    tokenizer = load_tokenizer(experiment.model)
    model = load_language_model(experiment.model, tokenizer, seed=experiment.train.seed)
    wanted = _max_length(experiment.tokens, None if earlier is None else earlier.max_length)
    tokens, said = fit_length(experiment.tokens, wanted, model, name=name)
    if building.before is None:  # a tokenizer saved by textune states the earlier run's length
        said += tokenizer_notice(tokens, tokenizer, name=name)
    pad_rows(tokens, model, name=name)
    suit_engine(experiment.train, model)
    encoder = ChunkEncoder(tokenizer, tokens, section)
    return _Loaded(tokenizer, model, tokens, wanted, encoder, said)


def _max_length(section: TokensSection, earlier: int | None) -> MaxLength:
    """The longest chunk in tokens; a run that continues keeps its `earlier` one."""
    if section.max_length != "auto":
        return MaxLength(section.max_length, "tokens.max_length")
    if earlier is not None:
        return MaxLength(earlier, "as before the run stopped")
    return MaxLength(section.longest, "auto")


def _require_chunks(sample: DocumentSample, name: str) -> None:
    if sample.estimate.chunks:
        return
    found = sample.estimate
    raise DataError(
        f"{name}: none of {count(found.documents, 'document')} has a chunk to learn from: {found.short:,} with fewer"
        f" tokens of text than metadata.min_tokens, {found.counts.unscored:,} with no token that has another before"
        " it.",
        hint="Check data.columns.text and metadata.min_tokens.",
        key="data.train",
        value=0,
        place=name,
        reason="no document has a chunk",
    )


def _held_out(
    building: Building, documents: PreparedDocuments, loaded: _Loaded, section: MetadataSection
) -> tuple[PreparedData, dict[str, TokenRows]]:
    """The rows of each set and of the arms beside it, and the data with a split for each of these."""
    splits, rows, notices = dict(documents.data.splits), dict[str, TokenRows](), list[str]()
    for name, found in documents.sets.items():
        with building.ranks.local_first():
            scored = score_arms(
                found,
                loaded.tokenizer,
                loaded.tokens,
                section,
                arms=building.experiment.evaluate.arms,
                notice=building.tracker.notice,
                progress=partial(building.tokenising, name),
            )
        num = len(scored.unscored)
        splits |= {of_arm: replace(splits[name], name=of_arm, num_unscored=num) for of_arm in scored.rows}
        if num:
            notices.append(f"{name}: {count(num, 'document')} of {len(found):,} without a token to score left out")
        rows |= scored.rows
    data = replace(documents.data, splits=splits, notices=(*documents.data.notices, *notices))
    return data, rows


def _require_budget(experiment: Experiment, loaded: _Loaded) -> None:
    """ConfigError where fewer tokens are computed at once than a chunk may have."""
    longest = int(loaded.model.padding.widths(np.array([loaded.tokens.longest]))[0])
    for key, limit in (
        ("train.max_tokens", experiment.train.max_tokens),
        ("evaluate.max_tokens", experiment.evaluate.max_tokens),
    ):
        if isinstance(limit, int) and limit < longest:
            raise ConfigError(
                f"{key} = {limit} is less than the {longest} tokens that a chunk may have.",
                hint=f"Use {key} = {longest} or more, or lower tokens.max_length.",
                key=key,
                value=limit,
                reason=f"a chunk may have {longest} tokens",
            )
