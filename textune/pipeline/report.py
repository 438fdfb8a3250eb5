"""Writes the page about a run again, from what its folder holds."""

from __future__ import annotations

from pathlib import Path

from textune.config import user_path
from textune.errors import RunError
from textune.run import RunFolder, write_page


def report(run: str | Path) -> dict[str, Path]:
    """Write what a run writes about itself at its end, from its reports, metrics and manifest; returns the files by
    name.

    RunError where the folder is no run's, or where it has no report yet.
    """
    folder = RunFolder(user_path(run))
    written = write_page(folder)
    if not written:
        raise RunError(
            f"{folder.path} has no report yet.",
            hint=f"A run reports at its end; `textune evaluate {folder.path}` reports on the best model so far.",
            place=str(folder.path),
            reason="no report yet",
        )
    return {path.name: path for path in written}
