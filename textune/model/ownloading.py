"""From a class of the user's own to a `TextModel`: a new model, or one that a run saved; beside `loading.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from textune.config import PythonModel
from textune.errors import ModelError
from textune.model.backbone import TextModel
from textune.model.freeze import frozen_names
from textune.model.hugging import HuggingConfig, HuggingModel
from textune.model.labelhead import Head
from textune.model.own import OwnModel, as_hugging, is_of_transformers
from textune.model.ownconfig import OWN_TYPE, OwnConfig
from textune.model.pretrained import find_pretrained, override_config, read_config, require_weights
from textune.owncode import OwnObject

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_own(
    section: PythonModel,
    code: OwnObject,
    tokenizer: PreTrainedTokenizerBase,
    head: Head,
    *,
    seed: int,
    as_saved: bool = False,
) -> TextModel:
    """The user's module in fp32, with new weights that depend on `seed` alone, or with those of `model.pretrained`; a
    class of transformers with new weights.

    `as_saved`: made as it was when it was saved, whatever the tokenizer. CodeError where the class fails, ModelError
    for weights that are not its own.
    """
    if is_of_transformers(code):
        return _new_of_transformers(section, code, tokenizer, head, seed=seed)
    config = OwnConfig(section.object, section.options, len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    found = None
    if section.pretrained:
        found = find_pretrained(section.pretrained, section, key="model.pretrained")
        saved = read_config(found)
        require_weights(found)
        if saved.model_type != OWN_TYPE or saved.object != section.object:
            other = saved.object if saved.model_type == OWN_TYPE else f"a {saved.model_type}"
            raise ModelError(
                f"model.pretrained: the {found.where} holds {other}, not {section.object}.",
                hint="Leave it out to start with new weights (model.tokenizer then names a tokenizer).",
                key="model.pretrained",
                value=section.pretrained,
            )
        if as_saved:
            config.vocab_size, config.pad_token_id = saved.vocab_size, saved.pad_token_id
    head.describe_on(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf = OwnModel(config, code)
    if found is not None:
        hf.take_weights(found)
    return _text_model(section, as_hugging(hf), tokenizer, new=found is None, name=hf.name)


def _new_of_transformers(
    section: PythonModel, code: OwnObject, tokenizer: PreTrainedTokenizerBase, head: Head, *, seed: int
) -> TextModel:
    """A model of a class of transformers in fp32 with new weights, which depend on `seed` alone.

    ConfigError for options that its configuration does not know, CodeError where the class fails.
    """
    kind = code.target.config_class
    override_config(kind(), section.options, key="model.options")
    with code.calling("while it is made"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config: HuggingConfig = kind(
            **{"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id} | section.options
        )
        head.describe_on(config)
        hf = code.target(config).float()
    return _text_model(section, hf, tokenizer, new=True, name=code.target.__name__)


def _text_model(
    section: PythonModel, hf: HuggingModel, tokenizer: PreTrainedTokenizerBase, *, new: bool, name: str
) -> TextModel:
    names = [path for path, _ in hf.named_parameters()]
    if not names:
        raise ModelError(f"model.object: {name} has no parameters to train.", key="model.object", value=section.object)
    assert isinstance(tokenizer.pad_token_id, int)
    return TextModel(
        hf,
        pad_id=tokenizer.pad_token_id,
        attention=section.attention,
        compile="off",
        notes=(f"All weights of {name} are new and will be trained.",) if new else (),
        frozen=frozen_names(hf, section, new_tensors=names if new else ()),
        # Code of the user's own may make of its files what it likes.
        whole=frozenset(names),
    )
