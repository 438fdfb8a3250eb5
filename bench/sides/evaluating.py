"""textune's side of evaluating a language model on rows of tokens."""

from __future__ import annotations

import numpy as np
import torch

from bench.worker import Channel, Json
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.config.documents import MetadataSection
from textune.config.schema import ModelSection
from textune.config.sources import Columns, Labels
from textune.config.taskkinds import ConditionalLmTask
from textune.data.labels.map import LABEL, LANGUAGE
from textune.model.device import resolve_device
from textune.model.language import load_language_model
from textune.model.recipe import Recipe, prepare
from textune.model.tokenizer import load_tokenizer
from textune.prediction.card import HeadCard, ModelCard
from textune.prediction.scorer import Scorer
from textune.run.report import score_rows
from textune.run.tracking.tracker import SilentTracker

MAX_TOKENS = 16384
"""As `evaluate.max_tokens`."""


def evaluation(channel: Channel, spec: Json) -> Json:
    """Scores of the first rows, a number of rows per command; the last reply has their nats."""
    torch.set_num_threads(spec["threads"])
    rows, scorer = _rows(spec["rows"]), _scorer(spec)
    channel.reply(
        threads=torch.get_num_threads(),
        precision=scorer.device.precision,
        header=f"{scorer.model.reason}; {scorer.model.accelerator.note}",
    )
    nats: dict[int, float] = {}

    def segment(command: Json) -> Json:
        chosen = np.arange(*command["rows"])
        scored = score_rows(scorer, rows.at(chosen), SilentTracker(), place=str, stage="evaluating")
        assert scored is not None
        found = scored.by_head[LABEL]
        nats.update(zip(chosen.tolist(), found.predictions.tolist(), strict=True))
        return {"tokens": int(found.targets[:, 0].sum())}

    channel.serve(segment)
    return {"nats": [nats[row] for row in sorted(nats)]}


def _scorer(spec: Json) -> Scorer:
    """A model that was saved, as evaluation opens it."""
    device, section = resolve_device("cpu", spec["precision"]), ModelSection(pretrained=spec["model"])
    tokenizer = load_tokenizer(section)
    model = load_language_model(section, tokenizer, seed=0)
    prepare(model, Recipe(device, "prediction"))
    card = ModelCard(
        heads=(HeadCard(problem="language", names=LANGUAGE.names, task=ConditionalLmTask()),),
        max_length=spec["longest"],
        truncate="head",
        columns=Columns(),
        documents=MetadataSection(),
        labels=Labels(),
        precision=device.precision,
    )
    return Scorer(model, tokenizer, card.build_task(), card, device=device, max_tokens=MAX_TOKENS)


def _rows(path: str) -> TokenRows:
    """All tokens are scored but the first one of each row, which nothing predicts."""
    file = np.load(path)
    offsets = np.concatenate([[0], np.cumsum(file["lengths"])]).astype(np.int64)
    mask = np.zeros(len(file["ids"]), np.uint8)
    mask[offsets[:-1]] = 1
    columns = {"ids": file["ids"], "mask": mask}
    store = TokenStore(columns, offsets, file["lengths"].astype(np.int32), np.arange(len(offsets) - 1))
    targets = np.repeat(file["lengths"].astype(np.int64)[:, None] - 1, 3, axis=1)
    return TokenRows(store, np.arange(len(store)), {LABEL: targets}, None)
