"""Everything that a run is made of, before anything is trained or written; built by `pipeline/build.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textune.batches import Assembler, Batches, Loader, Plan, RowMaker, StreamLoader, TextEncoder, TokenRows
from textune.config import DecideSection, EvaluateSection, Track, TrainSection
from textune.data import Finding, PreparedData
from textune.evaluation import MainMetric
from textune.metadata import ChunkEncoder, DocumentEstimate
from textune.model import Device, TextModel, TokenBudget
from textune.prediction import ModelCard, Scorer
from textune.ranks import ALONE, Ranks
from textune.run.manifest import FewLabels
from textune.tasks import Task
from textune.training import Learner

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Settings:
    """What a session takes from the configuration: the sections that are its own, and names."""

    train: TrainSection
    evaluate: EvaluateSection
    decide: DecideSection | None
    backbone: str
    """`model.pretrained`."""
    evaluated: tuple[str, ...]
    """The sets that are evaluated while training, first the one that chooses the best model."""
    reported: tuple[str, ...]
    """The sets that the run reports on at its end."""
    track: tuple[Track, ...] = ()
    """Trackers that the run is sent to."""
    grouped_by: str | None = None
    """The column whose equal cells stay together where validation rows are parted; None: each row by itself."""


@dataclass(frozen=True)
class Parts:
    """The parts of a run; plain data."""

    settings: Settings
    data: PreparedData
    rows: dict[str, TokenRows]
    """The token rows of each split."""
    tokenizer: PreTrainedTokenizerBase
    encoder: TextEncoder | ChunkEncoder
    task: Task
    metric: MainMetric
    model: TextModel
    device: Device
    vocabulary: str
    """Which token embeddings are trained, in words."""
    budget: TokenBudget
    """Tokens computed at once while training."""
    plan: Plan
    """Its steps and epochs, and the rows of each step."""
    card: ModelCard
    """What is saved beside the model."""
    max_length_reason: str
    """How the longest row in tokens was chosen, in words."""
    maker: RowMaker | None = None
    """What makes training rows block by block; `rows["train"]` are then the first ones. None where all are there."""
    documents: DocumentEstimate | None = None
    """What a sample of the training documents of a language model became; None for labelled texts."""
    findings: tuple[Finding, ...] | None = None
    """What the audit of the rows found; None where it was not made."""
    few: FewLabels | None = None
    """What became of `task.few`; None where it is "off"."""
    ranks: Ranks = ALONE
    """The processes that share the run."""


def num_truncated(parts: Parts, *, sampled: bool = False) -> dict[str, int]:
    """Rows of each split that lose tokens; chunks of documents never do. Those of training rows that are made on the
    way are not known, `sampled`: of their sample."""
    if parts.documents is not None:
        return {}
    known = (name for name in parts.rows if name != "train" or parts.maker is None or sampled)
    return {name: parts.rows[name].num_truncated for name in known}


def scorer_of(parts: Parts, learner: Learner | None = None) -> Scorer:
    """The live model behind the one inference path; that of `learner`, where one trains it."""
    return Scorer(
        parts.model,
        parts.tokenizer,
        parts.task,
        parts.card,
        device=parts.device,
        max_tokens=parts.settings.evaluate.max_tokens,
        ranks=parts.ranks,
        lockstep=learner is not None and learner.lockstep,
        outputs=None if learner is None else learner.outputs,
    )


def batches_of(
    parts: Parts,
    rows: TokenRows | None = None,
    *,
    learner: Learner | None = None,
    state: Mapping[str, object] | None = None,
) -> Batches:
    """Batches for `learner` from the first step on, or from where another loader was when its state was taken.

    They are of `rows`, by default the training rows; where these are made block by block, of those.
    """
    assembler = Assembler(
        layout=parts.model.layout,
        pad_id=parts.model.pad_id,
        group_cost=parts.model.group_cost(parts.device.dtype),
        padding=parts.model.padding,
        windows=parts.model.pooling is not None,
        pin_memory=parts.device.torch.type == "cuda",
        rank=parts.ranks.rank,
        world=parts.ranks.world,
        lockstep=learner is not None and learner.lockstep,
    )
    prefetch, budget = parts.settings.train.prefetch, parts.budget.max_tokens
    if parts.maker is None:
        chosen = parts.rows["train"] if rows is None else rows
        return Loader(chosen, parts.plan, assembler, prefetch=prefetch, max_tokens=budget, state=state)
    return StreamLoader(parts.maker, parts.plan, assembler, prefetch=prefetch, max_tokens=budget, state=state)
