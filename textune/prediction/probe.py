"""`probe.jsonl`, beside a saved model: rows of its validation set with what it said of them in fp32. Whatever is made
of the model is asked them again (`textune/exports/parity.py`).

One JSON object a line: `{"columns": {"text": "fine"}, "targets": {"label": 1}, "scores": {"label": [0.1, 0.9]}}`.
`targets` are the row's own labels: the place of a class, 0 or 1 for each of several labels, or a number; a file of an
earlier version has none. Where nothing is known of the texts, rows of tokens stand in the place of columns:
`{"tokens": {"ids": [101, 2307, 102]}, "scores": ...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import JsonValue

from textune.atomic import write_text
from textune.batches import TokenStore
from textune.data import GivenTexts, given_texts
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.prediction.predictor import Predictor

if TYPE_CHECKING:
    from textune.prediction.card import ModelCard
    from textune.prediction.scorer import Scorer, Scores

PROBE_NAME = "probe.jsonl"
"""The file in a model folder."""
_TYPES = {"ids": np.int32, "types": np.uint8, "mask": np.uint8}
"""The columns of tokens that a file may have."""


@dataclass(frozen=True, eq=False)
class Probe:
    """N rows, and what a model said of them."""

    rows: tuple[Mapping[str, JsonValue], ...]
    """Of each row the columns that the model reads, as its card names them; empty mappings where there are only
    tokens."""
    scores: Scores
    """By head: float64 [N, K] or [N], raw (uncalibrated), computed in fp32."""
    tokens: tuple[Mapping[str, Sequence[int]], ...] = ()
    """Of each row its tokens, by the columns of a `TokenStore` (`ids` always), where there are no texts."""
    is_kept: bool = True
    """Whether they are rows of the model's validation set; else they were generated."""
    targets: Scores = field(default_factory=dict)
    """By head, what is true of the rows: float64 [N] places of classes or numbers, [N, K] 0 or 1 for each label; empty
    where that is not known."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_texts(self) -> bool:
        """Whether the rows are texts, not tokens alone."""
        return not self.tokens

    def given(self, card: ModelCard) -> GivenTexts:
        """The texts of the rows, their second texts and fields, as the model of this card reads them."""
        return given_texts([dict(row) for row in self.rows], None, card.columns, card.metadata)

    def store(self, scorer: Scorer) -> TokenStore:
        """The tokens of the rows, for `Scorer.score_store`."""
        if not self.has_texts:
            return store_of(self.tokens)
        given = self.given(scorer.card)
        return Predictor(scorer).encode_texts(given.texts, given.pairs, fields=given.fields, place=given.place)

    def take(self, chosen: np.ndarray) -> Probe:
        """The chosen rows (int64 [n]), in this order."""
        numbers = chosen.tolist()
        return Probe(
            tuple(self.rows[number] for number in numbers),
            {name: of_head[chosen] for name, of_head in self.scores.items()},
            tuple(self.tokens[number] for number in numbers) if self.tokens else (),
            self.is_kept,
            {name: of_head[chosen] for name, of_head in self.targets.items()},
        )

    def scored_by(self, scorer: Scorer) -> Probe:
        """The same rows with what another model says of them."""
        return replace(self, scores=scorer.score_store(self.store(scorer)))


def store_of(rows: Sequence[Mapping[str, Sequence[int]]]) -> TokenStore:
    """Rows of tokens, each with the same columns, as a store."""
    lengths = np.array([len(row["ids"]) for row in rows], dtype=np.int64)
    columns = {
        name: np.concatenate([np.asarray(row[name], dtype=_TYPES[name]) for row in rows])
        for name in (rows[0] if rows else ("ids",))
    }
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenStore(columns, offsets, lengths.astype(np.int32), example=np.arange(len(rows)))


def write_probe(probe: Probe, folder: Path) -> None:
    """Write `probe.jsonl` into a folder; readers see the old one or the new."""
    lines = []
    for number, row in enumerate(probe.rows):
        said: dict[str, object] = {"columns": dict(row)} if probe.has_texts else {"tokens": dict(probe.tokens[number])}
        if probe.targets:
            said["targets"] = {name: of_head[number].tolist() for name, of_head in probe.targets.items()}
        said["scores"] = {name: of_head[number].tolist() for name, of_head in probe.scores.items()}
        lines.append(json.dumps(said, ensure_ascii=False, allow_nan=False))
    write_text(folder / PROBE_NAME, "".join(f"{line}\n" for line in lines))


def read_probe(folder: Path) -> Probe | None:
    """The rows beside a model; None where it has none. RunError where the file is damaged."""
    path = folder / PROBE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return None
    rows: list[Mapping[str, JsonValue]] = []
    tokens: list[Mapping[str, Sequence[int]]] = []
    scores: list[Mapping[str, object]] = []
    targets: list[Mapping[str, object]] = []
    for number, line in enumerate(lines, 1):
        try:
            of_row, of_tokens, of_scores, of_targets = _parsed(line)
            if number > 1 and (
                (of_tokens is None) != (not tokens)
                or of_scores.keys() != scores[0].keys()
                or of_targets.keys() != targets[0].keys()
            ):
                raise ValueError("it has other columns than the lines before")
        except ValueError as error:
            raise _damaged(f"{path}, line {number}", str(error).partition("\n")[0]) from error
        rows.append(of_row)
        scores.append(of_scores)
        targets.append(of_targets)
        tokens += [] if of_tokens is None else [of_tokens]
    try:
        return Probe(tuple(rows), _by_head(scores), tuple(tokens), is_kept=not tokens, targets=_by_head(targets))
    except (ValueError, TypeError) as error:
        raise _damaged(path, "the scores or targets of its lines do not go together") from error


def _by_head(rows: Sequence[Mapping[str, object]]) -> Scores:
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}


class _Line(NamedTuple):
    """What a line holds."""

    columns: Mapping[str, JsonValue]
    tokens: Mapping[str, Sequence[int]] | None
    scores: Mapping[str, object]
    targets: Mapping[str, object]


def _parsed(line: str) -> _Line:
    """ValueError for anything else."""
    said = parse_json(line)
    if not isinstance(said, dict) or not isinstance(scores := said.get("scores"), dict) or not scores:
        raise ValueError("not an object with scores")
    if not isinstance(targets := said.get("targets", {}), dict) or not targets.keys() <= scores.keys():
        raise ValueError("targets are no object by the names of scores")
    if isinstance(columns := said.get("columns"), dict) and columns:
        return _Line(columns, None, scores, targets)
    tokens = said.get("tokens")
    if not isinstance(tokens, dict) or "ids" not in tokens or not set(tokens) <= set(_TYPES):
        raise ValueError("neither columns nor tokens")
    checked: dict[str, Sequence[int]] = {}
    for name, values in tokens.items():
        if not isinstance(values, list) or not all(type(value) is int for value in values):
            raise ValueError(f"tokens.{name} is no list of whole numbers")
        checked[name] = [value for value in values if isinstance(value, int)]
    if not checked["ids"] or len({len(values) for values in checked.values()}) > 1:
        raise ValueError("its tokens differ in length")
    return _Line({}, checked, scores, targets)


def _damaged(place: Path | str, reason: str) -> RunError:
    return RunError(
        f"{place} is damaged: {reason}.",
        hint="Restore the file from a copy, or remove it: the model works without.",
        place=str(place),
        reason=reason,
    )
