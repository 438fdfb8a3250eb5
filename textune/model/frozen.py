"""The weights of a model that stay as the backbone's files have them: no checkpoint holds these, and one hash knows
them; after `content.py`, below `backbone.py`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch
from torch import nn

from textune.model.adapters import plain_name
from textune.model.content import joint_hash, weight_hash, weight_hashes

_OF_HF = "hf."
"""Begins the names of the weights of the Hugging Face model in a `TextModel`."""


class FrozenWeights:
    """The weights of a `TextModel` that are not trained and are as the backbone's files have them: all frozen ones but
    the head and what starts new. Names are those of `named_parameters`."""

    def __init__(self, model: nn.Module, held: Collection[str]) -> None:
        """`held` names weights of the Hugging Face model that a checkpoint holds, trained or not."""
        self._model = model
        self._held = held
        self._hashes: dict[str, str] = {}
        """Of each weight by itself, by its name in the files."""

    def by_name(self) -> dict[str, nn.Parameter]:
        """As the model is now."""
        return {
            name: parameter
            for name, parameter in self._model.named_parameters()
            if not parameter.requires_grad and name.startswith(_OF_HF) and _in_files(name) not in self._held
        }

    def fingerprint(
        self, names: Iterable[str] | None = None, *, read: Callable[[str], torch.Tensor] | None = None
    ) -> str:
        """Hash of the weights of these names (of all by default) and of what the files call them; empty of none.
        `read` gives weights that stand elsewhere, instead of the model's own.

        Own weights are each read once, while they are whole: before the ranks of a run cut them.
        """
        names = list(self.by_name() if names is None else names)
        if read is not None:
            return joint_hash({_in_files(name): weight_hash(read(name)) for name in names})
        self.note(names)
        return joint_hash({plain: self._hashes[plain] for plain in map(_in_files, names)})

    def note(self, names: Iterable[str]) -> None:
        """Hash weights for `fingerprint`, before they take another form; each once."""
        own = dict(self._model.named_parameters())
        self._hashes |= weight_hashes(
            {plain: own[name] for name in names if (plain := _in_files(name)) not in self._hashes}
        )


def _in_files(name: str) -> str:
    """What the Hugging Face model alone, without adapters, calls a weight of a `TextModel`."""
    return plain_name(name.removeprefix(_OF_HF))
