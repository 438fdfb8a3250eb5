"""From the files of a pretrained model to a `TextModel` that is a language model; beside `loading.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import transformers

from textune.config import Model, ModelSection
from textune.errors import ConfigError, ModelError
from textune.model.adapterfolder import SavedAdapters, modules_trained, read_adapters
from textune.model.adapters import require_adapters
from textune.model.addedtokens import KEY, embed_tokens, names_of_tables, require_trained
from textune.model.backbone import TextModel
from textune.model.beneath import AdapterFiles, bases, go_on
from textune.model.faces import LanguageFace
from textune.model.families import PACKED_FAMILIES
from textune.model.freeze import frozen_names
from textune.model.gptq import require_adapters_beside, require_readable, without_note
from textune.model.hugging import HuggingConfig, HuggingModel
from textune.model.origin import BackboneNote
from textune.model.pretrained import (
    Pretrained,
    find_pretrained,
    override_config,
    read_config,
    require_weights,
)
from textune.model.projections import PROJECTIONS, require_projection
from textune.model.reading import Kind, Read, no_class, read_model, refuse_own, unembedded
from textune.model.scratch import draw_model, require_no_weights
from textune.wording import listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

_DECODERS = "Choose a decoder, such as gpt2 or SmolLM2."


def _starts_from_files(_hf: HuggingModel, _name: str) -> bool:
    return False


def _modules_of(hf: HuggingModel, names: Iterable[str]) -> frozenset[str]:
    """The weights of the modules that hold `names`: nothing is trained whole beside adapters but what starts new."""
    modules = modules_trained(hf, set(names))
    return frozenset(name for name in hf.state_dict() if any(name.startswith(f"{module}.") for module in modules))


def _no_head(_hf: HuggingModel) -> set[str]:
    """Its words are pretrained, as all else is."""
    return set()


LANGUAGE_MODEL = Kind(
    classes=transformers.AutoModelForCausalLM,
    name="causal language model",
    mapping=transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
    starts_new=_starts_from_files,
    trained_whole=_modules_of,
    head=_no_head,
    hint=_DECODERS,
)


def load_language_model(
    section: Model, tokenizer: PreTrainedTokenizerBase, *, seed: int, as_saved: bool = False
) -> TextModel:
    """The language model in fp32, its weights from the files, or drawn by `seed` (`model.init`).

    `tokenizer` has `model.added_tokens` already, whose embeddings start by `seed`. `as_saved`: it is as a run saved
    it, and goes on with adapters as they are. Raises ModelError for files that are missing, broken, of another shape
    or incomplete, and for a model that is no decoder; ConfigError for `model.config`, `model.init`,
    `model.added_tokens`, `model.freeze` and `model.unfreeze`.
    """
    section = _of_transformers(section)
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    saved = read_adapters(found)
    config = read_config(found)
    refuse_own(found, config)
    require_adapters_beside(found, config, section)
    override_config(without_note(config), section.config)
    require_decoder(found, config)
    # Its pad token stays that of the files: some families give that token no gradient.
    read = _read(section, found, saved, config, tokenizer, seed=seed)
    hf = read.hf
    backbone: BackboneNote | None = read.backbone
    packed = read.packed
    if hf.config.model_type not in PROJECTIONS:
        require_projection(hf.eval(), where=found.where, key=found.key)
    unknown_id, notes = unembedded(found, hf, tokenizer)
    if section.added_tokens and section.lora is not None:
        notes.append(f"{listing(sorted(read.whole))} trained as a whole: there are rows of model.added_tokens")
    if read.unused:
        notes.append(f"{listing(read.unused, 4)} of the checkpoint are not used")
    frozen = frozen_names(hf, section, new_tensors=read.new_tensors)
    require_trained(frozen, hf, section.added_tokens)
    if saved is not None and not as_saved:
        saved, said = go_on(saved, section, hf, whole=read.whole, frozen=frozen)
        # What adapters were put into has few bits no longer.
        backbone, packed = (backbone, packed) if saved is not None else (None, {})
        notes.append(said)
    assert isinstance(tokenizer.pad_token_id, int)
    return TextModel(
        hf,
        pad_id=tokenizer.pad_token_id,
        attention=section.attention,
        compile=section.compile,
        notes=tuple(notes),
        unknown_id=unknown_id,
        frozen=frozen,
        whole=read.whole,
        files=AdapterFiles(saved, backbone),
        packed=packed,
        face=LanguageFace(hf),
    )


def _read(
    section: ModelSection,
    found: Pretrained,
    saved: SavedAdapters | None,
    config: HuggingConfig,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
) -> Read:
    """The model with its weights. Beside adapters, those that have rows of added tokens are trained as a whole."""
    if section.init == "scratch":
        require_no_weights(section, found)
        hf = draw_model(found, config, tokenizer, num_added=len(section.added_tokens), seed=seed)
        new_tensors = list(hf.state_dict())
        note = BackboneNote(name=section.pretrained, revision=section.revision).found_in(found.folder)
        return Read(hf, new_tensors, [], frozenset(new_tensors), note, {})
    if section.added_tokens and saved is not None:
        raise ConfigError(
            f"{KEY} would change the embeddings beneath the adapters in {saved.folder}.",
            hint=f"Merge them first: `textune export {section.pretrained} --merge --out FOLDER`, and set"
            " model.pretrained to that folder.",
            key=KEY,
            value=section.added_tokens[0],
            place=str(saved.folder),
            reason="adapters",
        )
    read = read_model(section, found, saved, config, LANGUAGE_MODEL, seed=seed)
    if not section.added_tokens:
        return read
    embed_tokens(read.hf, tokenizer, section.added_tokens, seed=seed)
    return replace(read, whole=read.whole | trained_beside(read.hf, section))


def trained_beside(hf: HuggingModel, section: ModelSection) -> frozenset[str]:
    """The weights that are trained as they are beside adapters: those that have rows of added tokens."""
    return _modules_of(hf, names_of_tables(hf)) if section.added_tokens else frozenset()


def require_language_model(section: Model) -> None:
    """Raise early what `load_language_model` finds wrong before it reads weights: the folder, its files,
    `model.config`, an encoder."""
    section = _of_transformers(section)
    if section.lora is not None:
        require_adapters(section.lora)
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    config = read_config(found)
    require_readable(found, config)
    refuse_own(found, config)
    require_adapters_beside(found, config, section)
    override_config(without_note(config), section.config)
    require_decoder(found, config)
    if section.init == "scratch":
        require_no_weights(section, found)
    elif (saved := read_adapters(found)) is None:
        require_weights(found, otherwise='To start without weights, set model.init = "scratch".')
    else:
        bases(saved, section)


def language_skeleton(section: Model) -> HuggingModel:
    """The language model of a folder with `config.json` alone, with weights that mean nothing yet."""
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    with torch.random.fork_rng(devices=[]):
        hf: HuggingModel = transformers.AutoModelForCausalLM.from_config(read_config(found), dtype=torch.float32)
    return hf


def _of_transformers(section: Model) -> ModelSection:
    if not isinstance(section, ModelSection):
        raise ModelError(
            f'model.kind = "{section.kind}": language models are those of transformers.',
            hint="Leave model.kind out, and set model.pretrained.",
            key="model.kind",
            value=section.kind,
        )
    return section


def require_decoder(found: Pretrained, config: HuggingConfig) -> None:
    """ModelError for a family without a causal language model, and for an encoder."""
    if not LANGUAGE_MODEL.knows(config):
        raise no_class(found, config, LANGUAGE_MODEL)
    family = config.model_type
    is_known_encoder = family in PACKED_FAMILIES and family not in PROJECTIONS
    if is_known_encoder and not getattr(config, "is_decoder", False):
        raise ModelError(
            f"{found.key}: the {family} in the {found.where} is an encoder: what it says of a token depends on those"
            " after it.",
            hint=_DECODERS,
            key=found.key,
            value=found.name,
            reason="encoder",
        )
