"""From the files of a pretrained model to a `TextModel`: weights read, head settled; between `backbone.py` and
`recipe.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import transformers

from textune.config import Model, ModelSection, Pooling, PythonModel
from textune.data import LabelMaps
from textune.model.adapterfolder import read_adapters
from textune.model.adapters import require_adapters
from textune.model.backbone import TextModel
from textune.model.beneath import AdapterFiles, bases, go_on, trained_whole
from textune.model.depth import head_names
from textune.model.families import why_padded
from textune.model.freeze import frozen_names
from textune.model.gptq import require_adapters_beside, require_readable, without_note
from textune.model.hugging import HuggingModel
from textune.model.labelhead import Head, about_new_head, change_head, plan_head, wanted_head
from textune.model.meanlayer import read_mean
from textune.model.origin import BackboneNote
from textune.model.own import OwnModel, as_hugging, is_of_transformers, is_stock, require_own_model
from textune.model.ownloading import load_own
from textune.model.pooling import cannot_pool
from textune.model.pretrained import (
    Pretrained,
    find_pretrained,
    override_config,
    read_config,
    require_weights,
)
from textune.model.reading import Kind, key_of_overrides, overrides, read_model, refuse_own, unembedded
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
    for_few: bool = False,
) -> TextModel:
    """The backbone in fp32 with a head of `num_logits` outputs for what `label_maps` say, by head.

    Weights that the checkpoint lacks (the head) depend on `seed` alone. A head that was trained before keeps the rows
    of those labels that it knows by name; `as_saved` says that it was saved for these very label maps, and takes it as
    it stands. One logit for two classes is saved as a sigmoid output named after the second label, which is how
    transformers' own pipeline reads it. `pooling`: how the windows of a text are pooled, with what the files have
    learned of it. `for_few`: the head is to be fitted, so it reads the mean of the tokens where its family can.
    Raises ModelError for files that are missing, broken, of another shape or incomplete, ConfigError for
    `model.config`, `model.freeze` and `model.unfreeze`. A class of the user's own is imported (CodeError where it
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
    model = _load_found(section, found, code, tokenizer, head, seed=seed, as_saved=as_saved, for_few=for_few)
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
    for_few: bool,
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
    override_config(without_note(config), overrides(section), key=key_of_overrides(section))
    text_config = config.get_text_config()
    if getattr(text_config, "pad_token_id", None) is None or text_config.pad_token_id < 0:
        text_config.pad_token_id = tokenizer.pad_token_id
    kind = CLASSIFIER if code is None else replace(CLASSIFIER, classes=code.target)
    read = read_model(section, found, saved, config, kind, seed=seed)
    hf, new_tensors = read.hf, read.new_tensors
    backbone: BackboneNote | None = read.backbone
    packed = read.packed
    if hasattr(hf, "score"):
        # Heads that read the last token look for it by the pad id.
        text_config.pad_token_id = tokenizer.pad_token_id
    unknown_id, notes = unembedded(found, hf, tokenizer)
    if change is not None:
        notice = change_head(hf, change, head, found=found, new_tensors=new_tensors, seed=seed)
        notes += [notice] if notice else []
    if for_few:
        notes.append(read_mean(hf, found.folder))
    elif new_tensors:
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
        notes=tuple(note for note in notes if note),
        unknown_id=unknown_id,
        frozen=frozen,
        whole=read.whole,
        files=AdapterFiles(saved, backbone),
        packed=packed,
    )


def is_head(hf: HuggingModel, name: str) -> bool:
    """Poolers count as heads: checkpoints of language models often lack them."""
    return "pooler" in name.split(".") or (
        id(hf.base_model) != id(hf) and not name.startswith(hf.base_model_prefix + ".")
    )


CLASSIFIER = Kind(
    classes=transformers.AutoModelForSequenceClassification,
    name="sequence classifier",
    mapping=transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    starts_new=is_head,
    trained_whole=trained_whole,
    head=head_names,
    hint="Choose a text backbone.",
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
        override_config(without_note(config), overrides(section), key=key_of_overrides(section))
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
