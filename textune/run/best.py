"""The best model of a run folder: which one it is, and how it comes along when a run branches off from another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from textune.errors import RunError
from textune.inside import require_inside
from textune.model import complete_model
from textune.prediction import read_card, settle_copy
from textune.run.folder import RunFolder


class BestModel(NamedTuple):
    """The model that a run folder holds as its best."""

    folder: Path
    step: int
    value: float | None
    """The main metric; None where there was no evaluation."""


def best_of(run: Path) -> BestModel | None:
    """The best model of a run folder; None where there is none or it does not say of which step it is."""
    folder = complete_model(run)
    if folder is None:
        return None
    try:
        card = read_card(folder)
    except RunError:
        return None
    return None if card.step is None else BestModel(folder, card.step, card.value)


def bring_best(source: Path, target: RunFolder, *, step: int) -> bool:
    """Copy the best model of another run, if it is that of `step`; whether it is."""
    found = best_of(source)
    if found is None or found.step != step:
        return False

    def copy(folder: Path) -> None:
        try:
            for path in found.folder.rglob("*"):
                require_inside(found.folder, path)
        except ValueError as error:
            raise RunError(
                f"the best model {found.folder} is refused: {error}.", hint="Replace the link with the file itself."
            ) from error
        shutil.copytree(found.folder, folder, dirs_exist_ok=True)
        settle_copy(found.folder, folder)

    target.save_best(copy)
    return True
