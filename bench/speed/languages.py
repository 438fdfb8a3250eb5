"""Language models: training on documents of C4's lengths beside `transformers.Trainer`, its speed and its memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from bench.rows import Row, beside, compared
from bench.speed.backbones import SHAPES, make_language_model
from bench.speed.measure import Comparison, choose_steps, repeat
from bench.speed.race import random_order
from bench.speed.rendering import byte_level_tokenizer
from bench.speed.texts import long_texts
from bench.speed.work import Settings
from bench.worker import Worker, WorkerError

SHAPE = "gpt2-half"
LONGEST = 1024
BATCH_SIZE = 8
DOCUMENTS = 1_000
PEER = "Trainer, causal LM, padded to the longest of a batch"


def language(settings: Settings) -> list[Row]:
    """Scored tokens a second, and the peak memory of each process, on the same rows in the same batches."""
    source, rows = document_rows(settings)
    folder = make_language_model(SHAPE, settings.work / SHAPE, tiny=settings.tiny)
    spec = {"model": str(folder), "rows": str(rows), "batch_size": BATCH_SIZE, "device": settings.device}
    spec["order"] = random_order(len(np.load(rows)["lengths"]))
    ours_side, peer_side = "bench.sides.languages:training", "bench.sides.causal:segments"
    with Worker(ours_side, spec) as ours, Worker(peer_side, spec) as peer:
        pace = sum((side.ask(steps=1), side.ask(steps=1))[1]["seconds"] for side in (ours, peer))
        steps = choose_steps(pace, seconds=settings.left())

        def pair() -> tuple[float, float]:
            done = [side.ask(steps=steps) for side in (ours, peer)]
            if len({part["tokens"] for part in done}) > 1:
                raise WorkerError(f"a segment is not the same work for both: {done}")
            first, second = (float(part["tokens"] / part["seconds"]) for part in done)
            return first, second

        rates = repeat(pair, seconds=settings.left(), at_least=settings.pairs)
        facts = {side: worker.facts for side, worker in (("textune", ours), ("Trainer", peer))}
        peaks = {side: worker.close() for side, worker in (("textune", ours), ("Trainer", peer))}
    details = {
        "data": source,
        "segment": {"steps": steps, "segments": len(rates)},
        "losses": {side: last.pop("losses") for side, last in peaks.items()},
        "precision": {side: fact["precision"] for side, fact in facts.items()},
        "header": facts["textune"]["header"],
        "threads": facts["textune"]["threads"],
    }
    words = SHAPES[SHAPE]["vocab_size"]
    work = f"training a language model, GPT-2's layers at half its size, {words:,} words, batch {BATCH_SIZE}"
    peak = [peaks[side]["peak_memory_mb"] for side in ("textune", "Trainer")]
    memory = beside("lm-memory", f"peak memory, {work}", (peak[0], peak[1]), details, unit="MiB", peer=PEER)
    return [compared("lm", work, Comparison(rates), details, unit="scored tokens/s", peer=PEER), memory]


def document_rows(settings: Settings) -> tuple[str, Path]:
    """What they are, and the tokens of documents, cut at `LONGEST`: arrays `ids` and `lengths`."""
    documents = settings.data / "web" / "c4_sample_1000.jsonl" if settings.data and not settings.tiny else None
    if documents is not None and documents.is_file():
        lines = documents.read_text(encoding="utf-8").splitlines()
        source, texts = f"{len(lines):,} documents of C4", [json.loads(line)["text"] for line in lines]
    else:
        source, texts = "IMDB reviews", [row[0] for row in long_texts(settings.count(DOCUMENTS, tiny=64)).examples]
    path = byte_level_tokenizer(texts, settings.work / "lm-tokenizer.json", 400 if settings.tiny else 32_000)
    longest = 64 if settings.tiny else LONGEST
    tokens = [encoding.ids[:longest] for encoding in Tokenizer.from_file(str(path)).encode_batch(texts)]
    lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
    rows = settings.work / "lm-rows.npz"
    np.savez(rows, ids=np.concatenate(tokens).astype(np.int32), lengths=lengths)
    return f"{source}, cut at {longest:,} tokens (mean {lengths.mean():.0f}, median {np.median(lengths):.0f})", rows
