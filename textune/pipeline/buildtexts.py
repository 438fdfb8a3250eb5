"""The rows and the model of a run on labelled texts; used by `build.py`.

data, task -> model -> tokens -> what makes rows of a stream -> plan
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from textune.batches import (
    Plan,
    TextEncoder,
    TextMaker,
    TokenRows,
    choose_max_length,
    require_budget,
    require_weights,
    tokenise,
)
from textune.config import (
    Experiment,
    TokensSection,
    TrainSection,
    reported_sets,
)
from textune.data import (
    Finding,
    PreparedData,
    audit_data,
    labelled_stream,
    prepare_data,
    require_slices,
    require_sound,
)
from textune.evaluation import MainMetric, resolve_metric
from textune.model import (
    FullTable,
    Occurring,
    TextModel,
    load_model,
    load_tokenizer,
)
from textune.pipeline.cautions import (
    fit_length,
    pad_rows,
    prefix_notice,
    require_judge,
    require_labelled,
    separator_notice,
    suit_engine,
    tokenizer_notice,
    tokens_notice,
)
from textune.pipeline.continuing import known_labels
from textune.pipeline.groundwork import Building, Groundwork
from textune.tasks import Task, build_task, stated_labels
from textune.training import (
    cutting_obstacle,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def lay_texts(building: Building) -> Groundwork:
    """Everything of a run on labelled texts but the preparation of its model; errors as those that `build_parts`
    calls."""
    experiment = building.experiment
    labelled = _labelled(building)
    loaded = _loaded(building, labelled)
    labelled, rows = _tokenised(building, labelled, loaded)
    data, task, metric, findings = labelled
    _require_sets(experiment, labelled, loaded, rows)
    stream = labelled_stream(data, experiment.data)
    paired = experiment.data.columns.text_pair is not None
    return Groundwork(
        data=data,
        task=task,
        metric=metric,
        tokenizer=loaded.tokenizer,
        model=loaded.model,
        tokens=loaded.tokens,
        max_length_reason=loaded.max_length_reason,
        encoder=loaded.encoder,
        rows=rows,
        maker=None if stream is None else TextMaker(stream, loaded.encoder, seed=experiment.train.seed),
        plan=Plan.of(experiment.train, data.num_rows["train"]),
        vocabulary=_vocabulary(experiment.train, rows, streamed=stream is not None),
        pair_separator=loaded.encoder.separator.text if paired else "",
        findings=findings,
        notices=[*data.notices, *loaded.notices],
    )


class _Labelled(NamedTuple):
    """Rows with labels as numbers, and what is made of these."""

    data: PreparedData
    task: Task
    metric: MainMetric
    findings: tuple[Finding, ...] | None
    """What the audit of the rows found; None where it was not made."""


def _labelled(building: Building) -> _Labelled:
    """The rows of every split."""
    experiment = building.experiment
    stated = stated_labels(experiment.task, experiment.data.columns)
    known_names = known_labels(experiment.model, building.before)
    with building.ranks.local_first():
        data = prepare_data(
            experiment.data, kind=experiment.task.kind, known_names=known_names, stated=stated, given=building.given
        )
    require_weights(experiment.train, data.train)
    findings = tuple(audit_data(data)) if building.audit else None
    for warning in require_sound(findings or ()):
        building.tracker.notice(warning)
    task = build_task(experiment.task, data.label_maps, targets=data.train.chosen_targets)
    metric = resolve_metric(experiment.evaluate.metric, task.heads)
    require_judge(experiment.train, data, best_by=experiment.evaluate.best_by)
    require_slices(data, experiment.evaluate.slices, sets=reported_sets(experiment))
    return _Labelled(data, task, metric, findings)


class _Loaded(NamedTuple):
    """The backbone with its head, and how texts become tokens for it."""

    tokenizer: PreTrainedTokenizerBase
    model: TextModel
    tokens: TokensSection
    """With `max_length` as a number, and with what an earlier version put between the texts of pairs."""
    encoder: TextEncoder
    max_length_reason: str
    notices: list[str]


def _loaded(building: Building, labelled: _Labelled) -> _Loaded:
    """The model with the weights it starts from."""
    experiment, earlier = building.experiment, building.earlier
    name = experiment.model.name
    tokenizer = load_tokenizer(experiment.model)
    model = load_model(
        experiment.model,
        tokenizer,
        label_maps=labelled.data.label_maps,
        num_logits=labelled.task.num_outputs,
        seed=experiment.train.seed,
        pooling=experiment.tokens.window_pooling,
        for_few=building.few,
    )
    before_stop = None if earlier is None else earlier.max_length
    max_length = choose_max_length(
        experiment.tokens,
        tokenizer,
        labelled.data.train,
        earlier=before_stop,
        prefix=experiment.data.metadata,
        others=labelled.data.splits.values(),
    )
    tokens, said = fit_length(experiment.tokens, max_length, model, name=name)
    if (
        building.before is None
    ):  # a tokenizer saved by textune states the earlier run's length, which `differences` reports
        said += tokenizer_notice(tokens, tokenizer, name=name)
    pad_rows(tokens, model, name=name)
    suit_engine(experiment.train, model)
    if earlier is not None and earlier.pair_separator is not None:
        tokens = tokens.model_copy(update={"pair_separator": earlier.pair_separator})
    encoder = TextEncoder(tokenizer, tokens, prefix=experiment.data.metadata)
    if earlier is None:
        said += separator_notice(experiment.data.columns, tokens, encoder, name=name)
        said += prefix_notice(labelled.data.train, encoder, name=name)
        said += tokens_notice(labelled.data.train, encoder, name=name)
    return _Loaded(tokenizer, model, tokens, encoder, max_length.reason, said)


def _tokenised(building: Building, labelled: _Labelled, loaded: _Loaded) -> tuple[_Labelled, dict[str, TokenRows]]:
    """The token rows of every split, and what is left of the rows where `tokens.drop_longer` leaves some out."""
    before, task = labelled.data, labelled.task
    experiment, notice = building.experiment, building.tracker.notice
    with building.ranks.local_first():
        data, rows = tokenise(before, loaded.encoder, loaded.tokens, progress=building.tokenising, notice=notice)
    require_weights(experiment.train, data.train)
    if len(data.train) < len(before.train):  # balanced weights follow from the rows that are left
        task = build_task(experiment.task, data.label_maps, targets=data.train.chosen_targets)
    return labelled._replace(data=data, task=task), rows


def _require_sets(experiment: Experiment, labelled: _Labelled, loaded: _Loaded, rows: Mapping[str, TokenRows]) -> None:
    """Raise where a set has no label for what chooses the best model, or a row of more tokens than are computed at
    once."""
    train, evaluate, data, padding = experiment.train, experiment.evaluate, labelled.data, loaded.model.padding
    judged = {key: rows[key] for key in reported_sets(experiment) if key in rows}
    require_labelled(judged, data, labelled.metric, best_by=evaluate.best_by)
    require_budget("train.max_tokens", train.max_tokens, {"train": rows["train"]}, data, padding)
    require_budget("evaluate.max_tokens", evaluate.max_tokens, judged, data, padding)


def _vocabulary(section: TrainSection, rows: Mapping[str, TokenRows], *, streamed: bool) -> Occurring | FullTable:
    """The token embeddings that occur in the rows, where these are all known."""
    if streamed:
        return FullTable("which tokens occur in a stream is not known in advance")
    stores = {id(of_split.store): of_split.store for of_split in rows.values()}.values()
    return Occurring(
        [ids for store in stores for ids in store.occurring],
        mode=section.compact_vocabulary,
        rule_obstacle=cutting_obstacle(section.optimizer),
    )
