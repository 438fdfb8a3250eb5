"""Bare texts to token ids, by the tokenizers library alone."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bench.worker import Channel, Json


def tokens(channel: Channel, spec: Json) -> None:
    """All texts in one call, as one array of ids."""
    backend = Tokenizer.from_file(spec["tokenizer"])
    with Path(spec["documents"]).open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] or "" for line in file]
    channel.reply(threads=os.cpu_count(), documents=len(texts), characters=sum(map(len, texts)))

    def answer(command: Json) -> Json:
        if command.get("do") == "forget":
            return {}
        encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
        ids = np.fromiter(itertools.chain.from_iterable(encoding.ids for encoding in encodings), np.int32)
        return {"tokens": len(ids)}

    channel.serve(answer)
