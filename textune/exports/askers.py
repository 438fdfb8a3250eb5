"""What opens an export in the gate: `Asker`s of folders that textune, and plain transformers, can open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from textune.config import PredictionPrecision
from textune.errors import ModelError
from textune.prediction import Probe, Scores, load_scorer, read_card

ROWS_AT_ONCE = 8


def by_textune(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    """As `textune predict` opens it, on the processor and in fp32; an export in the precision of its weights."""
    precision: PredictionPrecision = "fp32" if read_card(folder).exported is None else "auto"
    scorer = load_scorer(folder, device="cpu", precision=precision, compile="off", code=code, on_notice=lambda _: None)
    store = probe.store(scorer)
    if not alone:
        return scorer.score_store(store)
    parts = [scorer.score_store(store, np.array([number])) for number in range(len(probe))]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def by_transformers(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    """As plain transformers opens it: its own tokenizer, padding and forward pass, and nothing of textune's model.

    Tokens are those of textune where it puts more into a row than texts (fields, a separator of pairs) or cuts it in a
    way of its own.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    card = read_card(folder)
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    if missing := sorted(loaded["missing_keys"]):
        raise ModelError(f"plain transformers finds no weights {missing[0]} in it.")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rows = _rows(folder, probe, tokenizer)
    model.eval()
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]["input_ids"]))
    size = 1 if alone or model.config.pad_token_id is None else ROWS_AT_ONCE
    logits: list[torch.Tensor] = [torch.zeros(0)] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = tokenizer.pad([rows[number] for number in chosen], return_tensors="pt", padding=size > 1)
            outputs = model(**batch).logits.double()
            for number, row in zip(chosen, outputs, strict=True):
                logits[number] = row
    scores = card.build_task().scores(torch.stack(logits))
    return {name: of_head.numpy() for name, of_head in scores.items()}


def _rows(folder: Path, probe: Probe, tokenizer: Callable[..., dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    """The inputs of each row, not padded yet."""
    card = read_card(folder)
    if probe.has_texts and card.metadata is None and not card.pair_separator and card.truncate in ("head", "tail"):
        given = probe.given(card)
        columns = [given.texts] if given.pairs is None else [given.texts, given.pairs]
        return [dict(tokenizer(*texts, truncation=True)) for texts in zip(*columns, strict=True)]
    scorer = load_scorer(folder, device="cpu", precision="fp32", compile="off", on_notice=lambda _: None)
    store = probe.store(scorer)
    found = []
    for start, stop in zip(store.offsets[:-1].tolist(), store.offsets[1:].tolist(), strict=True):
        row = {"input_ids": store.ids[start:stop].tolist(), "attention_mask": [1] * (stop - start)}
        if store.types is not None:
            row["token_type_ids"] = store.types[start:stop].tolist()
        found.append(row)
    return found
