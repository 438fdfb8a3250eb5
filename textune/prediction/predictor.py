"""The one inference path: a live model or a saved folder in, batched predictions out; after `train`, before `evaluate`.

texts --TextEncoder--> token store --sort by length, cut by tokens--> packed forward --> scores, in the order of the texts
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationError

from textune.batches import TextEncoder, TokenBatch, TokenStore, collate, cut_by_tokens
from textune.config import (
    AutoTask,
    BinaryTask,
    Columns,
    FilesSource,
    Labels,
    ModelSection,
    MulticlassTask,
    MultilabelTask,
    RegressionTask,
    Section,
    TokensSection,
    require_count,
    require_words,
    user_path,
)
from textune.config import Task as TaskSection
from textune.data import LabelMap, given_texts
from textune.errors import DataError, ModelError, RunError
from textune.jsontext import parse_json
from textune.model import (
    Device,
    Precision,
    TextModel,
    complete_model,
    free_cached,
    halved,
    hint_for_no_run,
    is_out_of_memory,
    load_model,
    load_tokenizer,
    prefers_bf16,
    quantize_linears,
    require_int8,
    resolve_device,
)
from textune.ranks import ALONE, Ranks
from textune.tasks import Task, build_task, decide, nth_row, require_numbers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CARD_NAME = "textune.json"
WINDOW_ROWS = 8192
"""Rows that a stream holds at once: enough to sort by length, little enough to stay in memory."""
MAX_SCORES_AT_ONCE = 1 << 23
"""Scores (rows x classes) computed at once: 64 MB for each of the few copies on the way to probabilities."""
NO_ROOM = "Shorten the texts (in a config: tokens.max_length), or use a machine with more memory."


class ModelCard(Section):
    """`textune.json`: what a saved model needs beyond its Hugging Face files to predict as it did in its run."""

    version: int = 1
    """Version of this file's form."""
    problem: Literal["binary", "multiclass", "multilabel", "regression"]
    """What is predicted."""
    names: tuple[str, ...]
    """Label names in the order of their ids."""
    multi_hot: bool | None = None
    """Multilabel: whether lists in the data are multi-hot rows."""
    task: TaskSection
    """The task's own section."""
    max_length: int = Field(ge=2)
    """Longest row in tokens."""
    truncate: Literal["head", "tail", "head_tail", "error"]
    """Which part of a longer text is kept."""
    columns: Columns
    """Where text was found in the training data."""
    labels: Labels
    """How labels were read; names that were given are here, whatever file they came from."""
    sources: dict[str, FilesSource] = Field(default_factory=dict)
    """How the run's own files were read, by their suffix, where that is not the usual way."""
    precision: Precision
    """Arithmetic of the run's own evaluation."""
    compiled: bool = False
    """Whether the run could use compiled kernels: figures that should be the same again need the same arithmetic."""
    max_tokens: int = Field(default=16384, ge=1)
    """Most tokens computed at once in the run's own evaluation."""
    metric: str = "auto"
    """The run's main metric."""
    data: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the data, by split."""
    step: int | None = None
    """Optimizer steps that made this model."""
    value: float | None = None
    """The main metric on the validation rows; None where there was no evaluation."""

    @property
    def label_map(self) -> LabelMap:
        """The labels and what they are."""
        return LabelMap(self.problem, self.names, self.multi_hot)


class Prediction(NamedTuple):
    """The model's word on one text."""

    label: str | tuple[str, ...] | float
    """Label name; all names above the threshold for multilabel; the value for regression."""
    score: float
    """Probability of the label (multilabel: of the most probable one); the value for regression."""
    scores: dict[str, float]
    """Every label's probability."""


class ScoredBatch(NamedTuple):
    """Rows that were scored together."""

    positions: np.ndarray
    """int64 [n] which of the chosen rows these are."""
    scores: np.ndarray
    """float64 [n, K] probabilities, or [n] values for regression."""


