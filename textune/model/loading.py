"""From the files of a pretrained model to a `TextModel`: weights read, head settled; between `backbone.py` and
`recipe.py`."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError

from textune.config import Model, ModelSection, Pooling, PythonModel
from textune.data import LabelMaps
from textune.errors import ModelError
from textune.model.adapterfolder import SavedAdapters, read_adapters
from textune.model.adapters import is_adapter, require_adapters
from textune.model.backbone import TextModel
from textune.model.beneath import AdapterFiles, another_backbone, bases, frozen_hash, go_on, trained_whole
from textune.model.depth import head_names
from textune.model.families import why_padded
from textune.model.freeze import frozen_names
from textune.model.gptq import PackedLayer, read_packed, require_adapters_beside, require_readable, without_note
from textune.model.hugging import HuggingConfig, HuggingModel, Options
from textune.model.labelhead import Head, about_new_head, change_head, plan_head, wanted_head
from textune.model.mapped import MappedFiles
from textune.model.origin import BackboneNote
from textune.model.own import OwnModel, as_hugging, is_of_transformers, is_stock, require_own_model
from textune.model.ownconfig import OWN_TYPE
from textune.model.ownloading import load_own
from textune.model.pooling import cannot_pool
from textune.model.pretrained import (
    PICKLE_HINT,
    Pretrained,
    find_pretrained,
    override_config,
    quiet_transformers,
    read_config,
    require_weights,
)
from textune.owncode import OwnObject
from textune.wording import listing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_model(
    section: Model,
    tokenizer: PreTrainedTokenizerBase,
    *,
    label_maps: LabelMaps,
    num_logits: int,
    seed: int,
    as_saved: bool = False,
    pooling: Pooling | None = None,
) -> TextModel:
    """The backbone in fp32 with a head of `num_logits` outputs for what `label_maps` say, by head.

    Weights that the checkpoint lacks (the head) depend on `seed` alone. A head that was trained before keeps the rows
    of those labels that it knows by name; `as_saved` says that it was saved for these very label maps, and takes it as
    it stands. One logit for two classes is saved as a sigmoid output named after the second label, which is how
    transformers' own pipeline reads it. `pooling`: how the windows of a text are pooled, with what the files have
    learned of it. Raises ModelError for files that are missing, broken, of another shape or incomplete, ConfigError
    for `model.config`, `model.freeze` and `model.unfreeze`. A class of the user's own is imported (CodeError where it
    does not fit).
    """
    head, code = wanted_head(label_maps, num_logits), None
    if isinstance(section, PythonModel):
        code = require_own_model(section)
        if not (section.pretrained and is_of_transformers(code)):
            own = load_own(section, code, tokenizer, head, seed=seed, as_saved=as_saved)
            if pooling is not None:
                own.pool_windows(pooling)
            return own
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    model = _load_found(section, found, code, tokenizer, head, seed=seed, as_saved=as_saved)
    if pooling is not None:
        learned = model.pool_windows(pooling)
        if found.folder is not None:
            learned.read(found.folder, required=as_saved)
    return model


def _load_found(
    section: Model,
    found: Pretrained,
    code: OwnObject | None,
    tokenizer: PreTrainedTokenizerBase,
    head: Head,
    *,
    seed: int,
    as_saved: bool,
) -> TextModel:
    """The model of transformers that was found; `code` is its class where that is the user's own."""
    saved = read_adapters(found)
    config = read_config(found)
    refuse_own(found, config)
    require_adapters_beside(found, config, section)
    if saved is not None:
        config.architectures = None  # of peft's folders it is that of the backbone, whatever head lies beside it
    change = None if as_saved else plan_head(found, config, head)
    if change is None or not change.earlier_size:
        head.describe_on(config)
    override_config(without_note(config), _overrides(section), key=_key_of_overrides(section))
    text_config = config.get_text_config()
    if getattr(text_config, "pad_token_id", None) is None or text_config.pad_token_id < 0:
        text_config.pad_token_id = tokenizer.pad_token_id
    if saved is None:
        read = _read_plain(section, found, config, code, seed=seed)
    else:
        read = _read_beneath(section, found, saved, config, code, seed=seed)
    hf, new_tensors = read.hf, read.new_tensors
    backbone: BackboneNote | None = read.backbone
    packed = read.packed
    if hasattr(hf, "score"):
        # Heads that read the last token look for it by the pad id.
        text_config.pad_token_id = tokenizer.pad_token_id
    unknown_id, notes = _unembedded(found, hf, tokenizer)
    if change is not None:
        notice = change_head(hf, change, head, found=found, new_tensors=new_tensors, seed=seed)
        notes += [notice] if notice else []
    if new_tensors:
        notes.append(about_new_head(hf, new_tensors, head))
    if read.unused:
        notes.append(f"{listing(read.unused, 4)} of the checkpoint are not used")
    frozen = frozen_names(hf, section, new_tensors=new_tensors)
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
        compile="off" if isinstance(section, PythonModel) else section.compile,
        notes=tuple(notes),
        unknown_id=unknown_id,
        frozen=frozen,
        whole=read.whole,
        files=AdapterFiles(saved, backbone),
        packed=packed,
    )


