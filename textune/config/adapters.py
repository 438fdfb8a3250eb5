"""Keys for training few numbers beside a frozen backbone; part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from textune.config.section import Computed, Section
from textune.config.values import Names, whole_number


def _as_rank(value: object) -> object:
    """The value, for pydantic to judge; ValueError for 0, which is written where adapters are not wanted."""
    if value in (0, "0"):
        raise ValueError("an update of rank 0 changes nothing; leave model.lora out, or use a rank such as 8")
    return value


class Lora(Section):
    """Low-rank adaptation: the backbone's weights stay as they are, and a product of two small matrices is trained
    beside each linear layer; the head is trained as a whole (Hu et al. 2021, arXiv:2106.09685)."""

    r: Annotated[PositiveInt, BeforeValidator(_as_rank)] = 8
    """Rank of the update: columns of the one matrix, rows of the other."""
    alpha: Annotated[float, Field(gt=0, le=1_000_000)] = 16.0
    """The update is multiplied by `alpha / r`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the first of the two matrices."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Biases of the backbone that are trained too: `none`, `all`, or those of adapted layers (`lora_only`)."""
    targets: Names = ("all-linear",)
    """Layers that are adapted: `all-linear` is every linear layer of the backbone; else last parts of names, such as
    `query`, or patterns of whole names, such as `*.layer.1?.*`."""
    merge: Computed[Literal["end", "command", "off"]] = "end"
    """What a saved model is. `end`: a plain folder, the update added to the weights. `command`: an adapter folder, and
    `textune export` adds it. `off`: an adapter folder, and `textune export` gives one too."""
    options: dict[str, Any] = {}
    """Further keys of peft's `LoraConfig`, such as `{ use_rslora = true }`."""


class Quantize(Section):
    """Weights of few bits beneath the adapters of `model.lora` (QLoRA, Dettmers et al. 2023, arXiv:2305.14314): the
    backbone's linear layers take an eighth of their memory, or a quarter. Embeddings, norms and head stay fp32."""

    bits: Annotated[Literal[4, 8], BeforeValidator(whole_number)] = 4
    """Bits of a weight. 8: whole numbers with a scale for each output of a layer, those of LLM.int8()."""
    kind: Literal["nf4", "fp4"] = "nf4"
    """The 16 values of 4 bits: quantiles of the normal distribution, or floating-point numbers."""
    double: bool = True
    """Whether the scales of 4-bit weights, one for 64 of them, are kept in 8 bits themselves."""
    compute: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Arithmetic of products with such weights; `auto` is that of the run, `train.precision`."""
