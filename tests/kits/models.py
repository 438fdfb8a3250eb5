"""What the model tests share: tiny models, batches laid out by hand, and the plain padded forward they are compared
with."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification
from transformers.models import t5

from kits.backbones import FAMILIES, tiny_backbone, why_no_kernels
from kits.further import FURTHER
from textune.batches.batch import TokenBatch
from textune.batches.layout import Group
from textune.config.schema import ModelSection
from textune.data.labels.map import LabelMap
from textune.model.backbone import TextModel
from textune.model.loading import load_model
from textune.model.native.kernels import Kernels
from textune.model.native.libraries import available_levels
from textune.model.tokenizer import load_tokenizer

COLORS = LabelMap("multiclass", ("red", "green", "blue"))


def known(*families: str) -> list[str]:
    """Those that this release of transformers has."""
    return [family for family in families if hasattr(transformers, (FAMILIES | FURTHER)[family].config)]


ENCODERS = known(
    *(
        "bert",
        "ernie",
        "electra",
        "roberta",
        "xlm-roberta",
        "camembert",
        "albert",
        "distilbert",
        "modernbert",
        "mpnet",
    ),
    *(
        "data2vec-text",
        "roberta-prelayernorm",
        "xlm-roberta-xl",
        "eurobert",
        "gte",
        "nomic_bert",
        "jina_embeddings_v3",
    ),
    "deberta-v2",
)
DECODERS = known("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "modernbert-decoder")
TWO_STACKS = ["t5"] if hasattr(t5.modeling_t5, "ALL_ATTENTION_FUNCTIONS") else []
PACKED = ENCODERS + DECODERS + TWO_STACKS
PADDED = ["bart", "xlnet"] + (["t5"] if not TWO_STACKS else [])
ALL = PACKED + PADDED

LAYERS_LAST_NORMED = known(
    *("bert", "ernie", "electra", "roberta", "xlm-roberta", "camembert", "data2vec-text", "distilbert", "deberta-v2")
)
"""Families whose layers are computed whole and normalise after each residual sum ..."""
LAYERS_FIRST_NORMED = known(
    *("modernbert", "modernbert-decoder", "eurobert", "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma")
)
"""... or before attention and before the feed-forward part."""

TOLERANCE = 1e-5

LENGTHS = (1, 1, 2, 3, 3, 5, 7, 8, 9, 13, 23)
"""Odd and even, shorter and longer than the sliding windows (5 to 6 tokens)."""
UNEVEN = (2, 3, 4, 2)
"""Rows a group: the first is without padding, the others are not."""


@dataclass
class Built:
    """A tiny model and what is needed to feed it."""

    family: str
    folder: Path
    tokenizer: Any
    model: TextModel

    @property
    def hf(self) -> Any:
        """The Hugging Face model."""
        return self.model.hf


def build(
    family: str,
    folder: Path,
    *,
    labels: LabelMap = COLORS,
    num_logits: int = 3,
    section: dict[str, Any] | None = None,
    **keys: Any,
) -> Built:
    """Write a tiny backbone and load it, in evaluation mode."""
    tiny_backbone(FURTHER.get(family, family), folder, **keys)
    model_section = ModelSection(pretrained=str(folder), **(section or {}))
    tokenizer = load_tokenizer(model_section)
    model = load_model(model_section, tokenizer, label_maps={"label": labels}, num_logits=num_logits, seed=1)
    return Built(family, folder, tokenizer, model.eval())


def random_rows(built: Built, lengths: Sequence[int] = LENGTHS, *, seed: int = 0) -> list[list[int]]:
    """Rows of ordinary token ids; for T5 and BART with the eos token at the end, which their heads read."""
    generator = np.random.default_rng(seed)
    special = set(built.tokenizer.all_special_ids)
    ordinary = [index for index in range(len(built.tokenizer)) if index not in special]
    rows = [generator.choice(ordinary, length).tolist() for length in lengths]
    if built.family in {"t5", "mt5", "bart"}:
        rows = [[*row[:-1], built.tokenizer.eos_token_id] for row in rows]
    return rows


def random_types(built: Built, rows: Sequence[Sequence[int]]) -> list[list[int]] | None:
    """Token types 0 0 ... 1 1 for families with such a table."""
    has_types = getattr(built.hf.config, "type_vocab_size", 0) > 1 and built.family != "gpt2"
    return [[int(place > len(row) // 2) for place in range(len(row))] for row in rows] if has_types else None


def lay_out(
    built: Built,
    rows: Sequence[Sequence[int]],
    group_rows: Sequence[int] | None = None,
    *,
    types: Sequence[Sequence[int]] | None = None,
) -> TokenBatch:
    """A batch of `rows`, which ascend in length, in groups of so many rows (None: one group)."""
    lengths = [len(row) for row in rows]
    sizes = list(group_rows) if group_rows is not None else [len(rows)]
    assert sum(sizes) == len(rows)
    ends = list(itertools.accumulate(sizes))
    groups = tuple(Group(size, lengths[end - 1]) for size, end in zip(sizes, ends, strict=True))
    widths = [group.length for group in groups for _ in range(group.rows)]

    def flat(values: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
        return torch.tensor(
            [x for row, width in zip(values, widths, strict=True) for x in [*row, *[fill] * (width - len(row))]]
        )

    return TokenBatch(
        columns={"ids": flat(rows, built.model.pad_id)} | ({} if types is None else {"types": flat(types, 0)}),
        positions_T=torch.cat([torch.arange(width) for width in widths]),
        lengths_B=torch.tensor(lengths),
        row_lengths=np.array(lengths),
        groups=groups,
        rows=np.arange(len(rows)),
    )


def plain_inputs(
    built: Built, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None
) -> dict[str, torch.Tensor]:
    """What a plain tokenizer call with `padding=True` hands to a plain model, padded on the tokenizer's own side."""
    width = max(len(row) for row in rows)
    left = built.tokenizer.padding_side == "left"

    def padded(row: Sequence[int], fill: int) -> list[int]:
        padding = [fill] * (width - len(row))
        return [*padding, *row] if left else [*row, *padding]

    inputs = {
        "input_ids": torch.tensor([padded(row, built.tokenizer.pad_token_id) for row in rows]),
        "attention_mask": torch.tensor([padded([1] * len(row), 0) for row in rows]),
    }
    if types is not None:
        inputs["token_type_ids"] = torch.tensor([padded(row, 0) for row in types])
    return inputs


