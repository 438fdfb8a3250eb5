"""The one inference path: a live model or a saved folder in, batched predictions out; after `train`, before `evaluate`.

texts --TextEncoder--> token store --sort by length, cut by tokens--> packed forward --> scores, in the order of the texts
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError

from textune.config.schema import (
    AutoTask,
    BinaryTask,
    Columns,
    Labels,
    ModelSection,
    MulticlassTask,
    MultilabelTask,
    RegressionTask,
    Section,
    Task,
    TokensSection,
)
from textune.data.batches import cut_by_tokens
from textune.data.labels import LabelMap
from textune.data.loader import collate
from textune.data.tokens import TextEncoder, TokenStore
from textune.errors import DataError, ModelError, RunError
from textune.model.backbone import TextModel, load_model, load_tokenizer
from textune.model.device import Device, Precision, resolve_device
from textune.rundir import complete_model
from textune.tasks import SupervisedTask, build_task
from textune.tasks.decision import decide

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CARD_NAME = "textune.json"
WINDOW_ROWS = 8192
"""Rows that a stream holds at once: enough to sort by length, little enough to stay in memory."""


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
    task: Task
    """The task's own section."""
    max_length: int
    """Longest row in tokens."""
    truncate: Literal["head", "tail", "head_tail", "error"]
    """Which part of a longer text is kept."""
    columns: Columns
    """Where text was found in the training data."""
    labels: Labels
    """How labels were read; names that were given are here, whatever file they came from."""
    precision: Precision
    """Arithmetic of the run's own evaluation."""
    max_tokens: int = 16384
    """Most tokens computed at once in the run's own evaluation."""
    metric: str = "auto"
    """The run's main metric."""
    data: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the data, by split."""

    @property
    def label_map(self) -> LabelMap:
        """The labels and what they are."""
        return LabelMap(self.problem, self.names, self.multi_hot)


@dataclass(frozen=True)
class Prediction:
    """The model's word on one text."""

    label: str | tuple[str, ...] | float
    """Label name; all names above the threshold for multilabel; the value for regression."""
    score: float
    """Probability of the label (multilabel: of the most probable one); the value for regression."""
    scores: dict[str, float]
    """Every label's probability."""


