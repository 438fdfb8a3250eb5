"""The one way to scores: a model and rows of tokens in, batched scores out; the same code evaluates during training,
from a saved folder and in a service.

token store --sort by length, cut by tokens--> packed forward --> scores, in their order
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch

from textune.batches import Assembler, RowStore, Tokens, cut_by_tokens, require_uncut
from textune.errors import NO_MEMORY, ModelError
from textune.exitcodes import is_out_of_memory
from textune.model import (
    AdapterNote,
    CallerBudget,
    Device,
    TextModel,
    TokenModel,
    free_cached,
    merging_change,
)
from textune.prediction.card import ModelCard, read_card, write_card
from textune.ranks import ALONE, Ranks
from textune.tasks import USUAL, Decision, Task, nth_row, require_numbers, with_decision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SCORES_AT_ONCE = 1 << 23
"""Scores (rows x classes) computed at once: 64 MB for each of the few copies on the way to probabilities."""
NO_ROOM = "Shorten the texts (in a config: tokens.max_length), or use a machine with more memory."

Scores = dict[str, np.ndarray]
"""By head: float64 [N, K] probabilities, or [N] values for regression."""


class ScoredBatch(NamedTuple):
    """Rows that were scored together."""

    positions: np.ndarray
    """int64 [n] which of the chosen rows these are."""
    scores: Scores
    """float64 [n, K] probabilities, or [n] values for regression, by head."""
    losses: dict[str, np.ndarray] | None = None
    """The task's own loss of each row, float32 [n] by head, where targets were given."""
    outputs: np.ndarray | None = None
    """float64 [n, C] the logits of all heads, where they were asked for."""