def plain_copy(built: Built, folder: Path, *, attention: str = "eager") -> Any:
    """The saved model in plain transformers, in training mode where ours is."""
    folder.mkdir(parents=True, exist_ok=True)
    built.model.save(folder)
    built.tokenizer.save_pretrained(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation=attention)
    return plain.train(built.model.training)


def require_kernels() -> None:
    """Skip where there are no compiled kernels."""
    if reason := why_no_kernels():
        pytest.skip(reason)


_X86 = ("x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2")
LEVELS = ("aarch64",) if platform.machine() in {"aarch64", "arm64"} else _X86
"""All that kernels are built for; a machine has some of them."""


def kernels_of(level: str) -> Kernels:
    """The kernels of one level; the test is skipped where this machine lacks it."""
    require_kernels()
    if level not in available_levels():
        pytest.skip(f"this machine has no {level}")
    return Kernels(level)


def without_dropout(module: torch.nn.Module) -> None:
    """Set every dropout to 0, wherever a family keeps it."""
    for child in module.modules():
        if isinstance(child, torch.nn.Dropout):
            child.p = 0.0
        for name in ("attention_dropout", "attn_dropout", "dropout"):
            if isinstance(getattr(child, name, None), float):
                setattr(child, name, 0.0)


def gradients(module: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every gradient by name; zeros where a parameter has none."""
    module.zero_grad()
    loss.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def assert_same_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Norm of the difference, relative to the norm of that tensor's gradient.

    Single numbers are no fair measure: those that cancel to almost nothing hold rounding errors only. For the same
    reason a tensor whose whole gradient cancels (the bias of keys: softmax does not feel it) is measured against the
    whole gradient.
    """
    assert ours.keys() == theirs.keys()
    whole = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    assert whole > 0
    for name, gradient in theirs.items():
        difference = (ours[name] - gradient).norm()
        assert difference <= TOLERANCE * gradient.norm() + 1e-2 * TOLERANCE * whole, (
            name,
            difference,
            gradient.norm(),
        )


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
