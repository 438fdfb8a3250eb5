"""A language model drawn from its configuration alone (`model.init = "scratch"`); before `language.py`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import transformers

from textune.config import ModelSection
from textune.errors import ConfigError, ModelError
from textune.model.hugging import HuggingConfig, HuggingModel
from textune.model.pretrained import Pretrained, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "model.init"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".gguf")
"""How the names of files with weights end."""


def require_no_weights(section: ModelSection, found: Pretrained) -> None:
    """ConfigError for a folder that holds weights, which would be passed over."""
    if found.folder is not None:
        held = sorted(path.name for path in found.folder.iterdir() if path.name.endswith(_WEIGHTS))
        if held:
            raise ConfigError(
                f'{KEY} = "scratch" draws all weights, but {found.key} = "{section.pretrained}" is a folder with'
                f" weights ({held[0]}).",
                hint='Set model.init = "pretrained" to start from them, or name a folder with config.json and the'
                " tokenizer's files alone.",
                key=KEY,
                value="scratch",
                place=str(found.folder),
                reason=f"the folder holds {held[0]}",
            )


def draw_model(
    found: Pretrained, config: HuggingConfig, tokenizer: PreTrainedTokenizerBase, *, num_added: int, seed: int
) -> HuggingModel:
    """The language model of a configuration in fp32 and on the CPU, its weights drawn by `seed` alone as transformers
    draws those of its family.

    `num_added`: tokens that the tokenizer was given by this run, for which the vocabulary grows. ModelError where it
    has too few rows for the tokenizer's other tokens.
    """
    text_config = config.get_text_config()
    rows, num_ids = text_config.vocab_size, max(tokenizer.get_vocab().values()) + 1
    if num_ids - num_added > rows:
        raise ModelError(
            f"{found.key}: the tokenizer has {num_ids - num_added} token ids, but the {found.where} has"
            f" vocab_size = {rows}.",
            hint=f"Set model.config.vocab_size = {math.ceil(num_ids / 64) * 64}, or name its own tokenizer in"
            " model.tokenizer.",
            key="model.config.vocab_size",
            value=rows,
            reason=f"the tokenizer has {num_ids - num_added} token ids",
        )
    text_config.vocab_size = max(rows, num_ids)
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hf: HuggingModel = transformers.AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, trust_remote_code=found.options["trust_remote_code"]
            )
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"{found.key}: no language model can be made of the config.json in the {found.where}: {reason}.",
            hint="Check it, and model.config.",
            key=found.key,
            value=found.name,
            reason=reason,
        ) from error
    return hf
