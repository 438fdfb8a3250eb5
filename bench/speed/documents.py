"""Language models: training on documents with their metadata, beside the same rows as texts alone."""

from __future__ import annotations

import json
from pathlib import Path

from bench.rows import Row, compared
from bench.speed.backbones import SHAPES, make_language_model
from bench.speed.measure import Comparison, choose_steps, repeat
from bench.speed.rendering import byte_level_tokenizer, tagged_documents
from bench.speed.work import Settings
from bench.worker import Json, Worker, run_module

SHAPE = "gpt2-half"
MAX_LENGTH = 512
BATCH_SIZE = 8
TYPES = ["html", "timestamp", "title", "url"]
SIDE = "bench.sides.textune:streaming"
PEER = "the same rows as texts alone"


def lm_metadata(settings: Settings) -> list[Row]:
    """Tokens a second where documents are rendered with url, date, title and inline tags while the model trains, and
    where what they become is read as texts without metadata."""
    documents = settings.work / "documents.jsonl"
    source = tagged_documents(settings, documents)
    keys = _keys(settings, documents)
    with_metadata = keys | {"data.train.files": str(documents), "metadata.types": TYPES}
    # Equal work: a token that is not scored costs less.
    with_metadata["task.metadata_loss"] = True
    # A row that is tokenised at once may have a few tokens more, and is to stay one row.
    alone = {"data.train.files": str(_written_out(settings, with_metadata)), "tokens.max_length": 2 * MAX_LENGTH}
    sides = {
        "metadata": (SIDE, {"config": str(_config(settings, "metadata", with_metadata))}),
        "texts": (SIDE, {"config": str(_config(settings, "texts", keys | alone))}),
    }
    with Worker(*sides["metadata"]) as ours, Worker(*sides["texts"]) as peer:
        pace = sum((side.ask(steps=1), side.ask(steps=1))[1]["seconds"] for side in (ours, peer))
        steps = choose_steps(pace, seconds=settings.left())
        counts: list[tuple[int, int]] = []

        def pair() -> tuple[float, float]:
            first, second = (side.ask(steps=steps) for side in (ours, peer))
            counts.append((first["tokens"], second["tokens"]))
            return first["tokens"] / first["seconds"], second["tokens"] / second["seconds"]

        rates = repeat(pair, seconds=settings.left(), at_least=settings.pairs)
        facts = {name: worker.facts for name, worker in (("metadata", ours), ("texts", peer))}
    details = {
        "data": source,
        "segment": {"steps": steps, "segments": len(rates), "tokens": counts},
        "precision": {name: fact["precision"] for name, fact in facts.items()},
        "header": {name: fact["header"] for name, fact in facts.items()},
        "threads": facts["metadata"]["threads"],
    }
    work = (
        f"training a language model, GPT-2's layers at half its size, {SHAPES[SHAPE]['vocab_size']:,} words, batch"
        f" {BATCH_SIZE}: documents with {', '.join(TYPES)}"
    )
    return [compared("lm-metadata", work, Comparison(rates), details, unit="tokens/s", peer=PEER)]


def _keys(settings: Settings, documents: Path) -> Json:
    """Of both runs; the tokenizer stands beside the model."""
    folder = make_language_model(SHAPE, settings.work / SHAPE, tiny=settings.tiny)
    with documents.open(encoding="utf-8") as file:
        texts = (json.loads(line)["text"] for line in file)
        byte_level_tokenizer(texts, folder / "tokenizer.json", 400 if settings.tiny else 32_000)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "pad_token": "<end>"}, allow_nan=False
        )
    )
    return {
        "task.kind": "conditional_lm",
        "data.validation.kind": "none",
        "model.pretrained": str(folder),
        "tokens.max_length": MAX_LENGTH,
        "tokens.cache": str(settings.work / "cache"),
        "train.duration": "100000 steps",
        "train.batch_size": BATCH_SIZE,
        "train.device": settings.device,
        "train.optimizer.lr": 1e-4,
        "train.schedule.warmup": "50 steps",
    }


def _config(settings: Settings, name: str, keys: Json) -> Path:
    # A JSON string, number or list of strings is the same in TOML.
    path = settings.work / f"lm-{name}.toml"
    path.write_text(
        "".join(f"{key} = {json.dumps(value, allow_nan=False)}\n" for key, value in keys.items()), encoding="utf-8"
    )
    return path


def _written_out(settings: Settings, keys: Json) -> Path:
    """The text of each row that a model would read of the documents."""
    path, config = settings.work / "written.jsonl", str(_config(settings, "shown", keys))
    documents = json.loads(run_module("textune", "render", config, "--rows", "100000", "--json"))["documents"]
    texts = ("".join(run["text"] for run in chunk["runs"]) for one in documents for chunk in one["chunks"])
    path.write_text("".join(json.dumps({"text": text}, allow_nan=False) + "\n" for text in texts), encoding="utf-8")
    return path
