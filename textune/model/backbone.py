"""A pretrained backbone with Hugging Face's own head, as one module from TokenBatch to logits.

    load_tokenizer -> load_model -> TextModel(batch) -> logits -> save: a plain Hugging Face folder

Shapes: B rows, T packed tokens, L tokens of the longest row, C logits.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional

from textune.batches import GROUP_COST_TOKENS, Layout, TokenBatch
from textune.config import ModelSection
from textune.data import LabelMap
from textune.errors import ModelError
from textune.model.accelerator import Accelerator
from textune.model.attention import PACKED, PackedLayout
from textune.model.families import PACKED_FAMILIES, PADDED_FAMILIES
from textune.model.freeze import freeze_parts
from textune.model.heads import PADDED_HEADS, reads_last_position
from textune.model.labelhead import about_new_head, change_head, plan_head, wanted_head
from textune.model.positions import max_positions
from textune.model.pretrained import (
    PICKLE_HINT,
    Pretrained,
    checkpoint_labels,
    find_pretrained,
    override_config,
    quiet_transformers,
    read_config,
    require_weights,
)
from textune.model.tokenizer import load_tokenizer
from textune.model.varlen import attention_obstacle
from textune.model.vocabulary import CompactVocabulary, compact_vocabulary
from textune.wording import listing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TextModel", "checkpoint_labels", "load_model", "load_tokenizer", "require_backbone"]

ROUND_TO = 16
"""A packed batch is filled up to a multiple of so many tokens ..."""
ROUND_FROM = 256
"""... if it has so many: one short text alone should not wait for filler."""


class TextModel(nn.Module):
    """A Hugging Face sequence classifier that computes packed batches without padding, where its family allows it.

    `hf` is the Hugging Face model, `layout` what batches must look like, `reason` why; `notes` say which weights start new or
    are not used; `pad_id` fills the padding of batches.
    """

    def __init__(
        self,
        hf: Any,
        *,
        pad_id: int,
        attention: Literal["auto", "packed", "padded"] = "auto",
        compile: Literal["auto", "on", "off"] = "auto",
        notes: tuple[str, ...] = (),
        unknown_id: int | None = None,
    ) -> None:
        """ModelError where `attention` is "packed" and the family cannot. `unknown_id` stands for ids without an embedding."""
        super().__init__()
        self.hf = hf
        self.pad_id = pad_id
        self.notes = notes
        self.layout: Layout = "padded"
        self.accelerator = Accelerator(hf, compile)
        self._unknown_id = unknown_id
        self._num_ids = len(hf.get_input_embeddings().weight)
        self._vocabulary: CompactVocabulary | None = None
        _require_capped_scores(hf)
        self._own_attention = hf.config._attn_implementation
        self._accepted = frozenset(inspect.signature(hf.forward).parameters)
        self._base_accepted = frozenset(inspect.signature(hf.base_model.forward).parameters)
        # A table of one token type, or none, has nothing to choose from.
        self._has_types = getattr(hf.config, "type_vocab_size", 2) > 1
        self._obstacle = _obstacle_to_packing(hf)
        self.reason = 'model.attention = "padded"' if attention == "padded" else self._obstacle
        if attention == "packed" or (attention == "auto" and not self._obstacle):
            self.set_layout("packed")
            self.reason = f"{hf.config.model_type} computes attention row by row, without padding"

    def set_layout(self, layout: Layout) -> None:
        """Expect packed or padded batches from now on; ModelError where the family cannot run packed."""
        if layout == "packed" and self._obstacle:
            raise ModelError(
                f'model.attention = "packed", but {self._obstacle}.',
                hint='Use "auto", or a family that runs packed: bert, modernbert, llama and others (docs/architecture.md).',
            )
        if layout != self.layout:
            attention = PACKED if layout == "packed" else self._own_attention
            with quiet_transformers():
                self.hf.set_attn_implementation(attention)
            # It is not set where the family computes attention itself, but read by what compiles layers; and some releases of
            # transformers pass over submodels with a copy of the configuration, such as T5's stacks.
            for module in self.hf.modules():
                if isinstance(module, transformers.PreTrainedModel):
                    module.config._attn_implementation = attention
            family = PACKED_FAMILIES[self.hf.config.model_type]
            for module, forward in family.forwards(self.hf):
                if layout == "packed":
                    module.forward = forward
                else:
                    del module.forward
        self.layout = layout

    @property
    def max_positions(self) -> int | None:
        """The longest row in tokens that the backbone is made for; None where its positions are relative."""
        return max_positions(self.hf)

    @property
    def num_parameters(self) -> int:
        """Parameters of the model as it is saved."""
        return sum(p.numel() for p in self.parameters()) + (self._vocabulary.num_left_out if self._vocabulary else 0)

    def compact_vocabulary(self, token_ids: Iterable[np.ndarray], *, mode: Literal["auto", "on", "off"], optimizer: str) -> str:
        """Train only the token embeddings that occur in `token_ids`, where that is exact; returns the fact in words.

        Afterwards the model computes texts of those tokens alone, until it is saved and loaded. Arguments and errors are those
        of `textune.model.vocabulary.compact_vocabulary`; call it once, before the model moves to its device.
        """
        always = [self.pad_id] if self._unknown_id is None else [self.pad_id, self._unknown_id]
        self._vocabulary, fact = compact_vocabulary(self.hf, token_ids, always=always, mode=mode, optimizer=optimizer)
        return fact

    def group_cost(self, dtype: torch.dtype) -> int:
        """What a group of rows costs this model in products of `dtype`: nothing where attention takes all rows in one call."""
        by_kernels = self.accelerator.kernels is not None and not self.accelerator.has_other_attention
        one_call = by_kernels or not attention_obstacle(self.hf.device, dtype, self.hf.config)
        return 0 if one_call else GROUP_COST_TOKENS

    def speed_up(
        self, dtype: torch.dtype, *, training: bool, lengths: np.ndarray | None = None, earlier: str | None = None
    ) -> None:
        """Take the compiled kernels, where they can be used on the device where the model is now and are the faster way.

        `dtype` is that of the products, `lengths` are those of the rows in tokens; arguments and errors are those of
        `Accelerator.prepare`.
        """
        self.accelerator.prepare(self.layout, dtype, training=training, lengths=lengths, earlier=earlier)

    def compile_steps(self, num_steps: int, dtype: torch.dtype) -> None:
        """The same for training so many steps on a GPU, where compilation takes place in the first steps."""
        self.accelerator.compile_steps(num_steps, dtype)

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Logits float32 [B, C] of a batch in this model's layout, in the order of its rows."""
        ids_T = batch.ids_T
        if self._unknown_id is not None:
            ids_T = ids_T.masked_fill(ids_T >= self._num_ids, self._unknown_id)
        logits_BC = self._packed(ids_T, batch) if self.layout == "packed" else self._padded(ids_T, batch)
        return logits_BC.float()

    def _packed(self, ids_T: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        family = PACKED_FAMILIES[self.hf.config.model_type]
        num_filler = _num_filler(len(ids_T))
        layout = PackedLayout(
            batch.groups,
            batch.lengths_B,
            batch.row_lengths,
            num_filler=num_filler,
            kernels=self.accelerator.kernels,
            reads_first=family.reads_only_first(self.hf),
            in_one_call=not attention_obstacle(ids_T.device, self._compute_dtype(ids_T.device), self.hf.config),
        )
        ids_T = functional.pad(ids_T, (0, num_filler), value=self.pad_id)
        positions_T = functional.pad(batch.positions_T, (0, num_filler))
        inputs: dict[str, Any] = {
            "input_ids": ids_T.unsqueeze(0),
            "position_ids": family.positions(self.hf, ids_T, positions_T, layout).unsqueeze(0),
            # Never read; its absence would make some families warn of padding.
            "attention_mask": torch.ones_like(ids_T).unsqueeze(0),
            "textune_layout": layout,
        }
        if batch.types_T is not None and self._has_types and "token_type_ids" in self._base_accepted:
            inputs["token_type_ids"] = functional.pad(batch.types_T, (0, num_filler)).unsqueeze(0)
        if "use_cache" in self._base_accepted:
            inputs["use_cache"] = False
        hidden_TH = family.encode(self.hf, inputs).squeeze(0)
        return family.pool(self.hf, hidden_TH, ids_T, layout)

    def _compute_dtype(self, device: torch.device) -> torch.dtype:
        dtype: torch.dtype = self.hf.dtype
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else dtype

    def _padded(self, ids_T: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        assert len(batch.groups) == 1, f"a padded batch is one group, not {len(batch.groups)}"
        (group,) = batch.groups
        tensors = {"input_ids": ids_T.view(group)}
        if batch.types_T is not None and self._has_types and "token_type_ids" in self._accepted:
            tensors["token_type_ids"] = batch.types_T.view(group)
        steps_L = torch.arange(group.length, device=ids_T.device)
        tensors["attention_mask"] = (steps_L < batch.lengths_B.unsqueeze(1)).long()
        if reads_last_position(self.hf.config):
            # Padding moves from behind each row to its front.
            source_BL = (steps_L - (group.length - batch.lengths_B.unsqueeze(1))) % group.length
            tensors = {name: tensor.gather(1, source_BL) for name, tensor in tensors.items()}
        head = PADDED_HEADS.get(self.hf.config.model_type)
        if head is not None:
            return head(self.hf, tensors)
        options = {"use_cache": False} if "use_cache" in self._accepted else {}
        logits: torch.Tensor = self.hf(**tensors, **options).logits
        return logits

    def take_vocabulary(self, kept_K: np.ndarray) -> None:
        """Hold only the token embeddings of the ids `kept_K`, as a run did that had compacted them."""
        self._vocabulary = CompactVocabulary(self.hf, kept_K)

    @property
    def kept_ids(self) -> torch.Tensor | None:
        """The ids, int64 [K], whose token embeddings are trained; None where all are."""
        return None if self._vocabulary is None else self._vocabulary.kept_ids

    @property
    def left_out_fingerprint(self) -> str:
        """Hash of the token embeddings that are not trained and so in no checkpoint; empty where all are."""
        return "" if self._vocabulary is None else self._vocabulary.fingerprint

    def save_config(self, folder: Path) -> None:
        """Write config.json as `save` does."""
        config = copy.deepcopy(self.hf.config)
        config.architectures = [type(self.hf).__name__]
        config._attn_implementation = self._own_attention
        config.save_pretrained(folder)

    def save(self, folder: Path, state: dict[str, torch.Tensor] | None = None) -> None:
        """Write config.json and model.safetensors (float32) that plain transformers loads; `folder` must exist.

        `state` is that of the Hugging Face model, where this process holds only parts of it.
        """
        layout = self.layout
        self.set_layout("padded")
        try:
            with quiet_transformers():
                state = self.hf.state_dict() if state is None else state
                self.hf.save_pretrained(folder, state_dict=self._vocabulary.restored(state) if self._vocabulary else state)
        finally:
            self.set_layout(layout)


def load_model(
    section: ModelSection,
    tokenizer: PreTrainedTokenizerBase,
    *,
    label_map: LabelMap,
    num_logits: int,
    seed: int,
    as_saved: bool = False,
) -> TextModel:
    """The backbone in fp32 with a head of `num_logits` outputs for the problem of `label_map`.

    Weights that the checkpoint lacks (the head) depend on `seed` alone. A head that was trained before keeps the rows of those
    labels that it knows by name; `as_saved` says that it was saved for this very label map, and takes it as it stands. One
    logit for two classes is saved as a sigmoid output named after the second label, which is how transformers' own pipeline
    reads it. Raises ModelError for files that are missing, broken, of another shape or incomplete, ConfigError for
    `model.config` and `model.freeze`.
    """
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    config = read_config(found)
    require_weights(found)
    head = wanted_head(label_map, num_logits)
    change = None if as_saved else plan_head(found, config, head)
    if change is None or not change.earlier_size:
        head.describe_on(config)
    override_config(config, section.config)
    text_config = config.get_text_config()
    if getattr(text_config, "pad_token_id", None) is None or text_config.pad_token_id < 0:
        text_config.pad_token_id = tokenizer.pad_token_id
    hf, info = _read_weights(found, config, seed=seed)
    new_tensors = _new_tensors(found, hf, info, section)
    if hasattr(hf, "score"):
        # Heads that read the last token look for it by the pad id.
        text_config.pad_token_id = tokenizer.pad_token_id
    unknown_id, notes = _unembedded(found, hf, tokenizer)
    if change is not None:
        notice = change_head(hf, change, head, found=found, new_tensors=new_tensors, seed=seed)
        notes += [notice] if notice else []
    if new_tensors:
        notes.append(about_new_head(hf, new_tensors, label_map))
    if info["unexpected_keys"]:
        notes.append(f"{listing(sorted(info['unexpected_keys']), 4)} of the checkpoint are not used")
    freeze_parts(hf, section.freeze, new_tensors=new_tensors)
    assert isinstance(tokenizer.pad_token_id, int)
    return TextModel(
        hf,
        pad_id=tokenizer.pad_token_id,
        attention=section.attention,
        compile=section.compile,
        notes=tuple(notes),
        unknown_id=unknown_id,
    )


def require_backbone(section: ModelSection) -> None:
    """Raise early what `load_model` finds wrong before it reads weights: the folder, its files, `model.config`."""
    found = find_pretrained(section.pretrained, section, key="model.pretrained")
    override_config(read_config(found), section.config)
    require_weights(found)


def _num_filler(num_tokens: int) -> int:
    """Tokens that round a large batch up, so that few sizes occur: oneDNN builds new kernels for each."""
    return -num_tokens % ROUND_TO if num_tokens >= ROUND_FROM else 0


def _require_capped_scores(hf: Any) -> None:
    """Cap the scores of the padded layout where the backbone does: some releases of transformers choose an SDPA that cannot."""
    capped = getattr(hf.config.get_text_config(), "attn_logit_softcapping", None) is not None
    if capped and hf.config._attn_implementation == "sdpa":
        hf.set_attn_implementation("eager")


def _obstacle_to_packing(hf: Any) -> str:
    """Why this model cannot run packed; empty where it can."""
    family = hf.config.model_type
    if not type(hf).__module__.startswith("transformers."):
        return f"{type(hf).__name__} is code of its own"
    if family not in PACKED_FAMILIES:
        return (
            f"{family} {PADDED_FAMILIES[family]}" if family in PADDED_FAMILIES else f"textune knows no packed form of {family}"
        )
    if PACKED_FAMILIES[family].registered and "ALL_ATTENTION_FUNCTIONS" not in vars(sys.modules[type(hf).__module__]):
        return f"this release of transformers computes attention of {family} by itself"
    if getattr(hf.config, "chunk_size_feed_forward", 0):
        return "chunk_size_feed_forward needs rows of a fixed length"
    return ""


def _read_weights(found: Pretrained, config: Any, *, seed: int) -> tuple[Any, dict[str, Any]]:
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            # Shapes that differ are judged by `_new_tensors`, which can name both.
            hf, info = transformers.AutoModelForSequenceClassification.from_pretrained(
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
            raise ModelError(f"{found.key}: the {found.where} has no safetensors weights.", hint=PICKLE_HINT) from error
        raise found.error(error, "weights") from error
    except (ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        if "Unrecognized configuration class" in str(error):
            raise ModelError(
                f"{found.key}: transformers has no sequence classifier for {config.model_type} ({found.where}).",
                hint="Choose a text backbone.",
            ) from error
        raise found.error(error, "a model") from error
    _own(hf)
    return hf, info


def _own(hf: Any) -> None:
    """Copy the weights, which are views of the mapped file: one that is replaced, cut or removed later must not matter."""
    copies: dict[Any, torch.Tensor] = {}  # weights that are tied stay tied, also where two parameters share them
    for tensor in (*hf.parameters(), *hf.buffers()):
        # All empty tensors have the address 0, and a transposed one that of the other.
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if key not in copies:
            copies[key] = tensor.detach().clone()
        tensor.data = copies[key]


def _new_tensors(found: Pretrained, hf: Any, info: dict[str, Any], section: ModelSection) -> list[str]:
    """Names of the head's tensors that start random; ModelError for any other, since it would silently spoil the backbone."""
    lost = sorted(name for name in info["missing_keys"] if not _is_head(hf, name))
    if lost:
        raise ModelError(
            f"{found.key}: the {found.where} lacks {len(lost)} weights of a {hf.config.model_type} backbone,"
            f" such as {lost[0]}.",
            hint="They would start random. " + ("Check model.config." if section.config else "Choose a complete checkpoint."),
        )
    for name, saved, wanted in sorted(info["mismatched_keys"]):
        if section.ignore_mismatched_sizes and _is_head(hf, name):
            continue
        raise ModelError(
            f"{found.key}: {name} is {tuple(saved)} in the {found.where}, but must be {tuple(wanted)} here.",
            hint="Set model.ignore_mismatched_sizes = true to start the head anew."
            if _is_head(hf, name)
            else "Only a head can start anew: check model.config and the checkpoint's config.json.",
        )
    return sorted(info["missing_keys"] | {name for name, _, _ in info["mismatched_keys"]})


def _is_head(hf: Any, name: str) -> bool:
    """Poolers count as heads: checkpoints of language models often lack them."""
    return "pooler" in name.split(".") or (hf.base_model is not hf and not name.startswith(hf.base_model_prefix + "."))


def _unembedded(found: Pretrained, hf: Any, tokenizer: Any) -> tuple[int | None, list[str]]:
    """What stands for token ids without an embedding, and a note; (None, []) where all have one. Embeddings are never resized.

    Some checkpoints have special tokens for images or sounds behind the last embedding: a text that spells one out gets the
    unknown token. ModelError where ordinary tokens, or special ones that every row contains, are beyond the embeddings.
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
            f'{found.key}: the tokenizer has {beyond[-1][0] + 1} token ids ("{wrong[1]}" is {wrong[0]}), but the {found.where}'
            f" only {rows} embeddings.",
            hint="Backbone and tokenizer do not belong together: check model.tokenizer.",
        )
    stand_in = tokenizer.pad_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    names = listing(sorted(token for _, token in beyond), 4)
    return stand_in, [f"{names} have no embedding; in a text they count as {tokenizer.convert_ids_to_tokens(stand_in)}"]