class Scorer:
    """Scores rows of tokens with one model, and saves it."""

    def __init__(
        self,
        model: TokenModel,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        card: ModelCard,
        *,
        device: Device,
        max_tokens: int,
        ranks: Ranks = ALONE,
        lockstep: bool = False,
        on_notice: Callable[[str], None] = lambda _: None,
        outputs: Callable[[Tokens], torch.Tensor] | None = None,
    ) -> None:
        """`ranks` share the work; what scores rows must then be called by all of them, for the same rows.

        `max_tokens` and `on_notice` are the budget of each call that brings none of its own. `lockstep`: every rank
        must make as many forward passes as the others, since each pass gathers weights from all of them. `outputs`
        computes a batch where that is not the model's own call: a learner's, which gathers its weights.
        """
        self.model: Final = model
        self._outputs: Final = outputs or model
        self.tokenizer: Final = tokenizer
        self.task: Final = task
        self.card: Final = card
        self.device: Final = device
        self.max_tokens: Final = max_tokens
        self.ranks: Final = ranks
        self.lockstep: Final = lockstep
        self.on_notice: Final = on_notice

    @property
    def text_model(self) -> TextModel:
        """The model, where it is one of PyTorch; ModelError for an export, which only predicts."""
        if not isinstance(self.model, TextModel):
            raise ModelError(
                "the model is an export, which only predicts: it cannot be saved again.",
                hint="Use the run or the model folder that it was made of.",
                reason="an export",
            )
        return self.model

    def budget(self, on_notice: Callable[[str], None] | None = None) -> CallerBudget:
        """A budget for one caller, who keeps it over several calls: what one finds out about memory, the next one
        knows."""
        return CallerBudget(self.max_tokens, on_notice or self.on_notice)

    def with_decisions(self, decisions: Mapping[str, Decision]) -> Scorer:
        """The same model with these rules by head, and the usual one for the others."""
        card = self.card.with_decisions(decisions)
        return Scorer(
            self.model,
            self.tokenizer,
            Task(tuple(with_decision(head, decisions.get(head.name, USUAL)) for head in self.task.heads)),
            card,
            device=self.device,
            max_tokens=self.max_tokens,
            ranks=self.ranks,
            lockstep=self.lockstep,
            on_notice=self.on_notice,
            outputs=self._outputs,
        )

    def score_batches(
        self,
        store: RowStore,
        indices: np.ndarray | None = None,
        *,
        place: Callable[[int], str] = nth_row,
        budget: CallerBudget | None = None,
        targets: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None,
        outputs: bool = False,
    ) -> Iterator[ScoredBatch]:
        """Score the chosen rows, all of them without `indices`; each row once, in batches of similar length.

        Of several ranks each yields its own batches, which together are those of a process alone; all must come to the
        end. Nothing is kept between batches, so whoever needs little of the scores needs little memory. `budget`: the
        caller's own, halved where memory runs out; without it, a new one. `targets` of rows, by their positions: their
        losses are computed as well. `outputs`: logits are given, too. ModelError where a score is not a number, whose
        row `place` names by its position: this is the one place that all scores come from.
        """
        budget = budget or self.budget()
        chosen = np.arange(store.num_examples) if indices is None else indices
        lengths = store.example_lengths(chosen)
        assembler = self._assembler()
        # Memory may have run out on some ranks only: all cut alike, or rows would be scored twice and others never.
        budget.max_tokens = -self.ranks.all_max([-budget.max_tokens])[0]
        if self.lockstep and assembler.windows:
            require_uncut(int(lengths.max(initial=0)), budget.max_tokens, key="evaluate.max_tokens")
        batches = self._cut(np.arange(len(chosen)), lengths, budget.max_tokens)
        # In turns: sizes descend, so no rank gets more than about one batch more than another.
        to_do = batches[self.ranks.rank :: self.ranks.world]
        num_idle = -(-len(batches) // self.ranks.world) - len(to_do) if self.lockstep else 0
        to_do = [*to_do, *batches[-1:] * num_idle][::-1]
        while to_do:
            positions = to_do.pop()
            batch = assembler.tokens(store, chosen[positions], budget.max_tokens)
            try:
                scored = self._score_batch(
                    positions, batch, None if targets is None else targets(positions), outputs=outputs
                )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            else:
                for of_head in scored.scores.values():
                    require_numbers(of_head, positions, num_rows=len(chosen), place=place)
                if len(to_do) >= num_idle:
                    yield scored
                continue
            if self.lockstep and not self.ranks.alone:
                raise _refuse_halving(batch.num_laid_out, budget.max_tokens)
            free_cached(self.device.torch)
            budget.halve(batch, doing="predicting", hint=NO_ROOM)
            to_do = self._cut(np.concatenate([*to_do, positions]), lengths, budget.max_tokens)[::-1]

    def _assembler(self) -> Assembler:
        """Lays examples out as this model wants them."""
        model = self.model
        cost = model.group_cost(self.device.dtype)
        return Assembler(
            model.layout, model.pad_id, group_cost=cost, padding=model.padding, windows=model.pooling is not None
        )

    def _cut(self, positions: np.ndarray, lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
        """These rows in batches, the longest first: if they do not fit into memory, that shows at once."""
        # Many classes bound the rows at once as well, however short these are.
        max_rows = max(1, MAX_SCORES_AT_ONCE // self.task.num_outputs)
        alike = cut_by_tokens(self.model.padding.widths(lengths[positions]), max_tokens, layout=self.model.layout)
        return [
            positions[cut[max(0, stop - max_rows) : stop]]
            for cut in reversed(alike)
            for stop in range(len(cut), 0, -max_rows)
        ]

    def _score_batch(
        self, positions: np.ndarray, batch: Tokens, targets: Mapping[str, np.ndarray] | None, *, outputs: bool
    ) -> ScoredBatch:
        """Scores and, with targets, losses of a batch, in the order of its rows; it leaves nothing behind, so that it
        can be tried again."""
        # A model that was loaded is in this mode already: several threads may predict at once.
        was_training = self.model.training
        if was_training:
            self.model.eval()
        try:
            # Weights that are gathered for a pass are used again in training: tensors of inference could not be.
            with torch.no_grad() if self.lockstep else torch.inference_mode():
                with self.device.autocast():
                    logits_BC = self._outputs(batch.to(self.device.torch))
                by_head = self.task.scores(logits_BC.double())
                scores = {name: of_head.cpu().numpy() for name, of_head in by_head.items()}
                losses = None if targets is None else self._losses(logits_BC, targets)
                logits = logits_BC.double().cpu().numpy() if outputs else None
                return ScoredBatch(positions, scores, losses, logits)
        finally:
            if was_training:
                self.model.train()

    def _losses(self, logits_BC: torch.Tensor, targets: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The losses in float32, as training computes them."""
        on_device = {
            name: torch.from_numpy(np.ascontiguousarray(values)).to(logits_BC.device)
            for name, values in targets.items()
        }
        losses = self.task.row_losses(logits_BC.float(), on_device)
        return {name: losses_B.cpu().numpy() for name, losses_B in losses.items()}

    def score_store(
        self,
        store: RowStore,
        indices: np.ndarray | None = None,
        *,
        place: Callable[[int], str] = nth_row,
        budget: CallerBudget | None = None,
    ) -> Scores:
        """Scores of the chosen rows in their given order.

        Of several ranks each scores its share, and each gets the scores of all rows. `place`, `budget`: as in
        `score_batches`.
        """
        num_rows = store.num_examples if indices is None else len(indices)
        scores = {
            head.name: np.zeros(head.answers.score_shape(num_rows), dtype=np.float64) for head in self.task.heads
        }
        for batch in self.score_batches(store, indices, place=place, budget=budget):
            for name, of_head in batch.scores.items():
                scores[name][batch.positions] = of_head
        return {name: self.ranks.merge_shares(of_head) for name, of_head in scores.items()}

    def save(
        self,
        folder: Path,
        weights: dict[str, torch.Tensor] | None = None,
        *,
        step: int | None = None,
        value: float | None = None,
        max_tokens: int | None = None,
        merge: bool | None = None,
    ) -> None:
        """Write a plain Hugging Face folder, or an adapter folder, plus `textune.json`; `folder` must exist.

        `weights`: the state of the Hugging Face model where the model itself holds only parts of it. `step` and
        `value` of the main metric are noted in the card, and `max_tokens` where evaluation ran out of memory with that
        of the config: whoever loads the model need not find that out again. `merge`: as of `TextModel.save`.
        """
        model = self.text_model
        model.save(folder, weights, merge=merge)
        adapters = model.adapter_note(folder, merge)
        self.save_card(folder, step=step, value=value, max_tokens=max_tokens, adapters=adapters)
        if adapters is None and (change := merging_change(model, self.device)) is not None:
            write_card(read_card(folder).model_copy(update={"merge_change": change}), folder)

    def save_card(
        self,
        folder: Path,
        *,
        step: int | None = None,
        value: float | None = None,
        max_tokens: int | None = None,
        adapters: AdapterNote | None = None,
    ) -> None:
        """Write what stands beside the weights: the tokenizer and `textune.json`; numbers as in `save`."""
        # So that plain transformers cuts where textune does (head_tail is textune's own).
        self.tokenizer.model_max_length = self.card.max_length
        self.tokenizer.truncation_side = "left" if self.card.truncate == "tail" else "right"
        self.tokenizer.save_pretrained(folder)
        changed = {"max_tokens": max_tokens or self.max_tokens, "step": step, "value": value, "adapters": adapters}
        write_card(self.card.model_copy(update=changed), folder)


def _refuse_halving(num_tokens: int, max_tokens: int) -> ModelError:
    return ModelError(
        f"out of memory while predicting {num_tokens:,} tokens at once, and ranks that share one model's weights"
        f" cannot each"
        " continue in smaller parts.",
        hint=f"Lower evaluate.max_tokens = {max_tokens}.",
        exit_code=NO_MEMORY,
    )
