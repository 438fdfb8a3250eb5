"""From files to a model of transformers with their weights, whatever its head is for; between `pretrained.py` and
`loading.py`, `language.py`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from textune.config import Model, ModelSection, PythonModel
from textune.errors import ModelError
from textune.model.adapterfolder import SavedAdapters
from textune.model.adapters import is_adapter
from textune.model.beneath import another_backbone, bases, frozen_hash
from textune.model.gptq import PackedLayer, read_packed
from textune.model.hugging import HuggingConfig, HuggingModel, Options
from textune.model.mapped import MappedFiles
from textune.model.origin import BackboneNote
from textune.model.ownconfig import OWN_TYPE
from textune.model.pretrained import PICKLE_HINT, Pretrained, quiet_transformers, require_weights
from textune.wording import listing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def overrides(section: Model) -> Options:
    """Changes to the backbone's configuration."""
    return section.options if isinstance(section, PythonModel) else section.config


def key_of_overrides(section: Model) -> str:
    """The setting that they come from."""
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
class Kind:
    """What files are read as."""

    classes: Any
    """The class of transformers that chooses one by the configuration."""
    name: str
    """What messages call it."""
    mapping: Collection[type]
    """The classes of the configurations of its families."""
    starts_new: Callable[[HuggingModel, str], bool]
    """Whether a weight of that name may start random where files lack it."""
    trained_whole: Callable[[HuggingModel, Iterable[str]], frozenset[str]]
    """The weights that are trained as they are beside adapters, from those that start new."""
    head: Callable[[HuggingModel], set[str]]
    """The weights that adapters are always saved with."""
    hint: str
    """What to do where a family has none."""

    def knows(self, config: HuggingConfig) -> bool:
        """Whether transformers, or code that comes with the checkpoint, has one of this family."""
        own_code = getattr(config, "auto_map", None) or {}
        return self.classes.__name__ in own_code or type(config) in self.mapping


@dataclass(frozen=True)
class Read:
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


def read_model(
    section: Model, found: Pretrained, saved: SavedAdapters | None, config: HuggingConfig, kind: Kind, *, seed: int
) -> Read:
    """The model of the files `found`, or of the backbone of the adapters `saved` there, in fp32 and on the CPU.

    What starts new depends on `seed` alone. ModelError for files that are missing, broken, of another shape or
    incomplete.
    """
    if saved is None:
        return _read_plain(section, found, config, kind, seed=seed)
    return _read_beneath(section, found, saved, config, kind, seed=seed)


def _read_plain(section: Model, found: Pretrained, config: HuggingConfig, kind: Kind, *, seed: int) -> Read:
    require_weights(found)
    hf, info, packed = _read_weights(found, config, kind, seed=seed)
    new_tensors = _new_tensors(found, hf, info, section, kind)
    whole = kind.trained_whole(hf, new_tensors)
    note = BackboneNote(name=section.pretrained, revision=section.revision).found_in(found.folder)
    return Read(hf, new_tensors, sorted(info["unexpected_keys"]), whole, note, packed)


def _read_beneath(
    section: Model,
    found: Pretrained,
    saved: SavedAdapters,
    config: HuggingConfig,
    kind: Kind,
    *,
    seed: int,
) -> Read:
    """The backbone of saved adapters, with what was trained as a whole; the first that is found and has the same
    weights."""
    others: dict[str, str] = {}
    for base in bases(saved, section):
        try:
            hf, info, packed = _read_weights(base, copy.deepcopy(config), kind, seed=seed)
            new_tensors = _new_tensors(base, hf, info, section, kind, known=saved.whole)
        except ModelError as error:
            if not saved.backbone.fingerprint:
                raise
            reason = error.message.removeprefix(f"{base.key}: ").rstrip(".")
            others[base.name] = f"others, which do not fit: {reason}"
            continue
        whole = kind.trained_whole(hf, {*new_tensors, *saved.trained_whole})
        fingerprint = frozen_hash(hf, whole)
        if saved.backbone.fingerprint not in ("", fingerprint):
            others[base.name] = fingerprint
            continue
        saved.require_layers(hf)
        saved.place_whole(hf, kind.head(hf))
        note = saved.backbone.found_in(base.folder, fingerprint)
        return Read(hf, new_tensors, sorted(info["unexpected_keys"]), whole, note, packed)
    raise another_backbone(saved, found, others)


def _read_weights(
    found: Pretrained, config: HuggingConfig, kind: Kind, *, seed: int
) -> tuple[HuggingModel, dict[str, Any], dict[str, PackedLayer]]:
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Shapes that differ are judged by `_new_tensors`, which can name both.
            hf, info = kind.classes.from_pretrained(
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
        if not kind.knows(config):
            raise no_class(found, config, kind) from error
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


def no_class(found: Pretrained, config: HuggingConfig, kind: Kind) -> ModelError:
    """The error for a family that has no model of this kind."""
    return ModelError(
        f"{found.key}: transformers has no {kind.name} for {config.model_type} ({found.where}).",
        hint=kind.hint,
        key=found.key,
        value=found.name,
        reason=config.model_type,
    )


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
    found: Pretrained,
    hf: HuggingModel,
    info: dict[str, Any],
    section: Model,
    kind: Kind,
    *,
    known: Collection[str] = (),
) -> list[str]:
    """Names of the head's tensors that start random; ModelError for any other, since it would silently spoil the
    backbone. Those that are `known` come from elsewhere."""
    lost = sorted(name for name in info["missing_keys"] if not kind.starts_new(hf, name) and name not in known)
    if lost:
        raise ModelError(
            f"{found.key}: the {found.where} lacks {len(lost)} weights of a {hf.config.model_type} backbone,"
            f" such as {lost[0]}.",
            hint="They would start random. "
            + (f"Check {key_of_overrides(section)}." if overrides(section) else "Choose a complete checkpoint."),
        )
    for name, saved, wanted in sorted(info["mismatched_keys"]):
        if name in known:
            continue
        if isinstance(section, ModelSection) and section.ignore_mismatched_sizes and kind.starts_new(hf, name):
            continue
        raise ModelError(
            f"{found.key}: {name} is {tuple(saved)} in the {found.where}, but must be {tuple(wanted)} here.",
            hint="Set model.ignore_mismatched_sizes = true to start the head anew."
            if kind.starts_new(hf, name)
            else "Only a head can start anew: check model.config and the checkpoint's config.json.",
        )
    return sorted((info["missing_keys"] | {name for name, _, _ in info["mismatched_keys"]}) - set(known))


def unembedded(
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
