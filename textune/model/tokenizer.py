"""The backbone's tokenizer, which must be fast and always gets a pad token; before `backbone.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers
from huggingface_hub.errors import StrictDataclassError

from textune.config import Model, ModelSection
from textune.errors import ModelError
from textune.model.addedtokens import add_tokens
from textune.model.mlflowfolder import tokenizer_beside
from textune.model.pretrained import Pretrained, find_pretrained, quiet_transformers, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
"""Files that hold a vocabulary; a folder has at least one."""


def load_tokenizer(section: Model) -> PreTrainedTokenizerBase:
    """The fast tokenizer of `section.tokenizer`, or of the backbone itself, with `model.added_tokens`.

    A tokenizer without a pad token (GPT-2, Llama) pads with its eos token, else with its unknown token; which
    positions are padding is always known from the rows' lengths. Raises ModelError if the files are missing or
    broken, or only fit a slow tokenizer; otherwise errors as `add_tokens`.
    """
    key = "model.tokenizer" if section.tokenizer else "model.pretrained"
    found, apart = _find(section, key)
    if found.folder is not None and not any((found.folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{key}: {found.name} has no tokenizer ({', '.join(TOKENIZER_FILES[:2])}, ...).",
            hint="Copy the tokenizer's files into it, or name the folder that has them in model.tokenizer.",
        )
    if found.folder is not None and not section.tokenizer and not apart:
        # Otherwise a broken configuration would be reported as a broken tokenizer.
        read_config(found)
    tokenizer = _open(found)
    if not tokenizer.is_fast:
        raise ModelError(
            f"{key}: the {found.where} has only a slow tokenizer ({type(tokenizer).__name__}); textune needs"
            f" tokenizer.json.",
            hint="Name a folder with a fast tokenizer in model.tokenizer.",
        )
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelError(
            f"{key}: the tokenizer in the {found.where} has no vocabulary beyond its {len(tokenizer)} special tokens.",
            hint="Its tokenizer.json (or vocabulary file) is missing or empty: copy it again.",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ModelError(
            f"{key}: the tokenizer in the {found.where} has no pad, eos or unknown token, so rows cannot be padded.",
            hint="Name a tokenizer that has one in model.tokenizer.",
        )
    if isinstance(section, ModelSection) and section.added_tokens:
        add_tokens(tokenizer, section.added_tokens)
    return tokenizer


def _find(section: Model, key: str) -> tuple[Pretrained, bool]:
    """Where the tokenizer is, and whether that is apart from its model, in a folder of MLflow."""
    found = find_pretrained(section.tokenizer or section.pretrained, section, key=key)
    apart = None if section.tokenizer else tokenizer_beside(Path(section.pretrained).expanduser())
    return (found, False) if apart is None else (replace(found, name=str(apart), folder=apart), True)


def _open(found: Pretrained) -> Any:
    try:
        with quiet_transformers():
            return transformers.AutoTokenizer.from_pretrained(found.name, use_fast=True, **found.options)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, StrictDataclassError) as error:
        raise found.error(error, "a tokenizer") from error
    except Exception as error:
        # The Rust side of tokenizers raises bare Exception for a tokenizer.json that it cannot parse.
        if type(error) is not Exception:
            raise
        raise found.error(error, "a tokenizer.json") from error