def require_backbone(section: Model, *, pooling: Pooling | None = None) -> None:
    """Raise early what `load_model` finds wrong before it reads weights: a class of the user's own, the folder, its
    files, `model.config`, a model that cannot pool windows."""
    code = require_own_model(section) if isinstance(section, PythonModel) else None
    if pooling is not None and code is not None and not is_stock(code):
        name = code.target.__name__
        raise cannot_pool(name, f"{name} is code of its own")
    if code is not None and not section.pretrained:
        return
    if isinstance(section, ModelSection) and section.lora is not None:
        require_adapters(section.lora)
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    config = read_config(found)
    require_readable(found, config)
    require_adapters_beside(found, config, section)
    if code is None or is_of_transformers(code):
        refuse_own(found, config)
        override_config(without_note(config), _overrides(section), key=_key_of_overrides(section))
    if pooling is not None and (reason := why_padded(config.model_type)):
        raise cannot_pool(config.model_type, f"it runs padded: {reason}")
    saved = read_adapters(found)
    if saved is None:
        require_weights(found)
    else:
        bases(saved, section)


def skeleton(section: Model) -> HuggingModel:
    """The model of a folder with `config.json` alone, with weights that mean nothing yet."""
    code = require_own_model(section) if isinstance(section, PythonModel) else None
    config = read_config(find_pretrained(section.pretrained, section, key="model.pretrained"))
    with torch.random.fork_rng(devices=[]):
        if code is None:
            kind = transformers.AutoModelForSequenceClassification
            hf: HuggingModel = kind.from_config(config, dtype=torch.float32)
            return hf
        if is_of_transformers(code):
            return code.target(config).float()  # type: ignore[no-any-return]
        return as_hugging(OwnModel(config, code))


def _overrides(section: Model) -> Options:
    """Changes to the backbone's configuration."""
    return section.options if isinstance(section, PythonModel) else section.config


def _key_of_overrides(section: Model) -> str:
    return "model.options" if isinstance(section, PythonModel) else "model.config"


def refuse_own(found: Pretrained, config: HuggingConfig) -> None:
    """ModelError for a model of code of its own where a backbone of transformers is wanted."""
    if config.model_type == OWN_TYPE:
        raise ModelError(
            f"{found.key}: the {found.where} holds a model of {config.object}, which is code of its own.",
            hint=f'Set model.kind = "python" and model.object = "{config.object}" as well.',
            key=found.key,
            value=found.name,
        )


@dataclass(frozen=True)
class _Read:
    """A model with the weights of files, its head not settled yet."""

    hf: HuggingModel
    new_tensors: list[str]
    """What starts random."""
    unused: list[str]
    """What the files hold beside it."""
    whole: frozenset[str]
    """What is trained as it is beside adapters: the head, and what starts new."""
    backbone: BackboneNote
    """Where the rest is as files."""
    packed: dict[str, PackedLayer]
    """The layers that have few bits there."""


def _read_plain(
    section: Model, found: Pretrained, config: HuggingConfig, code: OwnObject | None, *, seed: int
) -> _Read:
    require_weights(found)
    hf, info, packed = _read_weights(found, config, code, seed=seed)
    new_tensors = _new_tensors(found, hf, info, section)
    whole = trained_whole(hf, new_tensors)
    note = BackboneNote(name=section.pretrained, revision=section.revision).found_in(found.folder)
    return _Read(hf, new_tensors, sorted(info["unexpected_keys"]), whole, note, packed)


def _read_beneath(
    section: Model,
    found: Pretrained,
    saved: SavedAdapters,
    config: HuggingConfig,
    code: OwnObject | None,
    *,
    seed: int,
) -> _Read:
    """The backbone of saved adapters, with what was trained as a whole; the first that is found and has the same
    weights."""
    others: dict[str, str] = {}
    for base in bases(saved, section):
        try:
            hf, info, packed = _read_weights(base, copy.deepcopy(config), code, seed=seed)
            new_tensors = _new_tensors(base, hf, info, section, known=saved.whole)
        except ModelError as error:
            if not saved.backbone.fingerprint:
                raise
            reason = error.message.removeprefix(f"{base.key}: ").rstrip(".")
            others[base.name] = f"others, which do not fit: {reason}"
            continue
        whole = trained_whole(hf, {*new_tensors, *saved.trained_whole})
        fingerprint = frozen_hash(hf, whole)
        if saved.backbone.fingerprint not in ("", fingerprint):
            others[base.name] = fingerprint
            continue
        saved.require_layers(hf)
        saved.place_whole(hf, head_names(hf))
        note = saved.backbone.found_in(base.folder, fingerprint)
        return _Read(hf, new_tensors, sorted(info["unexpected_keys"]), whole, note, packed)
    raise another_backbone(saved, found, others)


