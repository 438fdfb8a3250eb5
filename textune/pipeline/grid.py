"""Writes the files of a grid of experiments."""

from __future__ import annotations

from textune.adapters import Grid
from textune.atomic import write_text
from textune.errors import ConfigError


def write_grid(grid: Grid) -> None:
    """Each file of the grid; one that is there already stays as it is where it holds the same.

    ConfigError, before anything is written, where one holds something else.
    """
    for path, text in grid.files.items():
        if path.exists() and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            raise ConfigError(
                f"{path} exists and holds something else; nothing is ever overwritten.",
                hint="Remove it, or choose another experiment_name.",
                key="experiment_name",
                place=str(path),
            )
    for path, text in grid.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
