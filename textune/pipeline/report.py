"""Writes the page about a run again, from what its folder holds."""

from __future__ import annotations

from pathlib import Path

from textune.config import user_path
from textune.errors import RunError
from textune.evaluation import require_plots
from textune.run import RunFolder, write_page, write_plots


def report(run: str | Path, *, plots: bool = False) -> dict[str, Path]:
    """Write what a run writes about itself at its end, from its reports, metrics and manifest; returns the files by
    name.

    `plots`: draw the plots too, as PNG files; they are named by their path in the run folder. RunError where the
    folder is no run's, or where it has no report yet; ConfigError where plots cannot be drawn for want of a package.
    """
    if plots:
        require_plots("--plots")
    folder = RunFolder(user_path(run))
    written = write_page(folder)
    if not written:
        raise RunError(
            f"{folder.path} has no report yet.",
            hint=f"A run reports at its end; `textune evaluate {folder.path}` reports on the best model so far.",
            place=str(folder.path),
            reason="no report yet",
        )
    if plots:
        written += write_plots(folder)
    return {path.relative_to(folder.path).as_posix(): path for path in written}
