"""The one valid order in which a loaded model is prepared: for training, for prediction and for export; after
`backbone.py`.

    quantise -> adapt -> freeze -> compact -> store -> place -> kernels -> recompute -> measure -> compile

quantise    weights of few bits take the place of linear layers, and adapters and kernels must find those: int8 for
            prediction, or what lies beneath adapters (`model.quantize`, or the backbone's files)
adapt       adapters are put beside layers as they are by now, and are not frozen with them
freeze      before compacting, which leaves a frozen table of token embeddings alone
compact     while the full table is on the processor, so that a GPU never holds it
store       a frozen table of token embeddings that is large goes from memory into a file, for training on a processor
place       weights go to the device that kernels and measurements ask about
kernels     they change how layers compute
recompute   wraps layers as they compute by now
measure     the memory that a token takes, with all of the above in place and nothing compiled yet
compile     on a GPU, in the first steps
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from textune.config import Lora, Quantize, Switch
from textune.model.backbone import TextModel
from textune.model.budget import TokenBudget
from textune.model.device import Device
from textune.model.quantize import quantize_linears
from textune.model.recompute import checkpoint_gradients


@dataclass(frozen=True)
class Occurring:
    """Train only the token embeddings that occur in these rows, where that is exact."""

    token_ids: Sequence[np.ndarray]
    """Flat arrays [tokens] of all that the model will see."""
    mode: Switch
    rule_obstacle: str
    """Why the update rule needs the whole table; empty if it does not."""


@dataclass(frozen=True)
class FullTable:
    """Train or hold all token embeddings."""

    reason: str


@dataclass(frozen=True)
class Kept:
    """Hold only the token embeddings that an earlier run trained."""

    ids_K: np.ndarray


@dataclass(frozen=True)
class Adapting:
    """Train adapters, which start by `seed`, beside frozen weights."""

    lora: Lora
    seed: int


@dataclass(frozen=True)
class Recipe:
    """What is done to a model before it computes; the default prepares it for export: on a device, as it is."""

    device: Device
    use: Literal["training", "prediction", "export"] = "export"
    int8: bool = False
    quantize: Quantize | None = None
    """Weights of few bits beneath adapters."""
    adapting: Adapting | None = None
    vocabulary: Occurring | Kept | FullTable = FullTable("")
    """Which token embeddings are held."""
    table_folder: Callable[[], Path] | None = None
    """Where a large frozen table of token embeddings is stored; None: it stays in memory."""
    sharded: bool = False
    """Whether the weights are cut over several ranks, and brought when a module is called."""
    compiled: bool = True
    """Whether compiled kernels may be used."""
    lengths: np.ndarray | None = None
    """int64 [N] tokens of each row that will be computed, by which the faster way is chosen."""
    earlier_way: str | None = None
    """How a resumed run computed before it stopped."""
    recompute: bool = False
    """Whether the backward pass computes each layer again instead of keeping what it needs (gradient
    checkpointing)."""
    num_steps: int = 0
    """Optimizer steps of the run."""
    deterministic: bool = False
    """Whether the bits must be the same in every run."""


@dataclass(frozen=True)
class Prepared:
    """What was found out on the way."""

    vocabulary: str
    """Which token embeddings are trained, and where those that are frozen are, in words."""
    budget: TokenBudget | None
    """Tokens computed at once, as `measure` found; None where nothing was measured."""


def prepare(
    model: TextModel, recipe: Recipe, *, measure: Callable[[TextModel], TokenBudget] | None = None
) -> Prepared:
    """Take the steps of `recipe` on a model that was just loaded, in place.

    `measure` says how many tokens are computed at once; for that it may try passes of the model. Raises ConfigError or
    ModelError for a step that this model or this machine cannot take.
    """
    training = recipe.use == "training"
    dtype = torch.int8 if recipe.int8 else recipe.device.dtype
    if recipe.int8:
        quantize_linears(model)
    if recipe.quantize is not None:
        model.quantize(recipe.quantize, recipe.device.dtype)
    if recipe.adapting is not None:
        model.keep_few_bits(recipe.device.dtype)
        model.adapt(recipe.adapting.lora, seed=recipe.adapting.seed)
    if training:
        model.freeze()
    vocabulary = _compact(model, recipe.vocabulary)
    if recipe.table_folder is not None:
        token_ids = recipe.vocabulary.token_ids if isinstance(recipe.vocabulary, Occurring) else ()
        vocabulary += model.put_table_on_disk(token_ids, recipe.table_folder)
    model.to(recipe.device.torch)
    if recipe.sharded:
        # A compiled layer computes without calling its modules, and only their calls bring the weights.
        hint = 'Use train.distributed.kind = "ddp"'
        model.accelerator.forbid("weights are cut over the ranks, and brought when a module is called", hint=hint)
    if model.low_bits is not None and recipe.device.torch.type == "cuda":
        reason = "the weights have few bits, and what reads them back is compiled already"
        model.accelerator.forbid(reason, hint="Start from weights in floating point, without model.quantize")
    if recipe.deterministic and recipe.device.torch.type == "cuda":
        reason = "train.deterministic = true, and what is compiled for a GPU is chosen by timing it"
        model.accelerator.forbid(reason, hint="Leave one of the two out")
    if recipe.compiled and recipe.use != "export":
        model.speed_up(dtype, training=training, lengths=recipe.lengths, earlier=recipe.earlier_way)
    if recipe.recompute:
        checkpoint_gradients(model)
    budget = None if measure is None else measure(model)
    if training:
        model.compile_steps(recipe.num_steps, dtype)
    else:
        model.eval()
    return Prepared(vocabulary, budget)


def _compact(model: TextModel, vocabulary: Occurring | Kept | FullTable) -> str:
    if isinstance(vocabulary, Occurring):
        return model.compact_vocabulary(
            vocabulary.token_ids, mode=vocabulary.mode, rule_obstacle=vocabulary.rule_obstacle
        )
    if isinstance(vocabulary, Kept):
        model.take_vocabulary(vocabulary.ids_K)
        return f"{len(vocabulary.ids_K):,} token embeddings, as in the run"
    return f"full table: {vocabulary.reason}"