def _read_weights(
    found: Pretrained, config: HuggingConfig, code: OwnObject | None, *, seed: int
) -> tuple[HuggingModel, dict[str, Any], dict[str, PackedLayer]]:
    kind = transformers.AutoModelForSequenceClassification if code is None else code.target
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Shapes that differ are judged by `_new_tensors`, which can name both.
            hf, info = kind.from_pretrained(
                found.name,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **found.options,
            )
    except (OSError, SafetensorError) as error:
        if found.folder is None and "safetensors" in str(error):
            raise ModelError(
                f"{found.key}: the {found.where} has no safetensors weights.", hint=PICKLE_HINT
            ) from error
        raise found.error(error, "weights") from error
    except (ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        if not _has_classifier(config):
            raise ModelError(
                f"{found.key}: transformers has no sequence classifier for {config.model_type} ({found.where}).",
                hint="Choose a text backbone.",
            ) from error
        raise found.error(error, "a model") from error
    if any(map(is_adapter, hf.state_dict())):  # transformers puts them there itself
        raise ModelError(
            f"{found.key}: the {found.where} holds adapters, which are read from folders alone.",
            hint=f"Download it (`hf download {found.name} --local-dir FOLDER`), and set {found.key} to that folder.",
            key=found.key,
            value=found.name,
            reason="adapters",
        )
    packed = read_packed(found, hf, info)
    _own(hf)
    return hf, info, packed


CLASSIFIER = "AutoModelForSequenceClassification"


def _has_classifier(config: HuggingConfig) -> bool:
    """Whether transformers, or code that comes with the checkpoint, has a sequence classifier of this family."""
    own_code = getattr(config, "auto_map", None) or {}
    return CLASSIFIER in own_code or type(config) in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING


def _own(hf: HuggingModel) -> None:
    """Copy the weights, which are views of the mapped file: one that is replaced, cut or removed later must not
    matter. What was copied is given back, so that the model is not held twice."""
    mapped = MappedFiles()
    copies: dict[
        tuple[object, ...], torch.Tensor
    ] = {}  # weights that are tied stay tied, also where two parameters share them
    for tensor in (*hf.parameters(), *hf.buffers()):
        # All empty tensors have the address 0, and a transposed one that of the other.
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if key not in copies:
            copies[key] = mapped.copy(tensor.detach())
        tensor.data = copies[key]


def _new_tensors(
    found: Pretrained, hf: HuggingModel, info: dict[str, Any], section: Model, *, known: Collection[str] = ()
) -> list[str]:
    """Names of the head's tensors that start random; ModelError for any other, since it would silently spoil the
    backbone. Those that are `known` come from elsewhere."""
    lost = sorted(name for name in info["missing_keys"] if not is_head(hf, name) and name not in known)
    if lost:
        raise ModelError(
            f"{found.key}: the {found.where} lacks {len(lost)} weights of a {hf.config.model_type} backbone,"
            f" such as {lost[0]}.",
            hint="They would start random. "
            + (f"Check {_key_of_overrides(section)}." if _overrides(section) else "Choose a complete checkpoint."),
        )
    for name, saved, wanted in sorted(info["mismatched_keys"]):
        if name in known:
            continue
        if isinstance(section, ModelSection) and section.ignore_mismatched_sizes and is_head(hf, name):
            continue
        raise ModelError(
            f"{found.key}: {name} is {tuple(saved)} in the {found.where}, but must be {tuple(wanted)} here.",
            hint="Set model.ignore_mismatched_sizes = true to start the head anew."
            if is_head(hf, name)
            else "Only a head can start anew: check model.config and the checkpoint's config.json.",
        )
    return sorted((info["missing_keys"] | {name for name, _, _ in info["mismatched_keys"]}) - set(known))


def is_head(hf: HuggingModel, name: str) -> bool:
    """Poolers count as heads: checkpoints of language models often lack them."""
    return "pooler" in name.split(".") or (
        id(hf.base_model) != id(hf) and not name.startswith(hf.base_model_prefix + ".")
    )


def _unembedded(
    found: Pretrained, hf: HuggingModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[int | None, list[str]]:
    """What stands for token ids without an embedding, and a note; (None, []) where all have one. Embeddings are never
    resized.

    Some checkpoints have special tokens for images or sounds behind the last embedding: a text that spells one out
    gets the unknown token. ModelError where ordinary tokens, or special ones that every row contains, are beyond the
    embeddings.
    """
    rows = hf.get_input_embeddings().weight.shape[0]
    beyond = sorted((index, token) for token, index in tokenizer.get_vocab().items() if index >= rows)
    if not beyond:
        return None, []
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = {tokenizer.pad_token_id, *tokenizer("")["input_ids"]}
    wrong = next(((index, token) for index, token in beyond if index not in special or index in used), None)
    if wrong is not None:
        raise ModelError(
            f'{found.key}: the tokenizer has {beyond[-1][0] + 1} token ids ("{wrong[1]}" is {wrong[0]}), but the'
            f" {found.where}"
            f" only {rows} embeddings.",
            hint="Backbone and tokenizer do not belong together: check model.tokenizer.",
        )
    stand_in = tokenizer.pad_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    names = listing(sorted(token for _, token in beyond), 4)
    return stand_in, [
        f"{names} have no embedding; in a text they count as {tokenizer.convert_ids_to_tokens(stand_in)}"
    ]
