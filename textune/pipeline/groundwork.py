"""What the build of a run starts from, and what it has before the model is prepared: the same for labelled texts
(`buildtexts.py`) and documents (`builddocuments.py`); between these and `build.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from textune.batches import Plan, RowMaker, TextEncoder, TokenRows
from textune.config import Experiment, TokensSection
from textune.data import Finding, GivenRows, PreparedData
from textune.evaluation import MainMetric
from textune.metadata import ChunkEncoder, DocumentEstimate
from textune.model import FullTable, Occurring, TextModel
from textune.prediction import ModelCard
from textune.ranks import Ranks
from textune.run import Earlier, Tracker
from textune.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Building:
    """What the build of a run is asked for."""

    experiment: Experiment
    tracker: Tracker
    audit: bool
    """Whether to refuse rows that cannot be trained on, and to warn of likely mistakes, before anything slow."""
    ranks: Ranks
    earlier: Earlier | None
    """What a resumed run knew when it stopped."""
    given: GivenRows
    before: ModelCard | None
    """The card of a model that the run starts from."""
    few: bool = False
    """Whether the head is to be fitted to what the backbone says, not trained."""

    def tokenising(self, split: str, done: int, total: int) -> None:
        """How far the rows of a split are on their way to tokens."""
        self.tracker.progress(f"tokenising {split}", done, total)


@dataclass(frozen=True)
class Groundwork:
    """Rows, and the model with the weights that it starts from."""

    data: PreparedData
    task: Task
    metric: MainMetric
    tokenizer: PreTrainedTokenizerBase
    model: TextModel
    tokens: TokensSection
    """With `max_length` as a number, and with what an earlier version put between the texts of pairs."""
    max_length_reason: str
    encoder: TextEncoder | ChunkEncoder
    rows: dict[str, TokenRows]
    """The token rows of every split; of training rows that are made on the way, some."""
    maker: RowMaker | None
    """What makes training rows block by block; None where all are there."""
    plan: Plan
    vocabulary: Occurring | FullTable
    """Which token embeddings are trained."""
    pair_separator: str = ""
    """What stands between the texts of pairs."""
    documents: DocumentEstimate | None = None
    """What a sample of the training documents became; None for labelled texts."""
    findings: tuple[Finding, ...] | None = None
    """What the audit of the rows found; None where it was not made."""
    notices: list[str] = field(default_factory=list)
    """About the data and what it becomes."""
