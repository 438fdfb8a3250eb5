"""The one page that builds a run, in the order the data flows; shared by `train` and `check`.

device -> rows and model (buildtexts.py, builddocuments.py) -> the model's preparation -> Parts
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from textune.batches import (
    TokenRows,
    cache_folder,
    require_uncut,
)
from textune.config import (
    ConditionalLmTask,
    Decidable,
    Experiment,
    FoldOff,
    ModelSection,
    SplitOff,
    reported_sets,
    require_beside_few_bits,
    require_decidable,
    require_runnable,
    sets_at_each_evaluation,
)
from textune.data import GivenRows
from textune.evaluation import require_plots
from textune.model import (
    Adapting,
    Device,
    Prepared,
    Recipe,
    choose_budget,
    prepare,
    require_backbone,
    require_language_model,
    require_low_bits,
    starts_from_few_bits,
)
from textune.pipeline.builddocuments import lay_documents
from textune.pipeline.buildtexts import lay_texts
from textune.pipeline.cautions import (
    budget_notice,
    device_of,
    notices_before,
    rate_findings,
)
from textune.pipeline.continuing import differences, earlier_card
from textune.pipeline.groundwork import Building, Groundwork
from textune.prediction import ModelCard, card_of
from textune.ranks import ALONE, Ranks
from textune.run import Earlier, Parts, Settings, Tracker
from textune.tasks import with_known_weights
from textune.training import (
    computes_whole,
    is_sharded,
    require_learner,
    require_optimizer,
    sharing_kind,
    state_bytes,
)


def build_parts(
    experiment: Experiment,
    *,
    tracker: Tracker,
    audit: bool,
    ranks: Ranks = ALONE,
    earlier: Earlier | None = None,
    given: GivenRows = MappingProxyType({}),
    few: bool = False,
) -> Parts:
    """Build every part of a run; raises what any of them finds wrong and writes nothing but the token cache.

    `audit`: inspect the rows before anything slow, refuse what cannot be trained on and warn of likely mistakes. Of
    several `ranks`, the first on each machine reads and tokenises; the others find its work in the cache. `earlier`:
    what a resumed run knew when it stopped; its weights come from a checkpoint. `given`: rows in memory, by the names
    in the sources. `few`: the head reads what suits one that is fitted to few labels (`model/meanlayer.py`).
    """
    train = experiment.train
    require_runnable(experiment)
    device = device_of(train, ranks)
    _require_possible(experiment, device, ranks)

    building = Building(
        experiment, tracker, audit, ranks, earlier, given, before=earlier_card(experiment.model), few=few
    )
    ground = lay_documents(building) if isinstance(experiment.task, ConditionalLmTask) else lay_texts(building)
    _require_decidable(experiment, ground)
    require_learner(train, device, ranks, steps_per_epoch=ground.plan.steps_per_epoch)
    prepared = _prepared(building, ground, device)
    assert prepared.budget is not None, "it was measured"
    _require_uncut(experiment, ground.rows, max_tokens=prepared.budget.max_tokens)
    card = _card(experiment, ground, device)
    # A resumed run takes all weights from its checkpoint: nothing is new there.
    said = [*ground.notices, *(() if earlier else ground.model.notes)]
    said += differences(building.before, experiment.model, card, ground.tokenizer)
    said += budget_notice(train, prepared.budget) if earlier is None else []
    if audit or earlier is not None:  # else `check` says it among its findings
        said += [finding.message for finding in rate_findings(experiment.model, train, ground.model)]
    for notice in (*said, *notices_before(experiment.model, train, ground.model, ground.plan)):
        tracker.notice(notice)
    return Parts(
        settings=_settings(experiment),
        data=ground.data,
        rows=ground.rows,
        tokenizer=ground.tokenizer,
        encoder=ground.encoder,
        task=ground.task,
        metric=ground.metric,
        model=ground.model,
        device=device,
        vocabulary=prepared.vocabulary,
        budget=prepared.budget,
        plan=ground.plan,
        card=card,
        max_length_reason=ground.max_length_reason,
        maker=ground.maker,
        documents=ground.documents,
        findings=ground.findings,
        ranks=ranks,
    )


def _require_possible(experiment: Experiment, device: Device, ranks: Ranks) -> None:
    """Raise, before rows are read, what is wrong whatever they are: with packages, the machine, the backbone's
    files."""
    if experiment.evaluate.plots:
        require_plots("evaluate.plots")
    require_optimizer(experiment.train.optimizer)
    require_learner(experiment.train, device, ranks)
    if isinstance(experiment.model, ModelSection) and experiment.model.quantize is not None:
        require_low_bits(experiment.model.quantize, device)
    if isinstance(experiment.task, ConditionalLmTask):
        require_language_model(experiment.model)
    else:
        require_backbone(experiment.model, pooling=experiment.tokens.window_pooling)
    if starts_from_few_bits(experiment.model):
        require_beside_few_bits(experiment)


def _require_decidable(experiment: Experiment, ground: Groundwork) -> None:
    """Raise where the decision that is wanted cannot be fitted on these labels and validation rows."""
    maps = ground.task.label_maps
    choices = {name: Decidable(one.problem, len(one.names)) for name, one in maps.items()}
    require_decidable(experiment.decide, choices, len(ground.rows.get("validation", ())))


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
        experiment.decide,
        experiment.model.name,
        sets_at_each_evaluation(experiment),
        reported_sets(experiment),
        experiment.track,
        experiment.data.validation.group_by if isinstance(experiment.data.validation, SplitOff | FoldOff) else None,
    )


def _card(experiment: Experiment, ground: Groundwork, device: Device) -> ModelCard:
    """What is saved beside the model."""
    model = experiment.model
    return card_of(
        experiment.data,
        with_known_weights(experiment.task, ground.task),
        ground.tokens,
        ground.data,
        device,
        pair_separator=ground.pair_separator,
        compiled=isinstance(model, ModelSection) and model.compile != "off",
        max_tokens=experiment.evaluate.max_tokens,
        metric=ground.metric.name,
        model=model,
        documents=experiment.metadata,
    )


def _prepared(building: Building, ground: Groundwork, device: Device) -> Prepared:
    """The model made ready to train on these rows."""
    experiment, section, ranks, earlier = (
        building.experiment,
        building.experiment.train,
        building.ranks,
        building.earlier,
    )
    lora = experiment.model.lora if isinstance(experiment.model, ModelSection) else None
    quantize = experiment.model.quantize if isinstance(experiment.model, ModelSection) else None
    alone = sharing_kind(section, ranks) == "alone"
    train = ground.rows["train"]
    recipe = Recipe(
        device,
        "training",
        quantize=quantize,
        adapting=None if lora is None else Adapting(lora, section.seed),
        vocabulary=ground.vocabulary,
        table_folder=partial(cache_folder, experiment.tokens) if device.torch.type == "cpu" and alone else None,
        sharded=is_sharded(section.distributed),
        lengths=train.row_lengths,
        earlier_way=None if earlier is None else earlier.kernels,
        recompute=section.gradient_checkpointing,
        num_steps=ground.plan.total_steps,
        deterministic=section.deterministic,
    )
    measure = partial(
        choose_budget,
        device=device,
        train=train,
        configured=section.max_tokens,
        earlier=None if earlier is None else earlier.max_tokens,
        state_bytes=partial(state_bytes, section.optimizer),
        ranks=ranks,
    )
    return prepare(ground.model, recipe, measure=measure)
