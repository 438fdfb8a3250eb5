"""Cuts the documents of a batch into pieces that fit beside their prefixes and suffixes; before `encoder.py`."""

from __future__ import annotations

from functools import partial

import numpy as np

from textune.config import MetadataSection
from textune.metadata.chunks.cuts import FORBIDDEN, Cut, SafePlaces, cut_everywhere, cut_safely
from textune.metadata.chunks.opentags import OpenTags
from textune.metadata.chunks.texttokens import Places, TextTokenizer, TextTokens
from textune.metadata.documents import Insertions


class Cutter:
    """Cuts the documents of one batch."""

    def __init__(self, section: MetadataSection, tokenizer: TextTokenizer, *, has_end: bool) -> None:
        """`has_end`: documents end with a token for that."""
        self._section = section
        self._tokenizer = tokenizer
        self._has_end = has_end

    def cut(
        self,
        tokens: TextTokens,
        texts: list[str],
        places: Places,
        insertions: Insertions,
        *,
        room: np.ndarray,
        suffix: np.ndarray,
    ) -> list[list[Cut]]:
        """The cuts of each document; `room`, int64 [D], are the tokens that a chunk of it has beside the prefix, and
        `suffix`, int64 [D], those at the end of the document that stand together in its last chunk."""
        length_D = np.diff(tokens.offsets)
        if self._section.as_original:
            return [cut_everywhere(*sizes) for sizes in zip(length_D.tolist(), room.tolist(), strict=True)]
        cuts: list[list[Cut]] = [[] for _ in texts]
        long = np.flatnonzero(length_D > room)
        if not len(long):
            return cuts
        safe = SafePlaces(texts, places, insertions)
        reopens = self._section.reopen_tags
        tags = OpenTags("".join(texts), places, insertions, self._section, self._tokenizer) if reopens else None
        for document in long.tolist():
            kinds, most = safe.kinds(tokens, document), int(room[document])
            behind = int(suffix[document])
            # Neither the end token nor a suffix is a chunk by itself.
            kinds[len(kinds) - (behind or int(self._has_end)) :] = FORBIDDEN
            most_tags = min(most // 4, most - behind - 1)
            cut_at = partial(tags.cut_at, tokens, document, most=most_tags) if tags else Cut
            cuts[document] = cut_safely(kinds, most, cut_at, suffix=behind)
        return cuts
