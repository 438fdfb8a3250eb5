"""The one page that builds a run, in the order the data flows; shared by `train` and `check`.

device -> data, task -> model -> tokens -> plan -> the model's preparation -> Parts
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from textune.batches import (
    Plan,
    TextEncoder,
    TextMaker,
    TokenRows,
    cache_folder,
    choose_max_length,
    require_budget,
    require_uncut,
    require_weights,
    tokenise,
)
from textune.config import (
    Experiment,
    ModelSection,
    TokensSection,
    reported_sets,
    require_beside_few_bits,
    require_runnable,
    sets_at_each_evaluation,
)
from textune.data import GivenRows, PreparedData, labelled_stream, prepare_data, require_sound
from textune.evaluation import MainMetric, resolve_metric
from textune.model import (
    Adapting,
    Device,
    FullTable,
    Occurring,
    Prepared,
    Recipe,
    TextModel,
    choose_budget,
    load_model,
    load_tokenizer,
    prepare,
    require_backbone,
    require_low_bits,
    starts_from_few_bits,
)
from textune.pipeline.cautions import (
    budget_notice,
    device_of,
    fit_length,
    pad_rows,
    prefix_notice,
    require_judge,
    require_labelled,
    separator_notice,
    suit_engine,
    tokenizer_notice,
    warnings,
)
from textune.pipeline.continuing import differences, earlier_card, known_labels
from textune.prediction import ModelCard, card_of
from textune.ranks import ALONE, Ranks
from textune.run import Earlier, Parts, Settings, Tracker
from textune.tasks import Task, build_task, stated_labels, with_known_weights
from textune.training import (
    computes_whole,
    cutting_obstacle,
    is_sharded,
    require_learner,
    require_optimizer,
    sharing_kind,
    state_bytes,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def build_parts(
    experiment: Experiment,
    *,
    tracker: Tracker,
    audit: bool,
    ranks: Ranks = ALONE,
    earlier: Earlier | None = None,
    given: GivenRows = MappingProxyType({}),
) -> Parts:
    """Build every part of a run; raises what any of them finds wrong and writes nothing but the token cache.

    `audit`: inspect the rows before anything slow, refuse what cannot be trained on and warn of likely mistakes. Of
    several `ranks`, the first on each machine reads and tokenises; the others find its work in the cache. `earlier`:
    what a resumed run knew when it stopped; its weights come from a checkpoint. `given`: rows in memory, by the names
    in the sources.
    """
    train = experiment.train
    require_runnable(experiment)
    device = device_of(train, ranks)
    _require_possible(experiment, device, ranks)

    before = earlier_card(experiment.model)
    labelled = _labelled(experiment, before, tracker=tracker, audit=audit, ranks=ranks, given=given)
    loaded = _loaded(experiment, labelled, before, earlier)
    labelled, rows = _tokenised(experiment, labelled, loaded, tracker=tracker, ranks=ranks)
    data, task, metric = labelled
    model = loaded.model
    stream = labelled_stream(data, experiment.data)
    maker = None if stream is None else TextMaker(stream, loaded.encoder, seed=train.seed)

    plan = Plan.of(train, data.num_rows["train"])
    require_learner(train, device, ranks, steps_per_epoch=plan.steps_per_epoch)
    _require_sets(experiment, labelled, loaded, rows)
    prepared = _prepared(
        experiment, model, rows, streamed=maker is not None, device=device, plan=plan, ranks=ranks, earlier=earlier
    )
    assert prepared.budget is not None, "it was measured"
    _require_uncut(experiment, rows, max_tokens=prepared.budget.max_tokens)
    card = _card(experiment, labelled, loaded, device)
    # A resumed run takes all weights from its checkpoint: nothing is new there.
    said = [*data.notices, *loaded.notices, *(() if earlier else model.notes)]
    said += differences(before, experiment.model, card, loaded.tokenizer)
    said += budget_notice(train, prepared.budget) if earlier is None else []
    for notice in (*said, *warnings(experiment.model, train, model, plan)):
        tracker.notice(notice)
    return Parts(
        settings=_settings(experiment),
        data=data,
        rows=rows,
        tokenizer=loaded.tokenizer,
        encoder=loaded.encoder,
        task=task,
        metric=metric,
        model=model,
        device=device,
        vocabulary=prepared.vocabulary,
        budget=prepared.budget,
        plan=plan,
        card=card,
        max_length_reason=loaded.max_length_reason,
        maker=maker,
        ranks=ranks,
    )


def _require_possible(experiment: Experiment, device: Device, ranks: Ranks) -> None:
    """Raise, before rows are read, what is wrong whatever they are: with packages, the machine, the backbone's
    files."""
    require_optimizer(experiment.train.optimizer)
    require_learner(experiment.train, device, ranks)
    if isinstance(experiment.model, ModelSection) and experiment.model.quantize is not None:
        require_low_bits(experiment.model.quantize, device)
    require_backbone(experiment.model, pooling=experiment.tokens.window_pooling)
    if starts_from_few_bits(experiment.model):
        require_beside_few_bits(experiment)


class _Labelled(NamedTuple):
    """Rows with labels as numbers, and what is made of these."""

    data: PreparedData
    task: Task
    metric: MainMetric


def _labelled(
    experiment: Experiment,
    before: ModelCard | None,
    *,
    tracker: Tracker,
    audit: bool,
    ranks: Ranks,
    given: GivenRows,
) -> _Labelled:
    """The rows of every split; `before` is the card of a model that the run starts from."""
    stated = stated_labels(experiment.task, experiment.data.columns)
    known_names = known_labels(experiment.model, before)
    with ranks.local_first():
        data = prepare_data(
            experiment.data, kind=experiment.task.kind, known_names=known_names, stated=stated, given=given
        )
    require_weights(experiment.train, data.train)
    for warning in require_sound(data) if audit else ():
        tracker.notice(warning)
    task = build_task(experiment.task, data.label_maps, targets=data.train.chosen_targets)
    metric = resolve_metric(experiment.evaluate.metric, task.heads)
    require_judge(experiment.train, data, best_by=experiment.evaluate.best_by)
    return _Labelled(data, task, metric)


class _Loaded(NamedTuple):
    """The backbone with its head, and how texts become tokens for it."""

    tokenizer: PreTrainedTokenizerBase
    model: TextModel
    tokens: TokensSection
    """With `max_length` as a number, and with what an earlier version put between the texts of pairs."""
    encoder: TextEncoder
    max_length_reason: str
    notices: list[str]


def _loaded(experiment: Experiment, labelled: _Labelled, before: ModelCard | None, earlier: Earlier | None) -> _Loaded:
    """The model with the weights it starts from."""
    name = experiment.model.name
    tokenizer = load_tokenizer(experiment.model)
    model = load_model(
        experiment.model,
        tokenizer,
        label_maps=labelled.data.label_maps,
        num_logits=labelled.task.num_outputs,
        seed=experiment.train.seed,
        pooling=experiment.tokens.window_pooling,
    )
    before_stop = None if earlier is None else earlier.max_length
    max_length = choose_max_length(
        experiment.tokens,
        tokenizer,
        labelled.data.train,
        earlier=before_stop,
        prefix=experiment.data.metadata,
    )
    tokens, said = fit_length(experiment.tokens, max_length, model, name=name)
    if before is None:  # a tokenizer saved by textune states the earlier run's length, which `differences` reports
        said += tokenizer_notice(tokens, tokenizer, name=name)
    pad_rows(tokens, model, name=name)
    suit_engine(experiment.train, model)
    if earlier is not None and earlier.pair_separator is not None:
        tokens = tokens.model_copy(update={"pair_separator": earlier.pair_separator})
    encoder = TextEncoder(tokenizer, tokens, prefix=experiment.data.metadata)
    if earlier is None:
        said += separator_notice(experiment.data.columns, tokens, encoder, name=name)
        said += prefix_notice(labelled.data.train, encoder, name=name)
    return _Loaded(tokenizer, model, tokens, encoder, max_length.reason, said)


def _tokenised(
    experiment: Experiment, labelled: _Labelled, loaded: _Loaded, *, tracker: Tracker, ranks: Ranks
) -> tuple[_Labelled, dict[str, TokenRows]]:
    """The token rows of every split, and what is left of the rows where `tokens.drop_longer` leaves some out."""
    before, task, metric = labelled
    progress = partial(_tokenising, tracker)
    with ranks.local_first():
        data, rows = tokenise(before, loaded.encoder, loaded.tokens, progress=progress, notice=tracker.notice)
    require_weights(experiment.train, data.train)
    if len(data.train) < len(before.train):  # balanced weights follow from the rows that are left
        task = build_task(experiment.task, data.label_maps, targets=data.train.chosen_targets)
    return _Labelled(data, task, metric), rows


def _require_sets(experiment: Experiment, labelled: _Labelled, loaded: _Loaded, rows: Mapping[str, TokenRows]) -> None:
    """Raise where a set has no label for what chooses the best model, or a row of more tokens than are computed at
    once."""
    train, evaluate, data, padding = experiment.train, experiment.evaluate, labelled.data, loaded.model.padding
    judged = {key: rows[key] for key in reported_sets(experiment) if key in rows}
    require_labelled(judged, data, labelled.metric, best_by=evaluate.best_by)
    require_budget("train.max_tokens", train.max_tokens, {"train": rows["train"]}, data, padding)
    require_budget("evaluate.max_tokens", evaluate.max_tokens, judged, data, padding)


def _require_uncut(experiment: Experiment, rows: Mapping[str, TokenRows], *, max_tokens: int) -> None:
    """Raise where ranks in lockstep would have to compute a text in parts; `max_tokens` is the budget of training."""
    if not computes_whole(experiment.train.distributed) or experiment.tokens.window_pooling is None:
        return
    require_uncut(int(rows["train"].lengths.max()), max_tokens, key="train.max_tokens")
    for key in sets_at_each_evaluation(experiment):
        if key in rows:
            longest = int(rows[key].lengths.max())
            require_uncut(longest, experiment.evaluate.max_tokens, key="evaluate.max_tokens")


def _settings(experiment: Experiment) -> Settings:
    """What the run itself reads of the configuration."""
    return Settings(
        experiment.train,
        experiment.evaluate,
        experiment.model.name,
        sets_at_each_evaluation(experiment),
        reported_sets(experiment),
    )


def _card(experiment: Experiment, labelled: _Labelled, loaded: _Loaded, device: Device) -> ModelCard:
    """What is saved beside the model."""
    data, model = experiment.data, experiment.model
    return card_of(
        data,
        with_known_weights(experiment.task, labelled.task),
        loaded.tokens,
        labelled.data,
        device,
        pair_separator=loaded.encoder.separator.text if data.columns.text_pair is not None else "",
        compiled=isinstance(model, ModelSection) and model.compile != "off",
        max_tokens=experiment.evaluate.max_tokens,
        metric=labelled.metric.name,
        model=model,
    )


def _prepared(
    experiment: Experiment,
    model: TextModel,
    rows: Mapping[str, TokenRows],
    *,
    streamed: bool,
    device: Device,
    plan: Plan,
    ranks: Ranks,
    earlier: Earlier | None,
) -> Prepared:
    """The model made ready to train on these rows."""
    section = experiment.train
    lora = experiment.model.lora if isinstance(experiment.model, ModelSection) else None
    quantize = experiment.model.quantize if isinstance(experiment.model, ModelSection) else None
    alone = sharing_kind(section, ranks) == "alone"
    stores = {id(of_split.store): of_split.store for of_split in rows.values()}.values()
    vocabulary = (
        FullTable("which tokens occur in a stream is not known in advance")
        if streamed
        else Occurring(
            [ids for store in stores for ids in store.occurring],
            mode=section.compact_vocabulary,
            rule_obstacle=cutting_obstacle(section.optimizer),
        )
    )
    recipe = Recipe(
        device,
        "training",
        quantize=quantize,
        adapting=None if lora is None else Adapting(lora, section.seed),
        vocabulary=vocabulary,
        table_folder=partial(cache_folder, experiment.tokens) if device.torch.type == "cpu" and alone else None,
        sharded=is_sharded(section.distributed),
        lengths=rows["train"].row_lengths,
        earlier_way=None if earlier is None else earlier.kernels,
        recompute=section.gradient_checkpointing,
        num_steps=plan.total_steps,
        deterministic=section.deterministic,
    )
    measure = partial(
        choose_budget,
        device=device,
        train=rows["train"],
        configured=section.max_tokens,
        earlier=None if earlier is None else earlier.max_tokens,
        state_bytes=partial(state_bytes, section.optimizer),
        ranks=ranks,
    )
    return prepare(model, recipe, measure=measure)


def _tokenising(tracker: Tracker, split: str, done: int, total: int) -> None:
    tracker.progress(f"tokenising {split}", done, total)
