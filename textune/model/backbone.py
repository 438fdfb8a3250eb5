"""A pretrained backbone with Hugging Face's own head, as one module from TokenBatch to outputs.

    load_tokenizer -> load_model -> TextModel(batch) -> outputs -> save: a plain Hugging Face folder

What outputs are is up to its face (`faces.py`): logits of a classifier, or how unlikely a language model finds rows.

Shapes: B rows, T packed tokens, L tokens of the longest row, C outputs.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from textune.batches import GROUP_COST_TOKENS, NO_PADDING, Layout, Padding, TokenBatch, Tokens, WindowedBatch
from textune.config import AttentionLayout, Lora, Pooling, Quantize, Switch
from textune.model.accelerator import Accelerator
from textune.model.adapters import Adapters, adapt, inject, is_adapter, merged, plain_name
from textune.model.attention import PackedLayout, filler_after, require_capped_scores
from textune.model.beneath import AdapterFiles
from textune.model.device import dtype_of_products
from textune.model.faces import ClassifierFace, Face
from textune.model.families import PACKED_FAMILIES, attend_in, cannot_pack
from textune.model.frozen import FrozenWeights
from textune.model.gptq import PackedLayer
from textune.model.heads import padded_tensors
from textune.model.hugging import Forward, HuggingModel, Options
from textune.model.lowbits import LowBits, put_packed, quantize_beneath
from textune.model.ondisk import TableOnDisk, large_frozen_table, put_on_disk
from textune.model.origin import AdapterNote
from textune.model.own import OwnModel, as_own, class_name
from textune.model.pooling import POOLING_PREFIX, WindowPooling, cannot_pool
from textune.model.positions import max_positions
from textune.model.pretrained import quiet_transformers
from textune.model.varlen import attention_obstacle
from textune.model.vocabulary import CompactVocabulary, compact_vocabulary, occurring_ids


class TextModel(nn.Module):
    """A model of Hugging Face that computes packed batches without padding, where its family allows it.

    `hf` is the Hugging Face model, `layout` and `padding` what batches must look like, `reason` why; `notes` say which
    weights start new or are not used; `pad_id` fills the padding of batches.
    """

    def __init__(
        self,
        hf: HuggingModel,
        *,
        pad_id: int,
        attention: AttentionLayout = "auto",
        compile: Switch = "auto",
        notes: tuple[str, ...] = (),
        unknown_id: int | None = None,
        frozen: frozenset[str] = frozenset(),
        whole: frozenset[str] = frozenset(),
        files: AdapterFiles | None = None,
        packed: Mapping[str, PackedLayer] | None = None,
        face: Face | None = None,
    ) -> None:
        """ModelError where `attention` is "packed" and the family cannot. `unknown_id` stands for ids without an
        embedding, `frozen` names the weights of `hf` that `freeze` takes out of training, `whole` those that are
        trained beside adapters and are part of every checkpoint: the head, and what starts new. `files`: where
        adapters are as files, and what they stand beside; `packed`: the layers whose weights have few bits
        there. `face`: what the model gives out, a classifier's logits by default."""
        super().__init__()
        self.hf = hf
        self.pad_id = pad_id
        self.notes = notes
        self.layout: Layout = "padded"
        self.padding = NO_PADDING
        self.accelerator = Accelerator(hf, compile)
        self._unknown_id = unknown_id
        self.pooling: WindowPooling | None = None
        """Makes one vector of those of an example's windows; None where every example is one row."""
        self._frozen = frozen
        self._whole = whole
        self.frozen_weights = FrozenWeights(self, whole)
        self.files = files or AdapterFiles()
        self.adapters: Adapters | None = None
        """What is trained beside frozen weights; None where no adapters were put there."""
        self._packed = packed or {}
        self.low_bits: LowBits | None = None
        """The layers whose weights have few bits; None where none were given any."""
        self._num_ids = 0 if unknown_id is None else len(hf.get_input_embeddings().weight)
        self._vocabulary: CompactVocabulary | None = None
        self._table_on_disk: TableOnDisk | None = None
        require_capped_scores(hf)
        self._own_attention = hf.config._attn_implementation
        self._accepted = frozenset(inspect.signature(hf.forward).parameters)
        self.face: Face = ClassifierFace(hf, self._accepted) if face is None else face
        self._base_accepted = frozenset(inspect.signature(hf.base_model.forward).parameters)
        # A table of one token type, or none, has nothing to choose from.
        self._has_types = getattr(hf.config, "type_vocab_size", 2) > 1
        self._obstacle = self.face.packing_obstacle()
        self.reason = 'model.attention = "padded"' if attention == "padded" else self._obstacle
        if attention == "packed" or (attention == "auto" and not self._obstacle):
            self.set_layout("packed")
            self.reason = f"{hf.config.model_type} computes attention row by row, without padding"
        if (own := self.own) is not None:
            self.accelerator.forbid(f"{own.name} is code of its own", hint="Leave it out")
            self.reason = self.reason if self.layout == "padded" else f"{own.name} has forward_packed"

    def pad_rows(self, padding: Padding, *, reason: str) -> None:
        """Run padded from now on, with rows of such lengths."""
        self.set_layout("padded")
        self.padding, self.reason = padding, reason

    def set_layout(self, layout: Layout) -> None:
        """Expect packed or padded batches from now on; ModelError where the family cannot run packed."""
        if layout == "packed" and self._obstacle:
            raise cannot_pack(self._obstacle)
        if layout != self.layout and self.own is None:
            attend_in(layout, self.hf, padded=self._own_attention)
        self.layout = layout

    @property
    def own(self) -> OwnModel | None:
        """The model, where it is code of the user's own."""
        return as_own(self.hf)

    @property
    def max_positions(self) -> int | None:
        """The longest row in tokens that the backbone is made for; None where its positions are relative."""
        return max_positions(self.hf)

    @property
    def reads_types(self) -> bool:
        """Whether the backbone has token types to choose from, and reads zeros where a batch has none."""
        types = getattr(self.hf.config, "type_vocab_size", None) or 0
        return types > 1 and "token_type_ids" in self._accepted

    @property
    def num_parameters(self) -> int:
        """Parameters of the model as it is saved, without adapters."""
        own = sum(p.numel() for name, p in self.named_parameters() if not is_adapter(name))
        packed = self.low_bits.num_weights - self.low_bits.num_tensors if self.low_bits else 0
        return own + packed + (self._vocabulary.num_left_out if self._vocabulary else 0)

    @property
    def num_bytes(self) -> int:
        """Bytes of all weights in memory: adapters and token embeddings that are not trained included."""
        left_out = 4 * self._vocabulary.num_left_out if self._vocabulary else 0
        on_disk = self._table_on_disk.num_bytes if self._table_on_disk else 0
        return sum(parameter.nbytes for parameter in self.parameters()) + left_out - on_disk

    def pool_windows(self, kind: Pooling) -> WindowPooling:
        """Give the model a pooling of windows, which then belongs to its weights; ModelError where its head cannot be
        computed apart from its backbone."""
        if (own := self.own) is not None:
            name, reason = own.name, f"{own.name} is code of its own"
        else:
            name = self.hf.config.model_type
            reason = self.face.pooling_obstacle() if self.layout == "packed" else f"it runs padded: {self.reason}"
        if reason:
            raise cannot_pool(name, reason)
        config = self.hf.config.get_text_config()
        width = getattr(config, "word_embed_proj_dim", None) or config.hidden_size
        self.pooling = WindowPooling(kind, width)
        return self.pooling

    def quantize(self, section: Quantize, dtype: torch.dtype) -> None:
        """Give the backbone's linear layers weights of few bits; once, after the head is settled and before `adapt`.
        `dtype` is the arithmetic of the run; errors are those of `textune.model.lowbits.quantize_beneath`."""
        self._note_plain()
        self.low_bits = quantize_beneath(self.hf, section, whole=self._whole, dtype=dtype)

    def keep_few_bits(self, dtype: torch.dtype) -> None:
        """Give those layers the weights of few bits again that the backbone's files have, if there are any; once,
        after the head is settled and before `adapt`. `dtype` is the arithmetic of the run."""
        if self._packed:
            self._note_plain()
            self.low_bits, self._packed = put_packed(self.hf, self._packed, dtype), {}

    def _note_plain(self) -> None:
        """Note the hashes of weights that are about to get few bits."""
        self.files.note_backbone(self.hf, self._whole)
        self.frozen_weights.note([name for name, _ in self.named_parameters()])

    def adapt(self, lora: Lora, *, seed: int) -> None:
        """Put adapters beside the weights, which are not trained from then on; once, after the head is settled.

        Those that were read with the model, where there are such: they go on as they were saved. Arguments and errors
        are those of `textune.model.adapters.adapt`.
        """
        self.files.note_backbone(self.hf, self._whole)
        if (saved := self.files.saved) is None:
            self.adapters = adapt(self.hf, lora, whole=self._whole, frozen=self._frozen, seed=seed)
        else:
            self.adapters = inject(self.hf, lora, saved.config, saved.layers, whole=self._whole, seed=seed)
            saved.place_beside(self.hf)

    def freeze(self) -> None:
        """Train none of the weights that `model.freeze` names."""
        for name, parameter in self.hf.named_parameters():
            if plain_name(name) in self._frozen:
                parameter.requires_grad_(False)

    def compact_vocabulary(self, token_ids: Iterable[np.ndarray], *, mode: Switch, rule_obstacle: str = "") -> str:
        """Train only the token embeddings that occur in `token_ids`, where that is exact; returns the fact in words.

        Afterwards the model computes texts of those tokens alone, until it is saved and loaded. Arguments and errors
        are those of `textune.model.vocabulary.compact_vocabulary`; call it once, before the model moves to its device.
        """
        rule_obstacle = rule_obstacle or self.face.vocabulary_obstacle()
        always = [self.pad_id] if self._unknown_id is None else [self.pad_id, self._unknown_id]
        self._vocabulary, fact = compact_vocabulary(
            self.hf, token_ids, always=always, mode=mode, rule_obstacle=rule_obstacle
        )
        return fact

    def put_table_on_disk(self, token_ids: Iterable[np.ndarray], folder: Callable[[], Path]) -> str:
        """Hold the token embeddings in a file in `folder`, where they are frozen and large, and in memory those of
        `token_ids`, flat arrays [tokens]. Returns what came of it in words; empty where there is no such table."""
        if (table := large_frozen_table(self.hf)) is None:
            return ""
        self.frozen_weights.note([name for name, parameter in self.named_parameters() if parameter is table])
        read_K = occurring_ids(token_ids, [self.pad_id], num_ids=len(table))
        self._table_on_disk, fact = put_on_disk(table, folder, read_K)
        return fact

    def group_cost(self, dtype: torch.dtype) -> int:
        """What a group of rows costs this model in products of `dtype`: nothing where attention takes all rows in one
        call."""
        if self.own is not None:
            return GROUP_COST_TOKENS
        by_kernels = self.accelerator.kernels is not None and not self.accelerator.has_other_attention
        one_call = by_kernels or not attention_obstacle(self.hf.device, dtype, self.hf.config)
        return 0 if one_call else GROUP_COST_TOKENS

    def speed_up(
        self, dtype: torch.dtype, *, training: bool, lengths: np.ndarray | None = None, earlier: str | None = None
    ) -> None:
        """Take the compiled kernels, where they can be used on the device where the model is now and are the faster
        way.

        `dtype` is that of the products, `lengths` are those of the rows in tokens; arguments and errors are those of
        `Accelerator.prepare`.
        """
        if self.own is None:
            self.accelerator.prepare(self.layout, dtype, training=training, lengths=lengths, earlier=earlier)

    def compile_steps(self, num_steps: int, dtype: torch.dtype) -> None:
        """The same for training this number of steps on a GPU, where compilation takes place in the first steps."""
        if self.own is None:
            self.accelerator.compile_steps(num_steps, dtype)

    def forward(self, batch: Tokens) -> torch.Tensor:
        """Outputs float32 [B, C] of a batch in this model's layout, in the order of its rows, or of its examples where
        these have windows."""
        if isinstance(batch, WindowedBatch):
            return self.face.outputs(self._pooled(batch)).float()
        if (own := self.own) is not None and self.layout == "packed":
            return own.forward_packed(batch).float()
        if self.layout == "packed":
            return self.face.outputs(self._vectors(self._known(batch.ids_T), batch)).float()
        return self.face.of_padded(self.padded_inputs(batch), batch).float()

    def _known(self, ids_T: torch.Tensor) -> torch.Tensor:
        """The ids, those without an embedding replaced."""
        if self._unknown_id is None:
            return ids_T
        return ids_T.masked_fill(ids_T >= self._num_ids, self._unknown_id)

    def _pooled(self, batch: WindowedBatch) -> torch.Tensor:
        """The vectors [B, H] of examples.

        Where there are several parts, memory holds the activations of one at a time: the backward pass computes each
        again, with the same dropout, when its turn comes.
        """
        assert self.pooling is not None, "a batch of windows needs a pooling"
        vectors = []
        for part in batch.parts:
            compute = functools.partial(self._vectors, batch=part)
            ids_T = self._known(part.ids_T)
            again = len(batch.parts) > 1 and torch.is_grad_enabled()
            vectors.append(checkpoint(compute, ids_T, use_reentrant=False) if again else compute(ids_T))
        pooled_BH: torch.Tensor = self.pooling(torch.cat(vectors), batch.places_R, batch.counts_B)
        return pooled_BH

    def _vectors(self, ids_T: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """What the face reads of each row of a packed batch, [B, H]."""
        family = PACKED_FAMILIES[self.hf.config.model_type]
        num_filler = filler_after(len(ids_T))
        dtype = dtype_of_products(self.hf.dtype, ids_T.device)
        layout = PackedLayout(
            batch.groups,
            batch.lengths_B,
            batch.row_lengths,
            num_filler=num_filler,
            kernels=self.accelerator.kernels,
            reads_first=self.face.reads_only_first(),
            in_one_call=not attention_obstacle(ids_T.device, dtype, self.hf.config),
        )
        ids_T = functional.pad(ids_T, (0, num_filler), value=self.pad_id)
        positions_T = functional.pad(batch.positions_T, (0, num_filler))
        inputs: Options = {
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
        return self.face.read(hidden_TH, ids_T, batch, layout)

    def padded_inputs(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        """What the Hugging Face model reads of a padded batch: int64 [B, L] by the name that its forward gives it."""
        takes_types = self._has_types and "token_type_ids" in self._accepted
        return padded_tensors(self.hf.config, batch, self._known(batch.ids_T), takes_types=takes_types)

    def padded_logits(self, inputs: dict[str, torch.Tensor], forward: Forward) -> torch.Tensor:
        """Logits [B, C] of a classifier, from tensors as of `padded_inputs` whose ids may lack an embedding; `forward`
        is that of the Hugging Face model, whose own an exporter has replaced."""
        assert isinstance(self.face, ClassifierFace), "only classifiers are exported"
        return self.face.logits({**inputs, "input_ids": self._known(inputs["input_ids"])}, forward)

    def take_vocabulary(self, kept_K: np.ndarray) -> None:
        """Hold only the token embeddings of the ids `kept_K`, as a run did that had compacted them."""
        self._vocabulary = CompactVocabulary(self.hf, kept_K)

    @property
    def kept_ids(self) -> torch.Tensor | None:
        """The ids, int64 [K], whose token embeddings are trained; None where all are."""
        return None if self._vocabulary is None else self._vocabulary.kept_ids

    @property
    def left_out_fingerprint(self) -> str:
        """Hash of the token embeddings that are not trained since they do not occur, and so are in no checkpoint;
        empty where the table is whole."""
        return "" if self._vocabulary is None else self._vocabulary.fingerprint

    def save_config(self, folder: Path) -> None:
        """Write config.json as `save` does."""
        config = copy.deepcopy(self.hf.config)
        config.architectures = [class_name(self.hf)]
        config._attn_implementation = self._own_attention
        config.save_pretrained(folder)

    def saved_state(self, *, keep_vars: bool = False) -> dict[str, torch.Tensor]:
        """All that is saved: the state of the Hugging Face model, and that of the pooling under names of its own."""
        state = self.hf.state_dict(keep_vars=keep_vars)
        if self.pooling is not None:
            state |= self.pooling.state_dict(prefix=POOLING_PREFIX, keep_vars=keep_vars)
        return state

    def saves_adapters(self, merge: bool | None = None) -> bool:
        """Whether `save` writes an adapter folder."""
        if self.adapters is None:
            return False
        return self.adapters.lora.merge != "end" if merge is None else not merge

    def adapter_note(self, folder: Path, merge: bool | None = None) -> AdapterNote | None:
        """What the card says of the adapters that `save` writes into `folder`; None where it writes whole weights."""
        if self.adapters is None or not self.saves_adapters(merge):
            return None
        return self.files.note(self.adapters.lora, folder, self.low_bits.section if self.low_bits else None)

    def save(self, folder: Path, state: dict[str, torch.Tensor] | None = None, *, merge: bool | None = None) -> None:
        """Write config.json and model.safetensors (float32) that plain transformers loads, and beside them what the
        pooling of windows has learned; `folder` must exist.

        `state` is that of `saved_state`, where this process holds only parts of it. `merge`: whether adapters are put
        into the weights, or saved as what they are in the form of peft; by default as `model.lora.merge` says.
        """
        layout = self.layout
        self.set_layout("padded")
        try:
            with quiet_transformers():
                state = self.saved_state() if state is None else dict(state)
                if self.pooling is not None:
                    self.pooling.save(folder, state)
                if self.adapters is not None and self.saves_adapters(merge):
                    self.save_config(folder)
                    self.files.write(self.adapters, self.hf, state, folder, whole=self._whole)
                    return
                state = state if self.low_bits is None else self.low_bits.read_back(state)
                state = state if self.adapters is None else merged(self.adapters, self.hf, state)
                state = state if self.low_bits is None else self.low_bits.turned_back(state)
                state = state if self._vocabulary is None else self._vocabulary.restored(state)
                self.hf.save_pretrained(folder, state_dict=state)
        finally:
            self.set_layout(layout)
            if self._table_on_disk is not None:
                self._table_on_disk.give_back()
