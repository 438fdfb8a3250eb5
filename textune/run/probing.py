"""Keeps rows beside a run's best model, with what it says of them in fp32: `best/probe.jsonl`; for `report.py`.

Rows are chosen from the validation rows so that every label, or set of labels, and every length is among them: always
the same ones for the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textune.data import Split, cells_of, given_texts
from textune.errors import DataError
from textune.prediction import PROBE_NAME, Probe, Scorer, load_scorer, write_probe
from textune.wording import count

if TYPE_CHECKING:
    from textune.batches import TokenRows
    from textune.run.parts import Parts

PARTS_OF_NUMBERS = 5
"""Numbers are spread over so many parts of their range, each with as many rows."""
_GOLDEN = (5**0.5 - 1) / 2


def keep_probe(parts: Parts, folder: Path, saved: Scorer, name: str) -> str:
    """Write the rows of the set `name` that are kept beside the model in `folder`, or remove those of an earlier
    session; returns what to say of that. `saved`: that model, as the run opened it. Called by the first of the ranks
    alone."""
    wanted = parts.settings.evaluate.probe
    probe = None
    # Documents of a language model are read in chunks: an export of it is asked rows of tokens.
    if wanted and name in parts.rows and not saved.card.is_language_model:
        chosen = spread_rows(parts.rows[name], parts.data.splits[name].chosen_targets, wanted)
        split = parts.data.splits[name]
        probe = _probe(split, chosen, {head: of[chosen] for head, of in split.chosen_targets.items()}, saved)
    if probe is None:
        (folder / PROBE_NAME).unlink(missing_ok=True)
        return ""
    write_probe(probe.scored_by(_in_fp32(parts, folder, saved)), folder)
    return (
        f"{folder / PROBE_NAME} keeps {count(len(probe), f'{name} row')}, texts included, for exports to be compared"
        f" on; evaluate.probe = 0 keeps none"
    )


def _in_fp32(parts: Parts, folder: Path, saved: Scorer) -> Scorer:
    """The model in fp32, for this process alone."""
    if parts.device.precision == "fp32":
        return Scorer(
            saved.model, saved.tokenizer, saved.task, saved.card, device=saved.device, max_tokens=saved.max_tokens
        )
    device = saved.device.torch.type
    return load_scorer(
        folder,
        device="cuda" if device == "cuda" else "cpu",
        precision="fp32",
        code=parts.card.code,
        on_notice=lambda _: None,
    )


def _probe(split: Split, chosen: np.ndarray, targets: Mapping[str, np.ndarray], saved: Scorer) -> Probe | None:
    """The chosen rows without scores, and their targets; None where none of them comes back from JSON as it was."""
    card, examples = saved.card, split.examples.take(split.indices[chosen])
    if not examples.has_text:  # token ids alone cannot be asked as texts
        return None
    cells = cells_of(examples, card.columns, card.metadata)
    try:
        given = given_texts(cells, None, card.columns, card.metadata)
    except DataError:
        return None
    columns = [examples.text, *([] if examples.text_pair is None else [examples.text_pair]), *examples.fields]
    as_read = list(zip(*(column.to_pylist() for column in columns), strict=True))
    pairs = [] if given.pairs is None else [given.pairs]
    as_given = list(zip(given.texts, *pairs, *(field.to_pylist() for field in given.fields), strict=True))
    alike = np.array([before == after for before, after in zip(as_read, as_given, strict=True)], dtype=bool)
    if not alike.any():
        return None
    rows = tuple(row for row, same in zip(cells, alike.tolist(), strict=True) if same)
    kept = {name: of_head[alike].astype(np.float64) for name, of_head in targets.items()}
    return Probe(rows, {}, targets={name: of_head for name, of_head in kept.items() if np.isfinite(of_head).all()})


def spread_rows(rows: TokenRows, targets: Mapping[str, np.ndarray], wanted: int) -> np.ndarray:
    """int64 positions, ascending, of at most `wanted` of N rows: as many of each label as there can be, and of each
    label short and long ones. `targets`: of the rows, by head."""
    num_rows = len(rows)
    if num_rows <= wanted:
        return np.arange(num_rows)
    codes = np.stack([_codes(of_head) for of_head in targets.values()], axis=1)
    _, group_N = np.unique(codes, axis=0, return_inverse=True)
    group_N = group_N.reshape(-1)
    lengths = rows.raw_lengths
    order = np.lexsort((np.arange(num_rows), lengths, group_N))
    sizes = np.bincount(group_N)
    starts = np.cumsum(sizes) - sizes
    chosen = [
        order[start + _evenly(int(size), int(num), number)]
        for number, (start, size, num) in enumerate(zip(starts, sizes, _shares(sizes, wanted), strict=True))
        if num
    ]
    return np.sort(np.concatenate(chosen))


def _codes(targets: np.ndarray) -> np.ndarray:
    """int64 [N] a number for the target of each row: of several labels the rarest one that it has, of numbers the part
    of their range."""
    if targets.ndim > 1:
        has = targets > 0.5
        rarity = np.where(has.any(axis=0), has.sum(axis=0), len(targets) + 1)
        rarest = np.argsort(rarity, kind="stable")
        return np.where(has.any(axis=1), has[:, rarest].argmax(axis=1), -1)
    if np.issubdtype(targets.dtype, np.integer):
        return targets.astype(np.int64)
    known = np.isfinite(targets)
    codes = np.full(len(targets), -1)
    if known.any():
        edges = np.quantile(targets[known], np.linspace(0, 1, PARTS_OF_NUMBERS + 1)[1:-1])
        codes[known] = np.searchsorted(edges, targets[known])
    return codes


def _shares(sizes: np.ndarray, wanted: int) -> np.ndarray:
    """int64 [G] how many rows of each group of these sizes are taken, `wanted` in all: the same of each, as far as it
    has them; of more groups than rows the largest ones."""
    shares = np.zeros(len(sizes), dtype=np.int64)
    left = wanted
    for done, group in enumerate(np.argsort(sizes, kind="stable").tolist()):
        each = left // (len(sizes) - done)
        shares[group] = min(int(sizes[group]), each)
        left -= int(shares[group])
    return shares


def _evenly(size: int, num: int, group: int) -> np.ndarray:
    """int64 [num] places among `size` rows that stand by length: the shortest, the longest, and evenly between; a
    single one stands elsewhere in each group."""
    if num == 1:
        return np.array([int(size * (((group + 1) * _GOLDEN) % 1.0))])
    return np.linspace(0, size - 1, num).round().astype(np.int64)
