"""All that a run is made of, before anything is trained or written; built by `pipeline/build.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.batches import (
    Assembler,
    Batches,
    Loader,
    Plan,
    StreamLoader,
    TextEncoder,
    TokenRows,
)
from textune.config import Experiment, Labels
from textune.data import PreparedData, names_by_user
from textune.evaluation import Metric
from textune.model import Device, TextModel, TokenBudget
from textune.prediction import HeadCard, ModelCard, Predictor, own_sources
from textune.ranks import ALONE, Ranks
from textune.tasks import Task
from textune.training import Learner

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Ingredients:
    """All that a run is made of, before anything is trained or written."""

    experiment: Experiment
    data: PreparedData
    rows: dict[str, TokenRows]
    """The token rows of each split."""
    tokenizer: PreTrainedTokenizerBase
    encoder: TextEncoder
    task: Task
    model: TextModel
    device: Device
    metric: Metric
    plan: Plan
    """Its steps and epochs, and the rows of each step."""
    vocabulary: str
    """Which token embeddings are trained, in words."""
    budget: TokenBudget
    """Tokens computed at once while training."""
    ranks: Ranks = ALONE
    """The processes that share the run."""

    @property
    def num_truncated(self) -> dict[str, int]:
        """Rows of each split that lose tokens; a stream's are not known."""
        streamed = self.data.stream is not None
        return {name: rows.num_truncated for name, rows in self.rows.items() if not (streamed and name == "train")}

    @property
    def num_tokens(self) -> int:
        """Tokens that the whole run computes, about."""
        plan, lengths = self.plan, self.rows["train"].lengths
        if self.data.stream is not None:
            return int(lengths.mean() * plan.total_steps * plan.batch_size)
        return int(lengths[np.concatenate(self.first_epoch())].sum()) * plan.total_steps // plan.steps_per_epoch

    @property
    def card(self) -> ModelCard:
        """What is saved beside the model."""
        section, names = self.experiment.data.labels, self.data.label_map.names
        # Only where the user gave the names do integers of later data count into them.
        named = names_by_user(section)
        head = HeadCard(
            problem=self.data.label_map.problem,
            names=names,
            multi_hot=self.data.label_map.multi_hot,
            task=self.experiment.task,
        )
        return ModelCard(
            heads=(head,),
            max_length=self.experiment.tokens.longest,
            truncate=self.experiment.tokens.truncate,
            columns=self.experiment.data.columns,
            labels=Labels(names=names if named else (), delimiter=section.delimiter),
            sources=own_sources(self.experiment.data),
            precision=self.device.precision,
            compiled=self.experiment.model.compile != "off",
            max_tokens=self.experiment.evaluate.max_tokens,
            metric=self.metric.name,
            data=self.data.fingerprints,
        )

    def predictor(self, learner: Learner | None = None) -> Predictor:
        """The live model behind the one inference path; that of `learner`, where one trains it."""
        limit = self.experiment.evaluate.max_tokens
        return Predictor(
            self.model,
            self.tokenizer,
            self.task,
            self.card,
            device=self.device,
            max_tokens=limit,
            ranks=self.ranks,
            lockstep=learner is not None and learner.lockstep,
            outputs=None if learner is None else learner.outputs,
        )

    def first_epoch(self) -> list[np.ndarray]:
        """The optimizer batches of the first epoch: positions in the training rows."""
        rows = self.rows["train"]
        return self.plan.batches(0, rows.lengths, rows.weights)

    def loader(
        self, rows: TokenRows | None = None, *, learner: Learner | None = None, state: dict[str, Any] | None = None
    ) -> Batches:
        """Batches for `learner` from the first step on, or from where another loader was when its state was taken.

        They are of `rows`, by default the training rows, or of the stream where these are streamed.
        """
        assembler = Assembler(
            layout=self.model.layout,
            pad_id=self.model.pad_id,
            group_cost=self.model.group_cost(self.device.dtype),
            pin_memory=self.device.torch.type == "cuda",
            rank=self.ranks.rank,
            world=self.ranks.world,
            lockstep=learner is not None and learner.lockstep,
        )
        prefetch, budget = self.experiment.train.prefetch, self.budget.max_tokens
        if self.data.stream is None:
            return Loader(rows or self.rows["train"], self.plan, assembler, prefetch=prefetch, max_tokens=budget, state=state)
        return StreamLoader(
            self.data.stream,
            self.plan,
            assembler,
            self.encoder,
            prefetch=prefetch,
            drop_longer=self.experiment.tokens.drop_longer,
            max_tokens=budget,
            state=state,
        )
