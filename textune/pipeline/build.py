"""Builds every part of a run in the order the data flows; the first half of the pipeline, shared by `train` and `check`.

data -> metric -> task -> tokens -> model
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textune.batches import (
    Plan,
    TextEncoder,
    TokenRows,
    TokenStore,
    open_store,
    require_drawable,
)
from textune.config import Experiment, TrainSection, reported_sets, require_runnable
from textune.data import LABEL, PreparedData, Split, audit_data, prepare_data
from textune.errors import ConfigError, DataError
from textune.evaluation import resolve_metric
from textune.model import (
    Device,
    FullTable,
    Occurring,
    Recipe,
    TextModel,
    TokenBudget,
    available_bytes,
    load_model,
    load_tokenizer,
    measure_budget,
    prepare,
    require_backbone,
    resolve_device,
)
from textune.pipeline.cautions import fit_length, rate_warning, require_as_launched, require_separator, tokenizer_notice
from textune.pipeline.continuing import differences, earlier_card, known_labels
from textune.prediction import ModelCard
from textune.ranks import ALONE, Ranks
from textune.run import Ingredients, Tracker
from textune.tasks import build_task
from textune.training import STATE_BYTES, is_sharded, require_learner, require_optimizer

if TYPE_CHECKING:
    pass


def gather(
    experiment: Experiment,
    *,
    tracker: Tracker,
    audit: bool,
    ranks: Ranks = ALONE,
    bound: int | None = None,
    way: str | None = None,
    resumed: bool = False,
) -> Ingredients:
    """Build every part of a run in flow order; raises what any of them finds wrong and writes nothing but the token cache.

    `audit`: look through the rows before anything slow, refuse what cannot train and say what is usually a mistake. Of several
    `ranks` the first on each machine reads and tokenises, the others find its work in the cache. `bound`: the tokens computed
    at once that a run had found out before it stopped, `way`: the kernels that it had computed with. `resumed`: its weights
    come from a checkpoint.
    """
    require_runnable(experiment)
    device = resolve_device(experiment.train.device, experiment.train.precision, section="train")
    if ranks.broadcast(device.precision) != device.precision:
        raise ConfigError(
            f"rank {ranks.rank} would compute in {device.precision}, unlike rank 0.",
            hint="Set train.precision for all of them.",
        )
    require_as_launched(experiment.train, device)
    require_optimizer(experiment.train.optimizer)
    require_learner(experiment.train, device, ranks)
    require_backbone(experiment.model)
    card = earlier_card(experiment.model)
    known_names = known_labels(experiment.model, card)
    with ranks.local_first():
        data = prepare_data(experiment.data, kind=experiment.task.kind, known_names=known_names)
    _require_weights(experiment, data)
    if audit:
        _audit(data, tracker)
    task = build_task(experiment.task, data.label_map, targets=data.train.chosen_targets[LABEL])
    metric = resolve_metric(experiment.evaluate.metric, task.head.answers)
    if data.validation is None and experiment.train.early_stopping.patience:
        raise ConfigError(
            "train.early_stopping.patience is set, but there are no validation rows to judge by.",
            hint='Set data.validation, such as { kind = "split", ratio = 0.1 }, or remove early_stopping.',
        )
    tokenizer = load_tokenizer(experiment.model)
    model = load_model(
        experiment.model, tokenizer, label_map=data.label_map, num_logits=task.num_outputs, seed=experiment.train.seed
    )
    name = experiment.model.pretrained
    tokens, said = fit_length(experiment.tokens, model, name=name)
    experiment = experiment.model_copy(update={"tokens": tokens})
    if card is None:  # a tokenizer that textune saved states the length of the earlier run, which `differences` names
        said += tokenizer_notice(tokens, tokenizer, name=name)
    encoder = TextEncoder(tokenizer, tokens)
    if not resumed:
        require_separator(experiment.data.columns, encoder, name=name)
    num_rows = len(data.train)
    with ranks.local_first():
        data, stores = _tokenize(experiment, data, encoder, tracker)
    _require_weights(experiment, data)
    if len(data.train) < num_rows:  # balanced weights are those of the rows that are left
        task = build_task(experiment.task, data.label_map, targets=data.train.chosen_targets[LABEL])
    rows = {
        name: TokenRows.of_examples(stores[id(split.examples)], split.indices, split.targets, split.examples.weight)
        for name, split in data.splits.items()
    }
    plan = Plan.of(experiment.train, data.num_rows["train"])
    require_learner(experiment.train, device, ranks, steps_per_epoch=plan.steps_per_epoch)
    _require_room(experiment, data, rows)
    recipe = Recipe(
        device,
        "training",
        vocabulary=_vocabulary(experiment.train, stores.values(), streamed=data.stream is not None),
        sharded=is_sharded(experiment.train.distributed),
        lengths=rows["train"].lengths,
        earlier_way=way,
        recompute=experiment.train.gradient_checkpointing,
        num_steps=plan.total_steps,
    )
    measure = partial(_budget, experiment.train, device=device, train=rows["train"], ranks=ranks, earlier=bound)
    prepared = prepare(model, recipe, measure=measure)
    assert prepared.budget is not None, "it was measured"
    ingredients = Ingredients(
        experiment,
        data,
        rows,
        tokenizer,
        encoder,
        task,
        model,
        device,
        metric,
        plan,
        prepared.vocabulary,
        prepared.budget,
        ranks,
    )
    # A run that goes on takes all weights from its checkpoint: nothing starts new there.
    for notice in (*data.notices, *said, *(() if resumed else model.notes), *_warnings(ingredients, card)):
        tracker.notice(notice)
    return ingredients


def _audit(data: PreparedData, tracker: Tracker) -> None:
    findings = audit_data(data)
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise DataError(" ".join(errors), hint="`textune check` shows the rows.")
    for finding in findings:
        if finding.level == "warning":
            tracker.notice(f"{finding.message} (`textune check` shows the rows)")


def _warnings(parts: Ingredients, earlier: ModelCard | None) -> list[str]:
    """What a person should know before the first step; `earlier` is the card of the model that training goes on from."""
    experiment, warnings = parts.experiment, []
    warnings += differences(earlier, experiment, parts.tokenizer, parts.data.label_map)
    warnings += rate_warning(experiment.train, parts.model)
    warmup, total = experiment.train.schedule.warmup, parts.plan.total_steps
    if parts.plan.steps(warmup) >= total > 1:
        warnings.append(
            f"train.schedule.warmup = {warmup} is no shorter than the run of {total} steps: the learning rate never"
            " reaches its peak"
        )
    if experiment.model.trust_remote_code:
        warnings.append(f"model.trust_remote_code is on: Python code that comes with {experiment.model.pretrained} runs here")
    return warnings


def _tokenize(
    experiment: Experiment, data: PreparedData, encoder: TextEncoder, tracker: Tracker
) -> tuple[PreparedData, dict[int, TokenStore]]:
    """Token stores by source (`id` of its examples), and the data without rows that `tokens.drop_longer` leaves out."""
    stores: dict[int, TokenStore] = {}
    said: list[str] = []  # each split says the same
    for split in data.splits.values():
        examples = split.examples
        if id(examples) not in stores:
            stores[id(examples)] = open_store(
                examples.text,
                examples.text_pair,
                encoder,
                experiment.tokens,
                place=examples.place,
                progress=lambda done, total, name=split.name: tracker.progress(f"tokenising {name}", done, total),  # type: ignore[misc]
                notice=said.append,
            )
    for message in dict.fromkeys(said):
        tracker.notice(message)
    limit = experiment.tokens.drop_longer
    if limit is None:
        return data, stores

    def shortened(split: Split) -> Split:
        shorter = split.only(stores[id(split.examples)].shorter_examples(limit))
        if len(shorter) == 0:
            raise DataError(f"tokens.drop_longer = {limit} leaves no {split.name} rows.", hint="Raise it.")
        if len(shorter) < len(split):
            tracker.notice(
                f"{len(split) - len(shorter)} of {len(split)} {split.name} rows left out: longer than {limit} tokens."
            )
        return shorter

    return data.map_splits(shortened), stores


def _require_weights(experiment: Experiment, data: PreparedData) -> None:
    """DataError where rows are to be drawn by weight and none of those that are trained has any."""
    if experiment.train.order == "weighted":
        weights = data.train.examples.weight
        require_drawable(None if weights is None else weights[data.train.indices])


def _require_room(experiment: Experiment, data: PreparedData, rows: dict[str, TokenRows]) -> None:
    """ConfigError where one row alone exceeds `max_tokens`: it could never be computed within the bound."""
    for key, limit, names in (
        ("train.max_tokens", experiment.train.max_tokens, ("train",)),
        ("evaluate.max_tokens", experiment.evaluate.max_tokens, reported_sets(experiment)),
    ):
        if limit == "auto":
            continue
        for name in names:
            if name in rows and (longest := int(rows[name].lengths.max())) > limit:
                example = rows[name].examples[rows[name].lengths.argmax()]
                place = data.splits[name].examples.place(int(example))
                raise ConfigError(
                    f"{key} = {limit} is smaller than the longest {name} row: {place} has {longest} tokens.",
                    hint=f"Use {key} = {longest} or more, or lower tokens.max_length.",
                )


def _vocabulary(section: TrainSection, stores: Iterable[TokenStore], *, streamed: bool) -> Occurring | FullTable:
    if streamed:
        return FullTable("which tokens occur in a stream is not known in advance")
    return Occurring((store.ids for store in stores), mode=section.compact_vocabulary, optimizer=section.optimizer.kind)


def _budget(
    section: TrainSection, model: TextModel, *, device: Device, train: TokenRows, ranks: Ranks, earlier: int | None
) -> TokenBudget:
    """The tokens computed at once: as configured, as before the run stopped, or as many as the memory left holds."""
    if earlier is not None:
        return TokenBudget(earlier, "as before the run stopped")
    if section.max_tokens != "auto":
        return TokenBudget(section.max_tokens, "train.max_tokens")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    to_come = trained * (4 + STATE_BYTES[section.optimizer.kind])
    available = available_bytes(device.torch)
    if device.torch.type == "cpu":  # its memory is that of all ranks on it
        available //= ranks.local_world
    found = measure_budget(model, device, store=train.store, indices=train.rows, to_come=to_come, available=available)
    # All ranks cut by the smallest budget, so that a run is the same whichever of them is asked.
    return replace(found, max_tokens=-ranks.all_max([-found.max_tokens])[0])
