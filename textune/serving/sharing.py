"""Adapters of one backbone hold its weights once, however many of them are served; used by `models.py`."""

from __future__ import annotations

from collections.abc import Iterable

from textune.model import hold_once
from textune.prediction import Scorer


def share_backbone(scorer: Scorer, served: Iterable[Scorer]) -> int:
    """Let a newly opened adapter folder use the backbone that others in memory hold already; return the bytes of
    weights that this frees.

    The backbone is the same where its hash is, with weights of the same bits on the same device. Any other model is
    left as it is, and so is whatever else the adapter was trained with: the head, and biases. What is answered stays
    the same bit for bit.
    """
    mine = _backbone_of(scorer)
    if mine is None:
        return 0
    return hold_once(scorer.text_model, [other.text_model for other in served if _backbone_of(other) == mine])


def _backbone_of(scorer: Scorer) -> tuple[object, ...] | None:
    """What two backbones have in common that are the same; None where there is none beneath adapters."""
    note = scorer.card.adapters
    if note is None or not note.backbone.fingerprint:
        return None
    return note.backbone.fingerprint, note.quantize, scorer.device.torch