class Predictor:
    """Scores texts with one model; the same code evaluates during training, from a saved folder and in a service."""

    def __init__(
        self,
        model: TextModel,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        card: ModelCard,
        *,
        device: Device,
        max_tokens: int,
        ranks: Ranks = ALONE,
        lockstep: bool = False,
        outputs: Callable[[TokenBatch], torch.Tensor] | None = None,
    ) -> None:
        """`ranks` share the work; what scores rows must then be called by all of them, for the same rows.

        `lockstep`: every rank must make as many forward passes as the others, since each pass gathers weights from all of them.
        `outputs` computes a batch where that is not the model's own call: a learner's, which gathers its weights.
        """
        self.model = model
        self._outputs = outputs or model
        self.tokenizer = tokenizer
        self.task = task
        self.card = card
        self.device = device
        self.max_tokens = max_tokens
        self.ranks = ranks
        self.lockstep = lockstep
        self.encoder = TextEncoder(tokenizer, TokensSection(max_length=card.max_length, truncate=card.truncate))
        self.on_notice: Callable[[str], None] = lambda _: None
        """Told when memory ran out and `max_tokens` was halved."""

    def score_batches(
        self, store: TokenStore, indices: np.ndarray | None = None, *, place: Callable[[int], str] = nth_row
    ) -> Iterator[ScoredBatch]:
        """Score the chosen rows, all of them without `indices`; each row once, in batches of similar length.

        Of several ranks each yields its own batches, which together are those of a process alone; all must come to the end.
        Nothing is kept between batches, so whoever needs little of the scores needs little memory. ModelError where a score is
        no number, whose row `place` names by its position: this is the one place that all scores come from.
        """
        chosen = np.arange(len(store)) if indices is None else indices
        lengths = store.offsets[chosen + 1] - store.offsets[chosen]
        layout, pad_id = self.model.layout, self.model.pad_id
        cost = self.model.group_cost(self.device.dtype)
        # Memory may have run out on some ranks only: all cut alike, or rows would be scored twice and others never.
        self.max_tokens = -self.ranks.all_max([-self.max_tokens])[0]
        batches = self._cut(np.arange(len(chosen)), lengths)
        # In turns: sizes descend, so no rank gets more than about one batch more than another.
        to_do = batches[self.ranks.rank :: self.ranks.world]
        num_idle = -(-len(batches) // self.ranks.world) - len(to_do) if self.lockstep else 0
        to_do = [*to_do, *batches[-1:] * num_idle][::-1]
        while to_do:
            positions = to_do.pop()
            batch = collate(store, chosen[positions], layout=layout, pad_id=pad_id, max_tokens=self.max_tokens, group_cost=cost)
            try:
                scores = self._score_batch(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            else:
                require_numbers(scores, positions, num_rows=len(chosen), place=place)
                if len(to_do) >= num_idle:
                    yield ScoredBatch(positions, scores)
                continue
            if self.lockstep and not self.ranks.alone:
                raise ModelError(
                    f"memory does not suffice for predicting {batch.num_laid_out:,} tokens at once, and ranks that share one"
                    " model's weights cannot each continue in smaller parts.",
                    hint=f"Lower evaluate.max_tokens = {self.max_tokens}.",
                )
            free_cached(self.device.torch)
            self.max_tokens = halved(batch.num_laid_out, longest=int(batch.row_lengths[-1]), hint=NO_ROOM)
            self.on_notice(f"out of memory while predicting: computing {self.max_tokens:,} tokens at once from here on")
            left = np.concatenate([*to_do, positions])
            to_do = self._cut(left, lengths)[::-1]

    def _cut(self, positions: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """These rows in batches, the longest first: if memory does not suffice, that shows at once."""
        # Many classes bound the rows at once as well, however short these are.
        max_rows = max(1, MAX_SCORES_AT_ONCE // self.task.num_outputs)
        alike = cut_by_tokens(lengths[positions], self.max_tokens, layout=self.model.layout)
        return [
            positions[cut[max(0, stop - max_rows) : stop]] for cut in reversed(alike) for stop in range(len(cut), 0, -max_rows)
        ]

    def _score_batch(self, batch: TokenBatch) -> np.ndarray:
        """Scores of a batch, in the order of its rows; it leaves nothing behind, so that it can be tried again."""
        # A model that was loaded is in this mode already: several threads may predict at once.
        was_training = self.model.training
        if was_training:
            self.model.eval()
        try:
            # Weights that are gathered for a pass are used again in training: tensors of inference could not be.
            with torch.no_grad() if self.lockstep else torch.inference_mode():
                with self.device.autocast():
                    logits_BC = self._outputs(batch.to(self.device.torch))
                scores: np.ndarray = self.task.scores(logits_BC.double())[self.task.head.name].cpu().numpy()
                return scores
        finally:
            if was_training:
                self.model.train()

    def score_store(
        self, store: TokenStore, indices: np.ndarray | None = None, *, place: Callable[[int], str] = nth_row
    ) -> np.ndarray:
        """Scores of the chosen rows in their given order: float64 [N, K] probabilities, or [N] values for regression.

        Of several ranks each scores its share, and each gets the scores of all rows. `place` as in `score_batches`.
        """
        num_rows = len(store) if indices is None else len(indices)
        regression = self.card.problem == "regression"
        scores = np.zeros(num_rows if regression else (num_rows, len(self.card.names)), dtype=np.float64)
        for positions, values in self.score_batches(store, indices, place=place):
            scores[positions] = values
        return self.ranks.merge_shares(scores)

    def encode(self, texts: Any, pairs: Any = None, *, place: Callable[[int], str] | None = None) -> TokenStore:
        """Tokens of texts (or text pairs), for `score_store`.

        `texts`: a list of texts or anything like it (a generator, a column of a table), or a table or list of dictionaries with
        the columns that the model was trained on. `place` names a text for messages, by its index. Raises InputError for what
        is no list of texts, DataError for texts where the model takes pairs or the other way round, and for one that is too
        long with `tokens.truncate = "error"`.
        """
        given = given_texts(texts, pairs, self.card.columns)
        second = self.card.columns.text_pair
        if second is not None and given.pairs is None:
            raise DataError(
                f"the model was trained on pairs of texts (second column: {second!r}), but there is only one text per row.",
                hint="Give the second texts too.",
            )
        if second is None and given.pairs is not None:
            raise DataError(
                "the model was trained on single texts, but there are two texts per row.", hint="Leave the second texts out."
            )
        return self.encoder.encode(given.texts, given.pairs, place=place or given.place)

    def score(self, texts: Any, pairs: Any = None, *, place: Callable[[int], str] | None = None) -> np.ndarray:
        """Scores of texts (or text pairs): float64 [N, K] probabilities, or [N] values for regression; errors as `encode`."""
        return self.score_store(self.encode(texts, pairs, place=place))

    def predict(self, texts: Any, pairs: Any = None, *, place: Callable[[int], str] | None = None) -> list[Prediction]:
        """Predict texts, or text pairs, in order; what they may be and errors as in `encode`."""
        return self.name_scores(self.score(texts, pairs, place=place))

    def name_scores(self, scores: np.ndarray) -> list[Prediction]:
        """Put label names to scores."""
        names, (labels, best_N) = self.card.names, label_rows(scores, self.card)
        rows = scores.reshape(len(scores), len(names)).tolist()
        return [
            Prediction(label, best, dict(zip(names, row, strict=True)))
            for label, best, row in zip(labels, best_N.tolist(), rows, strict=True)
        ]

    def save(
        self,
        folder: Path,
        weights: dict[str, torch.Tensor] | None = None,
        *,
        step: int | None = None,
        value: float | None = None,
    ) -> None:
        """Write a plain Hugging Face folder plus `textune.json`; `folder` must exist.

        `weights`: the state of the Hugging Face model where the model itself holds only parts of it. `step` and `value` of the
        main metric are noted in the card.
        """
        self.model.save(folder, weights)
        self.save_card(folder, step=step, value=value)

    def save_card(self, folder: Path, *, step: int | None = None, value: float | None = None) -> None:
        """Write what stands beside the weights: the tokenizer and `textune.json`."""
        # So that plain transformers cuts where textune does (head_tail is textune's own).
        self.tokenizer.model_max_length = self.card.max_length
        self.tokenizer.truncation_side = "left" if self.card.truncate == "tail" else "right"
        self.tokenizer.save_pretrained(folder)
        # Halved if memory ran out: whoever loads the model need not find that out again.
        card = self.card.model_copy(update={"max_tokens": self.max_tokens, "step": step, "value": value})
        (folder / CARD_NAME).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def label_rows(scores: np.ndarray, card: ModelCard) -> tuple[list[Any], np.ndarray]:
    """Label and score of each row, as in `Prediction`: a list [N] and float64 [N]."""
    if card.problem == "regression":
        return scores.tolist(), scores
    names, chosen = card.names, decide(scores, card.problem)
    if card.problem != "multilabel":
        return [names[index] for index in chosen.tolist()], scores[np.arange(len(scores)), chosen]
    row_K, index_K = np.nonzero(chosen)
    named = [names[index] for index in index_K.tolist()]
    stops = np.searchsorted(row_K, np.arange(len(scores) + 1)).tolist()
    return [tuple(named[start:stop]) for start, stop in pairwise(stops)], scores.max(axis=1)


def load(
    folder: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto",
    max_tokens: int | None = None,
    compile: Literal["auto", "on", "off"] = "auto",
    ranks: Ranks = ALONE,
    on_notice: Callable[[str], None] = warnings.warn,
) -> Predictor:
    """Open a run folder (its best model) or a model folder that textune saved.

    `precision = "auto"` is the one of the model's own run, or fp32 where this machine lacks it or is slower with it; `"int8"`
    gives the backbone's linear layers int8 weights, on the processor; `max_tokens`, the most tokens computed at once, is by
    default that of the run.
    `compile = "auto"` computes with compiled kernels where the run could and they are faster here. Raises RunError where the
    folder is no such thing, ModelError where its files are broken or the machine lacks the device or precision.
    `ranks`: processes that each open it and share the work. `on_notice` is told where another precision is used, where the
    model takes shorter texts than its card says, and what happens while it predicts.
    """
    require_words(load, device=device, precision=precision, compile=compile)
    require_count("max_tokens", max_tokens)
    folder = find_model(folder)
    card = read_card(folder)
    if precision == "int8":
        require_int8(device)
        chosen = resolve_device("cpu", "fp32")
    else:
        chosen = _device_of(card, device, precision, on_notice)
    section = ModelSection(pretrained=str(folder), compile=compile)
    tokenizer = load_tokenizer(section)
    task = build_task(_without_class_weights(card.task), card.label_map)
    model = load_model(section, tokenizer, label_map=card.label_map, num_logits=task.num_outputs, seed=0, as_saved=True)
    model.to(chosen.torch)
    if precision == "int8":
        quantize_linears(model)
        model.speed_up(torch.int8, training=False)
    elif card.compiled or compile == "on":
        model.speed_up(chosen.dtype, training=False)
    model.eval()
    card = _within_positions(card, model, folder, on_notice)
    limit = max(max_tokens or card.max_tokens, card.max_length)
    predictor = Predictor(model, tokenizer, task, card, device=chosen, max_tokens=limit, ranks=ranks)
    predictor.on_notice = on_notice
    return predictor


def _within_positions(card: ModelCard, model: TextModel, folder: Path, on_notice: Callable[[str], None]) -> ModelCard:
    """The card with a `max_length` that the backbone has positions for: earlier versions did not compare the two."""
    limit = model.max_positions
    if limit is None or card.max_length <= limit:
        return card
    on_notice(
        f"{folder / CARD_NAME} says max_length = {card.max_length}, but the backbone has positions for {limit} tokens:"
        f" rows are cut at {limit}"
    )
    return card.model_copy(update={"max_length": limit})


def _device_of(
    card: ModelCard,
    device: Literal["auto", "cpu", "cuda"],
    precision: Literal["auto", "fp32", "bf16", "fp16"],
    on_notice: Callable[[str], None],
) -> Device:
    if precision != "auto":
        return resolve_device(device, precision, key="--")
    exact = resolve_device(device, "fp32", key="--")
    try:
        chosen = resolve_device(device, card.precision, key="--")
        why = "computes slower" if chosen.precision == "bf16" and not prefers_bf16(chosen.torch) else ""
    except ModelError:
        chosen, why = exact, "lacks"
    if not why:
        return chosen
    on_notice(f"the run computed in {card.precision}, which this {exact.torch.type} device {why}: fp32 is used instead")
    return exact


def find_model(folder: str | Path) -> Path:
    """The model folder behind a run folder or a model folder; RunError says what is there instead."""
    folder = user_path(folder)
    if not folder.is_dir():
        reason = "is a file" if folder.is_file() else "does not exist"
        raise RunError(
            f"{folder} {reason}; a run folder was expected.", hint="Give the folder that `textune train` wrote, such as runs/x."
        )
    for candidate in (folder, complete_model(folder)):
        if candidate is not None and (candidate / CARD_NAME).is_file():
            return candidate
    if (folder / "state.json").is_file():
        raise RunError(
            f"{folder} is a checkpoint, the state of a run, and no model.",
            hint=f"Make a model of it: `textune export {folder} --out FOLDER`.",
        )
    if (folder / "manifest.json").is_file():
        raise RunError(
            f"{folder} is a run that has not saved a model yet.",
            hint=f"Train on with --resume, or make a model of its newest checkpoint: `textune export {folder} --out FOLDER`.",
        )
    raise RunError(
        f"{folder} is not a run folder: it holds neither {CARD_NAME} nor best/{CARD_NAME}.", hint=hint_for_no_run(folder)
    )


def read_card(folder: Path) -> ModelCard:
    """Read `textune.json` of a model folder; RunError where it is broken or of a later version."""
    path = folder / CARD_NAME
    try:
        tree: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("not a JSON object")
        if tree.get("version", 1) != 1:
            raise RunError(f"{path} was written by a later version of textune.", hint="Upgrade textune to read it.")
        return ModelCard.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise RunError(f"{path} is damaged: {reason}.", hint="Train again, or restore the file from a copy.") from error
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{path} is damaged: {reason}.", hint="Train again, or restore the file from a copy.") from error


def _without_class_weights(section: AutoTask | BinaryTask | MulticlassTask | MultilabelTask | RegressionTask) -> Any:
    """Class weights belong to training: `balanced` ones cannot be known again without the training rows."""
    return section if isinstance(section, RegressionTask) else section.model_copy(update={"class_weights": "none"})
