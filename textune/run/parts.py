"""All that a run is made of, before anything is trained or written; built by `pipeline/build.py`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from textune.batches import (
    Batches,
    Loader,
    StreamLoader,
    TextEncoder,
    TokenStore,
    TrainingRows,
    num_steps_per_epoch,
    plan_epoch,
)
from textune.config import Experiment, Labels, StreamSource
from textune.data import Part, PreparedData, names_by_user
from textune.evaluation import Metric
from textune.model import Device, TextModel, TokenBudget
from textune.prediction import ModelCard, Predictor, own_sources
from textune.ranks import ALONE, Ranks
from textune.tasks import Task
from textune.training import Learner

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Tokenized:
    """A part and the token store of its source."""

    part: Part
    store: TokenStore

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N] tokens of the part's rows, after truncation."""
        return np.asarray(self.store.offsets[self.part.indices + 1] - self.store.offsets[self.part.indices])

    @property
    def num_truncated(self) -> int:
        """Rows that lost tokens."""
        return int((self.store.raw_lengths[self.part.indices] > self.lengths).sum())


@dataclass(frozen=True)
class Ingredients:
    """All that a run is made of, before anything is trained or written."""

    experiment: Experiment
    data: PreparedData
    parts: dict[str, Tokenized]
    tokenizer: PreTrainedTokenizerBase
    encoder: TextEncoder
    task: Task
    model: TextModel
    device: Device
    metric: Metric
    vocabulary: str
    """Which token embeddings are trained, in words."""
    budget: TokenBudget
    """Tokens computed at once while training."""
    ranks: Ranks = ALONE
    """The processes that share the run."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that see every training row once; of a stream of unknown length, those of the whole run."""
        return steps_in_epoch(self.experiment, self.parts["train"])

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.experiment.train.duration.steps(self.steps_per_epoch)

    @property
    def num_rows(self) -> dict[str, int | None]:
        """Rows of each part; None where a stream's are not known."""
        rows: dict[str, int | None] = {name: len(tokenized.part) for name, tokenized in self.parts.items()}
        return rows | ({"train": self.data.stream.section.num_rows} if self.data.stream is not None else {})

    @property
    def num_truncated(self) -> dict[str, int]:
        """Rows of each part that lose tokens; nobody knows of a stream's."""
        known = {name: tokenized.num_truncated for name, tokenized in self.parts.items()}
        return {name: num for name, num in known.items() if name != "train" or self.data.stream is None}

    @property
    def num_tokens(self) -> int:
        """Tokens that the whole run computes, about."""
        if self.data.stream is not None:
            return _num_trained_tokens(self.experiment, self.parts["train"])
        lengths = self.parts["train"].lengths[np.concatenate(self.first_epoch())]
        return int(lengths.sum()) * self.total_steps // self.steps_per_epoch

    @property
    def card(self) -> ModelCard:
        """What is saved beside the model."""
        section, names = self.experiment.data.labels, self.data.label_map.names
        # Only where the user gave the names do integers of later data count into them.
        named = names_by_user(section)
        return ModelCard(
            problem=self.data.label_map.problem,
            names=names,
            multi_hot=self.data.label_map.multi_hot,
            task=self.experiment.task,
            max_length=self.experiment.tokens.longest,
            truncate=self.experiment.tokens.truncate,
            columns=self.experiment.data.columns,
            labels=Labels(names=names if named else (), delimiter=section.delimiter),
            sources=own_sources(self.experiment.data),
            precision=self.device.precision,
            compiled=self.experiment.model.compile != "off",
            max_tokens=self.experiment.evaluate.max_tokens,
            metric=self.metric.name,
            data={part.name: part.fingerprint for part in self.data.parts},
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

    def training_rows(self) -> TrainingRows:
        """What the loader reads."""
        part = self.parts["train"].part
        weights = part.examples.weight
        return TrainingRows(
            store=self.parts["train"].store,
            indices=part.indices,
            targets=part.chosen_targets,
            weights=None if weights is None else weights[part.indices],
        )

    def first_epoch(self) -> list[np.ndarray]:
        """The optimizer batches of the first epoch: positions in the training rows."""
        section, rows = self.experiment.train, self.training_rows()
        return plan_epoch(
            rows.lengths,
            batch_size=section.batch_size,
            order=section.order,
            seed=section.seed,
            epoch=0,
            weights_N=rows.weights,
        )

    def loader(self, rows: TrainingRows, *, learner: Learner | None = None, state: dict[str, Any] | None = None) -> Batches:
        """Batches for `learner` from the first step on, or from where another loader was when its state was taken.

        Those of a stream where the training rows are streamed: `rows` are its first ones only.
        """
        build = partial(
            Loader,
            section=self.experiment.train,
            layout=self.model.layout,
            pad_id=self.model.pad_id,
            max_tokens=self.budget.max_tokens,
            rank=self.ranks.rank,
            world=self.ranks.world,
            lockstep=learner is not None and learner.lockstep,
            group_cost=self.model.group_cost(self.device.dtype),
            pin_memory=self.device.torch.type == "cuda",
        )
        if self.data.stream is None:
            return build(rows, first_step=0 if state is None else state["next_step"])
        return StreamLoader(
            self.data.stream,
            self.experiment.train,
            self.encoder,
            build,
            drop_longer=self.experiment.tokens.drop_longer,
            max_tokens=self.budget.max_tokens,
            state=state,
        )


def steps_in_epoch(experiment: Experiment, train: Tokenized) -> int:
    section, source, num_rows = experiment.train, experiment.data.train, len(train.part)
    if isinstance(source, StreamSource):
        if source.num_rows is None:  # all durations are in steps
            return section.duration.steps(0)
        num_rows = source.num_rows
    return num_steps_per_epoch(num_rows, section.batch_size)


def num_steps(experiment: Experiment, train: Tokenized) -> int:
    return experiment.train.duration.steps(steps_in_epoch(experiment, train))


def _num_trained_tokens(experiment: Experiment, train: Tokenized) -> int:
    """Real tokens of all steps of the run, about."""
    return int(train.lengths.mean() * num_steps(experiment, train) * experiment.train.batch_size)
