"""Further training of a model that an earlier run saved: what its `textune.json` says of labels and inputs.

Used by `build.py`. `model/labelhead.py` carries the weights and the head over; class weights and the rest of the
earlier task are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from textune.config import BinaryTask, Model, RegressionTask, Task, format_value
from textune.data import choices_of
from textune.model import CARD_NAME, checkpoint_labels, find_pretrained, load_tokenizer
from textune.prediction import ModelCard, read_card

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def earlier_card(section: Model) -> ModelCard | None:
    """The card of the model that `model.pretrained` names; None where textune did not save it. RunError for a damaged
    card."""
    if not section.pretrained:
        return None
    folder = find_pretrained(section.pretrained, section, key="model.pretrained").folder
    return read_card(folder) if folder is not None and (folder / CARD_NAME).is_file() else None


def known_labels(section: Model, card: ModelCard | None) -> tuple[str, ...] | None:
    """Label names of the earlier model in the order of its ids; None for a backbone without labels."""
    names = checkpoint_labels(section) if section.pretrained else None
    # One output for two classes is named after the second; the card has both.
    return card.names if card is not None and names == card.names[1:] else names


def differences(
    card: ModelCard | None, model: Model, here: ModelCard, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """Notices: which folder is used, and how the earlier model was trained differently from this one (`here`)."""
    columns, task = here.columns, here.task
    notices: list[str] = []
    if not model.pretrained:
        return notices
    folder = find_pretrained(model.pretrained, model, key="model.pretrained").folder
    if folder is not None and folder != Path(model.pretrained).expanduser():
        notices.append(f"model.pretrained = {model.pretrained} is a run; its best model is used: {folder}")
    if card is None:
        return notices
    found = []
    for name in ("max_length", "truncate", "long", "stride", "pooling", "max_windows"):
        before, now = (
            "not set" if (value := getattr(of_card, name)) is None else format_value(value) for of_card in (card, here)
        )
        if before != now:
            found.append(f"tokens.{name} = {before} (here {now})")
    if card.pair_separator != here.pair_separator:
        found.append(
            f"tokens.pair_separator = {format_value(card.pair_separator)} (here {format_value(here.pair_separator)})"
        )
    if (before_texts := _prefix(card)) != (now := _prefix(here)):
        found.append(f"{before_texts} before each text (here {now})")
    if (card.columns.text_pair is None) != (columns.text_pair is None):
        found.append(
            "single texts (here pairs)" if card.columns.text_pair is None else "pairs of texts (here single ones)"
        )
    if (
        not choices_of(card.label_maps)
        and not choices_of(here.label_maps)
        and _activation(card.task) != _activation(task)
    ):
        found.append(f'task.activation = "{_activation(card.task)}" (here "{_activation(task)}")')
    others = [name for name in here.names if name != card.names[-1]]
    if _one_logit(card.task) and _one_logit(task) and len(others) == 1 and others[0] != card.names[0]:
        found.append(f"one output that tells {card.names[1]} from {card.names[0]} (here from {others[0]})")
    if model.tokenizer is not None:
        own = load_tokenizer(model.model_copy(update={"tokenizer": None}))
        if own.get_vocab() != tokenizer.get_vocab():
            found.append(f"another tokenizer (here that of {model.tokenizer})")
    return [*notices, f"{model.pretrained} was trained with {', '.join(found)}"] if found else notices


def _prefix(card: ModelCard) -> str:
    """What stands before each text, as a row looks; `nothing` without columns."""
    prefix = card.metadata
    if prefix is None:
        return "nothing"
    fields = (f"{name}{prefix.key_value_separator}..." for name in prefix.columns)
    return format_value(prefix.separator.join(fields) + prefix.prefix_separator)


def _one_logit(task: Task) -> bool:
    return isinstance(task, BinaryTask) and task.num_logits == 1


def _activation(task: Task) -> str:
    return (task if isinstance(task, RegressionTask) else RegressionTask()).activation
