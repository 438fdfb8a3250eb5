"""A model without weights: the names and shapes of its parts from `config.json` alone, for whoever wants to count
them before anything is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import torch
import transformers
from safetensors import SafetensorError, safe_open

from textune.config import Lora, ModelSection, Pooling, Quantize
from textune.jsontext import parse_json
from textune.model.backbone import TextModel
from textune.model.depth import head_names
from textune.model.faces import LanguageFace
from textune.model.freeze import frozen_names
from textune.model.gptq import packed_bytes, require_adapters_beside, require_readable, without_note
from textune.model.hugging import HuggingConfig, HuggingModel
from textune.model.language import require_decoder, trained_beside
from textune.model.loading import is_head
from textune.model.lowbits import low_bit_layers, num_low_bit_bytes
from textune.model.pretrained import Pretrained, find_pretrained, override_config, quiet_transformers, read_config
from textune.model.reading import refuse_own
from textune.model.targets import ALL_LINEAR, shape_of, targeted
from textune.model.tokenizer import load_tokenizer

NOWHERE = torch.device("meta")
"""PyTorch's device of tensors that have a shape and no numbers."""


class Outline(NamedTuple):
    """A model without weights."""

    model: TextModel
    adaptable: tuple[str, ...]
    """Names of its layers that have adapters; where there are none, of those that "all-linear" would name."""
    low_bits: Mapping[str, int]
    """Bytes of the weights that have few bits, by plain name: by `model.quantize`, or in the files."""


def outline(
    section: ModelSection,
    *,
    num_outputs: int | None,
    pooling: Pooling | None = None,
    lora: Lora | None = None,
    language: bool = False,
) -> Outline:
    """The model as a run with this section would train it, on the device `NOWHERE`.

    `num_outputs` are those of the head; None: as many as the backbone's own configuration says. `language`: a language
    model, which has none. Raises what `load_model` or `load_language_model` raise for the folder, `model.config`,
    `model.freeze` and `model.lora`.
    """
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    config = read_config(found)
    refuse_own(found, config)
    require_readable(found, config)
    require_adapters_beside(found, config, section)
    if num_outputs is not None and not language:
        config.num_labels = num_outputs
    override_config(without_note(config), section.config)
    if language:
        require_decoder(found, config)
    hf = _drawn(found, config, section, language=language)
    new_tensors = sorted(_new_tensors(found, hf, section, language=language))
    whole = trained_beside(hf, section) if language else frozenset(head_names(hf) | set(new_tensors))
    adaptable = () if lora is not None else tuple(targeted(hf, (ALL_LINEAR,), whole=whole))
    low_bits = packed_bytes(found, hf) if section.quantize is None else _low_bits(hf, section.quantize, whole)
    model = TextModel(
        hf,
        pad_id=0,
        attention=section.attention,
        compile="off",
        frozen=frozen_names(hf, section, new_tensors=new_tensors),
        whole=whole,
        face=LanguageFace(hf) if language else None,
    )
    if pooling is not None:
        model.pool_windows(pooling)
    if lora is not None:
        with NOWHERE:
            model.adapt(lora, seed=0)
    model.freeze()
    return Outline(model, adaptable if model.adapters is None else model.adapters.layers, low_bits)


HEADS: Mapping[str, str] = {
    "": "AutoModel",
    "sequence-classification": "AutoModelForSequenceClassification",
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
"""Classes of transformers by the head that they have; "" is the backbone alone."""


def backbone_outline(section: ModelSection, *, kind: str = "") -> HuggingModel:
    """A model of transformers on the device `NOWHERE`, with a head of `HEADS` or without one.

    Raises what `outline` raises, and ModelError for a backbone that has no such head.
    """
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    config = read_config(found)
    refuse_own(found, config)
    return _made(found, without_note(config), getattr(transformers, HEADS[kind]))


def _drawn(found: Pretrained, config: HuggingConfig, section: ModelSection, *, language: bool) -> HuggingModel:
    """Names and shapes. The tables of a language model have rows for `model.added_tokens`."""
    if language and section.added_tokens:
        text_config = config.get_text_config()
        numbers = load_tokenizer(section).get_vocab().values()
        text_config.vocab_size = max(text_config.vocab_size, *(number + 1 for number in numbers))
    return _made(
        found,
        config,
        transformers.AutoModelForCausalLM if language else transformers.AutoModelForSequenceClassification,
    )


def _made(found: Pretrained, config: HuggingConfig, kind: Any) -> HuggingModel:
    with quiet_transformers(), NOWHERE:
        try:
            hf: HuggingModel = kind.from_config(config, dtype=torch.float32)
        except (ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
            raise found.error(error, "a model") from error
    return hf


def _low_bits(hf: HuggingModel, section: Quantize, whole: Collection[str]) -> dict[str, int]:
    return {
        f"{name}.weight": num_low_bit_bytes(*shape_of(layer), section)
        for name, layer in low_bit_layers(hf, whole=whole).items()
    }


def _new_tensors(found: Pretrained, hf: HuggingModel, section: ModelSection, *, language: bool) -> Iterator[str]:
    """What would start new: the head's tensors that the checkpoint lacks, by the names in its files; of a model on the
    hub, whose files are not read, none; of one that is drawn, all."""
    if language:
        yield from hf.state_dict() if section.init == "scratch" else ()
        return
    saved = set(_saved_names(found))
    for name, _ in hf.named_parameters():
        bare = name.removeprefix(f"{hf.base_model_prefix}.")
        if saved and is_head(hf, name) and not saved & {name, bare}:
            yield name


def _saved_names(found: Pretrained) -> Iterator[str]:
    """The names of the tensors in a folder; nothing where they cannot be read."""
    if found.folder is None:
        return
    index, single = found.folder / "model.safetensors.index.json", found.folder / "model.safetensors"
    try:
        if index.is_file():
            yield from parse_json(index.read_text(encoding="utf-8"))["weight_map"]
        elif single.is_file():
            with safe_open(single, "pt") as file:
                yield from file.keys()
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise found.error(error, "weights") from error
