"""What a language model writes: documents begun as in training, and gone on with by transformers' own `generate`.

metadata, prompt --rendering, chunks--> the beginning of a document as tokens --generate--> continuations
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig

from textune.config import Columns, GivenSource, MetadataSection
from textune.errors import ConfigError, DataError
from textune.metadata import TYPES, Begun, ChunkEncoder, metadata_type, read_document_rows, read_documents, render
from textune.prediction.scorer import Scorer
from textune.wording import count, listing, nearest

MAX_TOKENS = 100
"""Tokens written by default, where the model has positions for so many."""


class Continuation(NamedTuple):
    """One text that a model wrote."""

    text: str
    """Behind the prompt."""
    tokens: int
    """How many it wrote, without the one that ends a text."""
    ended: bool
    """Whether it ended the text itself."""


@dataclass(frozen=True)
class Writer:
    """Goes on with documents."""

    scorer: Scorer
    encoder: ChunkEncoder
    section: MetadataSection

    def write(
        self,
        prompt: str,
        metadata: Mapping[str, str],
        *,
        num: int,
        max_tokens: int | None,
        temperature: float,
        top_p: float,
        seed: int,
    ) -> list[Continuation]:
        """`num` texts that begin with `prompt`, of documents with this metadata (by type), of `max_tokens` tokens at
        most.

        With `temperature` 0 each token is the likeliest one. Else it is drawn by `seed` from the likeliest ones that
        have `top_p` of the probability together, whose logits are divided by `temperature`. ConfigError for types that
        the model does not know or has no prefix for, and for numbers out of their range; DataError for a value that
        cannot be rendered.
        """
        _require_numbers(num, max_tokens, temperature, top_p, seed)
        self._require_types(metadata)
        begun = self._begun(prompt, metadata)
        ids_L = np.array([*begun.before, *begun.text], dtype=np.int64)
        limit = self._room(len(ids_L), max_tokens)
        chosen = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        end = self.encoder.end_token
        tokenizer = self.scorer.tokenizer
        config = GenerationConfig(
            max_new_tokens=limit,
            eos_token_id=tokenizer.eos_token_id if end is None else end,
            pad_token_id=self.scorer.model.pad_id,
            use_cache=True,
            **(chosen if temperature > 0 else {"do_sample": False}),
        )
        written = self._generate(ids_L, config, num=num, seed=seed)
        return [self._said(begun, ids, {config.eos_token_id}) for ids in written]

    def _generate(self, ids_L: np.ndarray, config: GenerationConfig, *, num: int, seed: int) -> list[list[int]]:
        """What was written behind these tokens, `num` times; as many at once as the scorer's budget has room for. No
        other thread may use the model meanwhile."""
        model, device = self.scorer.text_model, self.scorer.device
        at_once = max(1, self.scorer.max_tokens // (len(ids_L) + config.max_new_tokens))
        written: list[list[int]] = []
        layout, defaults = model.layout, model.hf.generation_config
        model.set_layout("padded")  # which is how transformers computes
        # Those of the backbone's files would change what is likeliest, such as a penalty on repetition.
        model.hf.generation_config = GenerationConfig()
        try:
            devices = [device.torch] if device.torch.type == "cuda" else []
            with torch.no_grad(), torch.random.fork_rng(devices=devices), device.autocast():
                torch.manual_seed(seed)
                while len(written) < num:
                    rows = np.tile(ids_L, (min(at_once, num - len(written)), 1))
                    ids = torch.from_numpy(rows).to(device.torch)
                    found = model.hf.generate(
                        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
                    )
                    written += found[:, len(ids_L) :].tolist()
        finally:
            model.set_layout(layout)
            model.hf.generation_config = defaults
        return written

    def _said(self, begun: Begun, ids: list[int], ends: set[int | None]) -> Continuation:
        """The tokens behind a beginning as text."""
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        tokenizer = self.scorer.tokenizer
        options: dict[str, Any] = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        before, whole = (tokenizer.decode(some, **options) for some in (begun.text, begun.text + ids[:end]))
        text = whole[len(before) :] if whole.startswith(before) else tokenizer.decode(ids[:end], **options)
        # Behind a prefix a text begins as a word does after a space, which is not part of it.
        return Continuation(text if begun.text else text.removeprefix(" "), end, end < len(ids))

    def _begun(self, prompt: str, metadata: Mapping[str, str]) -> Begun:
        """The beginning of a document, as in training."""
        record: dict[str, Any] = {"text": prompt}
        for name, value in metadata.items():
            kind = metadata_type(name)
            record[kind.column] = [{"key": kind.key, "type": "global", "value": value}]
        rows = read_document_rows(GivenSource(name="metadata"), "error", {"metadata": [record]})
        section = self.section.model_copy(update={"on_bad_metadata": "error"})
        documents = read_documents(rows, Columns(), section).documents
        [begun] = self.encoder.begun(render(documents, section), lambda _: "metadata")
        if not (begun.before or begun.text):
            raise DataError(
                "there is nothing to go on with: no prompt, no metadata, and no token that begins a text.",
                hint="Give a prompt.",
                key="prompt",
                value=prompt,
                reason="nothing to go on with",
            )
        return begun

    def _require_types(self, metadata: Mapping[str, str]) -> None:
        """ConfigError for a type that no prefix of this model has."""
        types = self.section.types
        for name in metadata:
            if name not in types:
                near = nearest(name, types)
                reason = "the model was trained without it"
                hint = f"Did you mean {near}?" if near else f"Its types: {listing(types) or 'none'}."
            elif name in TYPES and TYPES[name].scope == "local":
                reason = "it stands around spans of a text, and is no part of a prefix"
                globals_ = [one for one in types if one not in TYPES or TYPES[one].scope == "global"]
                hint = f"Types that stand before a text: {listing(globals_) or 'none'}."
            elif self.section.position == "suffix":
                reason = "metadata stands behind a text, where it does not change what is written"
                hint = "Leave it out."
            else:
                continue
            raise ConfigError(
                f"metadata names {name}, but {reason}.", hint=hint, key="metadata", value=name, reason=reason
            )

    def _room(self, num_begun: int, max_tokens: int | None) -> int:
        """How many tokens to write. ConfigError where there are not so many positions behind the beginning."""
        positions = self.scorer.text_model.max_positions
        room = max_tokens or MAX_TOKENS if positions is None else positions - num_begun
        if room < (max_tokens or 1):
            raise ConfigError(
                f"max_tokens = {max_tokens or 1}: the prompt and its prefix have {count(num_begun, 'token')}, and the"
                f" model has {positions} positions.",
                hint=f"Ask for at most {room}." if room > 0 else "Shorten the prompt.",
                key="max_tokens",
                value=max_tokens,
                reason=f"room for {max(room, 0)} tokens",
            )
        return min(max_tokens or MAX_TOKENS, room)


def _require_numbers(num: int, max_tokens: int | None, temperature: float, top_p: float, seed: int) -> None:
    """ConfigError for a number out of its range, and for draws where there are none."""
    wrong: list[tuple[str, object, str, str]] = []
    if num < 1:
        wrong.append(("num", num, "it is less than 1", "Ask for 1 or more."))
    if max_tokens is not None and max_tokens < 1:
        wrong.append(("max_tokens", max_tokens, "it is less than 1", "Ask for 1 or more."))
    if not 0 <= temperature < float("inf"):
        wrong.append(("temperature", temperature, "it is not a number from 0 on", "Use a number such as 0.8."))
    if not 0 < top_p <= 1:
        wrong.append(("top_p", top_p, "it is not a share above 0 and up to 1", "Use a number such as 0.95."))
    if not 0 <= seed < 1 << 63:
        wrong.append(("seed", seed, "it is not a whole number from 0 on with at most 63 bits", "Use another."))
    if temperature == 0 and num > 1:
        wrong.append(("num", num, "without draws all texts are the same", "Set a temperature such as 1."))
    if temperature == 0 and top_p != 1:
        wrong.append(("top_p", top_p, "without draws it changes nothing", "Set a temperature such as 1."))
    for key, value, reason, hint in wrong:
        raise ConfigError(f"{key} = {value}: {reason}.", hint=hint, key=key, value=value, reason=reason)
