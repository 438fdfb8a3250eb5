"""What is different where a saved model is opened by something else than textune, in sentences for its model card."""

from __future__ import annotations

from textune.prediction.card import ModelCard
from textune.wording import listing


def outside_textune(card: ModelCard) -> tuple[str, ...]:
    """What plain transformers does not know of the model that this is the card of."""
    lines = []
    if len(card.heads) > 1:
        heads = listing(head.name for head in card.heads)
        lines.append(
            f"It answers {len(card.heads)} questions ({heads}), whose logits stand side by side: plain transformers"
            " takes them for labels of one."
        )
    if card.long == "windows":
        lines.append(
            f"Texts of more than {card.max_length} tokens are read in windows; plain transformers reads the first"
            f" {card.max_length} tokens alone."
        )
    elif card.truncate == "head_tail":
        lines.append(
            f"Of texts of more than {card.max_length} tokens textune keeps the beginning and the end; plain"
            " transformers keeps the beginning alone."
        )
    if card.metadata is not None:
        fields = listing(card.metadata.columns)
        lines.append(f"textune writes fields before each text ({fields}); plain transformers reads texts as they are.")
    if card.columns.text_pair is not None:
        lines.append("It reads pairs of texts: give two for each answer.")
    if card.code:
        lines.append(f"It needs code of its authors, which is not in this folder: {listing(card.code)}.")
    if card.adapters is not None:
        backbone = card.adapters.backbone.name
        lines.append(f"The folder holds adapters, which are nothing without the weights of {backbone}.")
    return tuple(lines)
