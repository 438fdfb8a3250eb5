"""A backbone learns from pairs of few texts which belong together, as SetFit does (Tunstall et al. 2022,
arXiv:2209.11055), before a head is fitted; used by `choosing.py`.

The loss is SetFit's: the squared distance of the cosine of two texts from 1 where their labels are the same, from 0
where they are not. The pairs are all those of a batch instead of some that were drawn, so a text that is computed once
serves in many. Pairs of both kinds weigh the same.

A batch follows from the seed and the number of the step alone, and so does dropout: what is learned is the same
whatever ran before.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from textune.batches import Assembler, TokenRows
from textune.draws import Draws
from textune.model import last_layer, read_by_head, settled_names
from textune.run import Parts

TEXTS = 32
"""Texts of a batch, where memory allows so many."""
CLASSES = 8
"""Most classes of a batch, so that each has several texts in it."""
PASSES, LEAST_STEPS = 60, 30
"""How often each text is computed, about; and the steps that are made at least."""
_RATE, _WARMUP, _NORM = 5e-5, 0.1, 1.0
_DROPOUT = 0x5E7F17
"""Keeps the seeds of dropout apart from those of the order."""


def num_steps(num_rows: int) -> int:
    """Steps of learning from so many rows."""
    return max(LEAST_STEPS, -(-PASSES * num_rows // TEXTS))


def learn_pairs(parts: Parts, rows: TokenRows, *, seed: int) -> None:
    """Change the backbone in place, so that texts of one class come closer and others part."""
    (head,) = parts.task.heads
    targets_N = rows.targets[head.name].astype(np.int64)
    hf, total = parts.model.hf, num_steps(len(rows))
    left = settled_names(hf) | {name for name, p in hf.named_parameters() if p is last_layer(hf).weight}
    trained = [p for name, p in hf.named_parameters() if p.requires_grad and name not in left]
    optimizer = torch.optim.AdamW(trained, lr=_RATE, weight_decay=0.01)
    assembler = Assembler(
        parts.model.layout,
        parts.model.pad_id,
        group_cost=parts.model.group_cost(parts.device.dtype),
        padding=parts.model.padding,
        windows=parts.model.pooling is not None,
    )
    num_texts = max(4, min(TEXTS, parts.budget.max_tokens // int(rows.lengths.max())))
    parts.model.train()
    try:
        with torch.random.fork_rng(devices=[]):
            for step in range(total):
                for group in optimizer.param_groups:
                    group["lr"] = _RATE * min((step + 1) / max(1.0, _WARMUP * total), (total - step) / total)
                torch.manual_seed((seed * 1_000_003 + step) ^ _DROPOUT)
                chosen_B = drawn(targets_N, seed, step, num_texts=num_texts)
                chosen_B = chosen_B[np.argsort(rows.lengths[chosen_B], kind="stable")]
                tokens = assembler.tokens(rows.store, rows.examples[chosen_B], parts.budget.max_tokens)
                with read_by_head(last_layer(hf)) as caught, parts.device.autocast():
                    parts.model(tokens.to(parts.device.torch))
                loss = loss_of_pairs(caught[0].float(), torch.from_numpy(targets_N[chosen_B]).to(caught[0].device))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, _NORM)
                optimizer.step()
                parts.model.zero_grad(set_to_none=True)
    finally:
        parts.model.eval()


def drawn(targets_N: np.ndarray, seed: int, step: int, *, num_texts: int) -> np.ndarray:
    """The rows of a batch, int64: some classes, and as many rows of each as there are, or as fit."""
    draws = Draws.of_key(seed, step)
    classes = np.unique(targets_N)
    most = max(2, min(CLASSES, num_texts // 2))
    chosen = classes[draws.permutation(len(classes))[:most]]
    each = max(2, num_texts // len(chosen))
    rows = [np.flatnonzero(targets_N == one) for one in chosen]
    return np.concatenate([one[draws.permutation(len(one))[:each]] for one in rows])


def loss_of_pairs(vectors_BF: torch.Tensor, targets_B: torch.Tensor) -> torch.Tensor:
    """The mean over pairs of the same class, plus the mean over the others, float32 []."""
    unit_BF = functional.normalize(vectors_BF, dim=1)
    cosines_BB = unit_BF @ unit_BF.T
    same_BB = targets_B.unsqueeze(0) == targets_B.unsqueeze(1)
    upper_BB = torch.ones_like(same_BB).triu(1)
    alike, apart = cosines_BB[same_BB & upper_BB], cosines_BB[~same_BB & upper_BB]
    of_alike = (1 - alike).square().sum() / max(1, len(alike))
    return of_alike + apart.square().sum() / max(1, len(apart))
