"""How far a saved model is from the one that was trained, where weights of few bits became fp32; after
`backbone.py`."""

from __future__ import annotations

import numpy as np
import torch

from textune.batches import Group, TokenBatch
from textune.model.backbone import TextModel
from textune.model.device import Device

_ROWS, _TOKENS = 8, 16
"""Size of the probe: texts of random tokens, the same for every model of a vocabulary."""


def merging_change(model: TextModel, device: Device) -> float | None:
    """The largest change of an output when weights of few bits are read back and computed in fp32, instead of as in
    the run, on texts of random tokens; None where there are no such weights."""
    if model.low_bits is None:
        return None
    probe, was_training = _probe(model).to(device.torch), model.training
    model.eval()
    try:
        with torch.no_grad():
            with device.autocast():
                trained_BC = model(probe)
            with model.low_bits.in_fp32():
                saved_BC = model(probe)
    finally:
        model.train(was_training)
    return float((trained_BC - saved_BC).abs().max())


def change_in_words(change: float) -> str:
    """A sentence on `merging_change`."""
    at_most = f"{change:.2g}"
    return (
        f"The weights of few bits became fp32: that changes an output by at most {at_most}, on texts of random tokens."
    )


def _probe(model: TextModel) -> TokenBatch:
    """A batch without padding, whose rows end as those of models that read their end token do."""
    generator = np.random.default_rng(0)
    ids_BL = generator.integers(0, len(model.hf.get_input_embeddings().weight), (_ROWS, _TOKENS))
    ids_BL[ids_BL == model.pad_id] = (model.pad_id + 1) % 2
    end = model.hf.config.get_text_config().eos_token_id
    if isinstance(end, int) and end >= 0:
        ids_BL[ids_BL == end] = (end + 1) % 2
        ids_BL[:, -1] = end
    return TokenBatch(
        columns={"ids": torch.from_numpy(ids_BL.reshape(-1))},
        positions_T=torch.arange(_TOKENS).repeat(_ROWS),
        lengths_B=torch.full((_ROWS,), _TOKENS),
        row_lengths=np.full(_ROWS, _TOKENS),
        groups=(Group(_ROWS, _TOKENS),),
        rows=np.arange(_ROWS),
    )