class Predictor:
    """Scores texts with one model; the same code evaluates during training, from a saved folder and in a service."""

    def __init__(
        self,
        model: TextModel,
        tokenizer: PreTrainedTokenizerBase,
        task: SupervisedTask,
        card: ModelCard,
        *,
        device: Device,
        max_tokens: int,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.task = task
        self.card = card
        self.device = device
        self.max_tokens = max_tokens
        self.encoder = TextEncoder(tokenizer, TokensSection(max_length=card.max_length, truncate=card.truncate))

    def score_store(
        self, store: TokenStore, indices: np.ndarray | None = None, *, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Scores of the chosen rows in their given order: float64 [N, K] probabilities, or [N] values for regression.

        `progress` is told the number of rows done.
        """
        chosen = np.arange(len(store)) if indices is None else indices
        lengths = store.offsets[chosen + 1] - store.offsets[chosen]
        regression = self.card.problem == "regression"
        scores = np.empty(len(chosen) if regression else (len(chosen), len(self.card.names)), dtype=np.float64)
        done = 0
        self.model.speed_up(int(lengths.sum()), training=False)
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                # The longest first: if memory does not suffice, that shows at once.
                for positions in reversed(cut_by_tokens(lengths, self.max_tokens, layout=self.model.layout)):
                    batch = collate(
                        store,
                        chosen[positions],
                        layout=self.model.layout,
                        pad_id=self.model.pad_id,
                        max_tokens=self.max_tokens,
                    )
                    with self.device.autocast():
                        logits_BC = self.model(batch.to(self.device.torch))
                    scores[positions] = self.task.scores(logits_BC.double()).cpu().numpy()
                    done += len(positions)
                    if progress is not None:
                        progress(done)
        finally:
            self.model.train(was_training)
        return scores

    def score(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, place: Callable[[int], str] | None = None
    ) -> np.ndarray:
        """Scores of texts (or text pairs): float64 [N, K] probabilities, or [N] values for regression.

        `place` names a text for messages, by its index. Raises TypeError or ValueError for what is no list of texts (of equal
        length), DataError for texts where the model takes pairs or the other way round, and for one that is too long with
        `tokens.truncate = "error"`.
        """
        _require_texts("texts", texts)
        if pairs is not None:
            _require_texts("pairs", pairs)
            if len(pairs) != len(texts):
                raise ValueError(f"{len(texts)} texts, but {len(pairs)} pairs: each text needs its own second text")
        second = self.card.columns.text_pair
        if second is not None and pairs is None:
            raise DataError(
                f"the model was trained on pairs of texts (second column: {second!r}), but there is only one text a row.",
                hint="Give the second texts too.",
            )
        if second is None and pairs is not None:
            raise DataError(
                "the model was trained on single texts, but there are two texts a row.", hint="Leave the second texts out."
            )
        return self.score_store(self.encoder.encode(texts, pairs, place=place or "texts[{}]".format))

    def predict(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, place: Callable[[int], str] | None = None
    ) -> list[Prediction]:
        """Predict texts, or text pairs, in order; `place` and errors as in `score`."""
        return self.name_scores(self.score(texts, pairs, place=place))

    def name_scores(self, scores: np.ndarray) -> list[Prediction]:
        """Put label names to scores."""
        names = self.card.names
        if self.card.problem == "regression":
            return [Prediction(float(value), float(value), {names[0]: float(value)}) for value in scores]
        decisions = decide(scores, self.card.problem)
        predictions = []
        for decision, row in zip(decisions, scores.tolist(), strict=True):
            by_name = dict(zip(names, row, strict=True))
            if self.card.problem == "multilabel":
                label: str | tuple[str, ...] = tuple(names[i] for i in np.flatnonzero(decision))
                predictions.append(Prediction(label, max(row), by_name))
            else:
                predictions.append(Prediction(names[decision], row[decision], by_name))
        return predictions

    def save(self, folder: Path) -> None:
        """Write a plain Hugging Face folder plus `textune.json`; `folder` must exist."""
        self.model.save(folder)
        # So that plain transformers cuts where textune does (head_tail is textune's own).
        self.tokenizer.model_max_length = self.card.max_length
        self.tokenizer.truncation_side = "left" if self.card.truncate == "tail" else "right"
        self.tokenizer.save_pretrained(folder)
        (folder / CARD_NAME).write_text(self.card.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load(
    folder: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    max_tokens: int | None = None,
) -> Predictor:
    """Open a run folder (its best model) or a model folder that textune saved.

    `precision = "auto"` is the one of the model's own run, or fp32 where this machine lacks it; `max_tokens`, the most tokens
    computed at once, is by default that of the run. Raises RunError where the folder is no such thing, ModelError where its
    files are broken or the machine lacks the device or precision.
    """
    folder = find_model(folder)
    card = read_card(folder)
    try:
        chosen = resolve_device(device, card.precision if precision == "auto" else precision, key="--")
    except ModelError:
        if precision != "auto":
            raise
        chosen = resolve_device(device, "fp32", key="--")
    section = ModelSection(pretrained=str(folder))
    tokenizer = load_tokenizer(section)
    task = build_task(_without_class_weights(card.task), card.label_map)
    model = load_model(section, tokenizer, label_map=card.label_map, num_logits=task.num_logits, seed=0)
    model.to(chosen.torch)
    return Predictor(
        model, tokenizer, task, card, device=chosen, max_tokens=max(max_tokens or card.max_tokens, card.max_length)
    )


def find_model(folder: str | Path) -> Path:
    """The model folder behind a run folder or a model folder; RunError says what is there instead."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        reason = "is a file" if folder.is_file() else "does not exist"
        raise RunError(
            f"{folder} {reason}; a run folder was expected.", hint="Give the folder that `textune train` wrote, such as runs/x."
        )
    for candidate in (folder, complete_model(folder)):
        if candidate is not None and (candidate / CARD_NAME).is_file():
            return candidate
    if (folder / "manifest.json").is_file():
        raise RunError(
            f"{folder} is a run that has not saved a model yet.", hint="Wait for its first evaluation, or train it again."
        )
    raise RunError(
        f"{folder} is not a run folder: it holds neither {CARD_NAME} nor best/{CARD_NAME}.",
        hint="Give the folder that `textune train` wrote, such as runs/x.",
    )


def read_card(folder: Path) -> ModelCard:
    """Read `textune.json` of a model folder; RunError where it is broken or of a later version."""
    path = folder / CARD_NAME
    try:
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
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


def _require_texts(name: str, texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError(f"{name} is one text; a list of texts is needed, such as [text]")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{index}] is {text!r:.40}, not a text (str)")


def _without_class_weights(section: AutoTask | BinaryTask | MulticlassTask | MultilabelTask | RegressionTask) -> Any:
    """Class weights belong to training: `balanced` ones cannot be known again without the training rows."""
    return section if isinstance(section, RegressionTask) else section.model_copy(update={"class_weights": "none"})
