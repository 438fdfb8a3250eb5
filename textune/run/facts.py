"""The facts of a run as values, known before its first step: what is trained on what, how, and what that takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from textune.data import choices_of, problem_of
from textune.metadata import DocumentEstimate
from textune.run.parts import Parts, num_truncated
from textune.training import held_weights, learning_rate, state_bytes, trained_in

if TYPE_CHECKING:
    from pydantic import JsonValue


@dataclass(frozen=True)
class Facts:
    """Everything that the header of a run, its manifest, `check` and trackers tell; None where nobody knows."""

    problem: str
    labels: list[str]
    """Names in the order of their ids; empty for regression."""
    rows: dict[str, int | None]
    """By split; None for a stream of unknown length."""
    rows_left_out: dict[str, int]
    rows_truncated: int
    shards: int | None
    """Files of a stream; None where the training rows are not streamed."""
    rows_sampled: int | None
    """The first rows of a stream, which its figures about tokens describe."""
    max_length: int
    """Longest row in tokens that the model reads."""
    max_length_reason: str
    tokens_per_epoch: int | None
    tokens_mean: float
    tokens_median: int
    tokens_longest: int
    prefix: list[str]
    """Columns that are written before each text (`data.metadata`)."""
    prefix_tokens: float
    """Tokens before each training text in the mean, where it has all its fields."""
    stride: int
    """Tokens that a window of a text shares with the one before."""
    pooling: str | None
    """How windows are pooled; None where every text is one row."""
    windows: dict[int, int]
    """How many training rows have how many windows."""
    tokens_beyond: int
    """Tokens of the training rows that cutting each at `max_length` would lose."""
    documents: DocumentEstimate | None
    """What a sample of the training documents of a language model became, whose rows are chunks; None for labelled
    texts."""
    padding_by_batch: float
    """Share of what is computed that would be padding, if each batch were padded to its longest row."""
    padding_to_max_length: float
    """The same if every row were padded to `max_length`."""
    backbone: str
    model_type: str
    parameters: int
    parameters_trained: int
    adapter_rank: int | None
    """`model.lora.r`; None where no adapters are trained."""
    adapted_layers: int
    weight_bits: int | None
    """Bits of the weights beneath adapters (`model.quantize`); None where they are fp32."""
    vocabulary: str
    """Which token embeddings are trained, in words."""
    layout: str
    layout_reason: str
    kernels: str
    """What computes the layers, in words."""
    engine: str
    """`train.engine`."""
    device: str
    device_name: str
    precision: str
    processes: int
    sharing: str
    """`train.distributed.kind`."""
    max_tokens: int
    """Tokens computed at once."""
    max_tokens_reason: str
    gradient_checkpointing: bool
    batch_size: int
    steps: int
    steps_per_epoch: int
    duration: str
    """`train.duration`, as it was set."""
    schedule: str
    warmup_steps: int
    rates: dict[int, float]
    """The learning rate of the steps at which its course changes, the first of which is 1."""
    checkpoint_bytes: int
    checkpoint_every: int | None
    """Steps between two checkpoints; None where only the end of the run is saved."""
    checkpoint_keep: int | Literal["all"]
    checkpoint_keep_best: int
    checkpoint_only_model: bool
    disk_bytes: int
    """What the run folder may take, while a checkpoint and a better model are being written."""
    metric: str
    """Name of the main metric."""
    evaluated: list[str]
    """The sets that are evaluated while training."""
    best_by: str | None
    """The one that chooses the best model; None where the last step does."""
    soup_seeds: int | None = None
    """Runs like this one that are joined into its model; None where it is trained itself."""

    def to_dict(self) -> dict[str, JsonValue]:
        """As JSON holds it."""
        tree: dict[str, JsonValue] = asdict(self)
        rates: dict[str, JsonValue] = {str(step): rate for step, rate in self.rates.items()}
        windows: dict[str, JsonValue] = {str(number): rows for number, rows in self.windows.items()}
        documents = None if self.documents is None else self.documents.to_dict()
        return tree | {"rates": rates, "windows": windows, "documents": documents}


def run_facts(parts: Parts) -> Facts:
    """The facts of a run whose parts are built."""
    section, maker, documents = parts.settings.train, parts.maker, parts.documents
    train, limit = parts.rows["train"], parts.card.max_length
    batches = parts.plan.batches(0, train.lengths, train.weights)
    adapters = parts.model.adapters
    return Facts(
        problem=problem_of(parts.data.label_maps),
        labels=list(choices_of(parts.data.label_maps)),
        rows=parts.data.num_rows,
        rows_left_out=parts.data.num_left_out,
        rows_truncated=sum(num_truncated(parts, sampled=True).values()),
        shards=None if (stream := parts.data.stream) is None else len(stream.shards),
        rows_sampled=None if maker is None or documents is not None else len(train),
        max_length=limit,
        max_length_reason=parts.max_length_reason,
        tokens_per_epoch=_tokens_per_epoch(parts, batches),
        tokens_mean=round(float(train.lengths.mean()), 2),
        tokens_median=int(np.median(train.lengths)),
        tokens_longest=int(train.lengths.max()),
        prefix=[] if (prefix := parts.card.metadata) is None else list(prefix.columns),
        prefix_tokens=round(float(lead.mean()), 2) if len(lead := train.prefix_lengths) else 0.0,
        stride=parts.card.stride,
        pooling=parts.card.window_pooling,
        windows=train.by_windows,
        tokens_beyond=0 if documents is not None else train.num_beyond(limit),
        documents=documents,
        padding_by_batch=round(float(train.padding_waste(batches)), 4),
        padding_to_max_length=round(float(train.padding_waste(batches, pad_to=limit)), 4),
        backbone=parts.settings.backbone,
        model_type=parts.model.hf.config.model_type,
        parameters=parts.model.num_parameters,
        parameters_trained=sum(p.numel() for p in parts.model.parameters() if p.requires_grad),
        adapter_rank=None if adapters is None else adapters.lora.r,
        adapted_layers=0 if adapters is None else len(adapters.layers),
        weight_bits=None if (low_bits := parts.model.low_bits) is None else low_bits.bits,
        vocabulary=parts.vocabulary,
        layout=parts.model.layout,
        layout_reason=parts.model.reason,
        kernels=parts.model.accelerator.note,
        engine=section.engine,
        device=parts.device.torch.type,
        device_name=str(parts.device),
        precision=parts.device.precision,
        processes=parts.ranks.world,
        sharing=section.distributed.kind,
        max_tokens=parts.budget.max_tokens,
        max_tokens_reason=parts.budget.reason,
        gradient_checkpointing=section.gradient_checkpointing,
        batch_size=section.batch_size,
        steps=parts.plan.total_steps,
        steps_per_epoch=parts.plan.steps_per_epoch,
        duration=str(section.duration),
        schedule=section.schedule.kind,
        warmup_steps=parts.plan.steps(section.schedule.warmup),
        rates=_rates(parts),
        **_on_disk(parts),
        metric=parts.metric.name,
        evaluated=[name for name in parts.settings.evaluated if name in parts.rows],
        best_by=parts.settings.evaluate.best_by if parts.settings.evaluate.best_by in parts.rows else None,
        soup_seeds=None if section.soup is None else section.soup.seeds,
    )


def _tokens_per_epoch(parts: Parts, batches: list[np.ndarray]) -> int | None:
    """Of documents about, by a sample; None where nobody knows. `batches`: those of the first epoch."""
    if parts.documents is not None:
        return parts.documents.tokens_per_epoch
    return None if parts.maker is not None else int(parts.rows["train"].lengths[np.concatenate(batches)].sum())


def _rates(parts: Parts) -> dict[int, float]:
    """The learning rate where its course changes, as every rank and every kind of learner sets it."""
    section, total = parts.settings.train, parts.plan.total_steps
    warmup = parts.plan.steps(section.schedule.warmup)
    return {
        step + 1: learning_rate(
            step, schedule=section.schedule, peak=section.optimizer.lr, warmup_steps=warmup, total_steps=total
        )
        for step in sorted({0, min(warmup, total - 1), total - 1} if total else {})
    }


class _OnDisk(TypedDict):
    """Those of `Facts` about what the run saves."""

    checkpoint_bytes: int
    checkpoint_every: int | None
    checkpoint_keep: int | Literal["all"]
    checkpoint_keep_best: int
    checkpoint_only_model: bool
    disk_bytes: int


def _on_disk(parts: Parts) -> _OnDisk:
    section, size = parts.settings.train.checkpoint, _checkpoint_bytes(parts)
    return {
        "checkpoint_bytes": size,
        "checkpoint_every": None if section.every == "never" else max(1, parts.plan.steps(section.every)),
        "checkpoint_keep": section.keep,
        "checkpoint_keep_best": section.keep_best,
        "checkpoint_only_model": section.save_only_model,
        "disk_bytes": _disk_bytes(parts, size),
    }


def _checkpoint_bytes(parts: Parts) -> int:
    """About how large a checkpoint is: the weights that it holds, and the optimizer's moments of those that are
    trained."""
    section = parts.settings.train
    if section.checkpoint.save_only_model:
        return _model_bytes(parts)
    return _held_bytes(parts) + state_bytes(section.optimizer, trained_in(parts.model))


def _held_bytes(parts: Parts) -> int:
    return sum(tensor.nbytes for tensor in held_weights(parts.model).values())


def _model_bytes(parts: Parts) -> int:
    """About how large a saved model is: whole in fp32, or what is trained and the head."""
    return _held_bytes(parts) if parts.model.saves_adapters() else 4 * parts.model.num_parameters


def _disk_bytes(parts: Parts, checkpoint_bytes: int) -> int:
    section = parts.settings.train.checkpoint
    kept = (1 if section.keep == "all" else section.keep) + section.keep_best + len(section.at_steps)
    # Besides: the one that is being written, the best model and the one that replaces it.
    return (kept + 1) * checkpoint_bytes + 2 * _model_bytes(parts)
