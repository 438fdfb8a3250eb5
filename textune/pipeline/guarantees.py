"""`guarantees.json` in a model folder: thresholds that were proved to keep a promise, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from textune.atomic import write_text
from textune.config import Section
from textune.errors import RunError
from textune.evaluation import Aim, AimName
from textune.jsontext import parse_json
from textune.run import GUARANTEES


class Guarantee(Section):
    """A threshold that was proved to keep a promise, and how."""

    task: str
    """The head."""
    label: str | None
    """The label that is given from the threshold on; None: answers of all classes, which are withheld below it."""
    aim: AimName
    """What is promised."""
    level: float
    """The least precision, recall or coverage; the most cost of a row."""
    confidence: float = Field(gt=0, lt=1)
    """How sure the promise is."""
    cost_of_wrong: float = 1.0
    """Of a wrong answer."""
    cost_of_none: float = 1.0
    """Of an answer that is not given where that costs something."""
    threshold: float
    """A calibrated probability; of the first of two classes, minus that of the second."""
    temperature: float
    """That of the rule; the threshold means nothing at another one."""
    platt: tuple[tuple[float, float], ...] | None = None
    """The slopes and shifts of the rule, likewise."""
    value: float
    """What was measured on the rows of the proof."""
    limit: float
    """What the true value is at least (cost: at most), at this confidence."""
    p_value: float
    """How likely such rows are where the promise is broken."""
    counted: int
    """Rows that the value is about."""
    given: int
    """Rows at or above the threshold."""
    rows: int
    """All rows of the proof."""
    proved_on: str
    """What they are, for a reader."""
    fingerprint: str
    """Of the rows of the proof."""
    weights: str
    """Hash of the model's weights."""
    at: str
    """When it was proved."""

    @property
    def for_whom(self) -> str:
        """What is promised, in words, such as `precision of "spam"`."""
        return self.aim if self.label is None else f'{self.aim} of "{self.label}"'

    def as_aim(self) -> Aim:
        """The promise."""
        return Aim(self.aim, self.level, self.confidence, self.cost_of_wrong, self.cost_of_none)


class _File(Section):
    """`guarantees.json`."""

    version: Literal[1] = 1
    """Of this form."""
    guarantees: tuple[Guarantee, ...] = ()
    """In the order in which they were proved."""


def read_guarantees(folder: Path) -> list[Guarantee]:
    """The guarantees of a model folder, none without their file; RunError where it is damaged."""
    path = folder / GUARANTEES
    if not path.is_file():
        return []
    try:
        return list(_File.model_validate(parse_json(path.read_text(encoding="utf-8"))).guarantees)
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{path} is damaged: {reason}.",
            hint="Remove it, and make the guarantees again with `textune decide`.",
            place=str(path),
            reason=reason,
        ) from error


def weights_hash(folder: Path) -> str:
    """A hash of the model's weights, as the files have them."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name}\n".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def write_guarantees(folder: Path, guarantees: Sequence[Guarantee]) -> None:
    """Write the file; a reader sees the old one or the new one."""
    write_text(folder / GUARANTEES, _File(guarantees=tuple(guarantees)).model_dump_json(indent=2) + "\n")
