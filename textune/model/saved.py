"""Where a saved model is in a run folder, and what to say where there is none; before `pretrained.py`."""

from __future__ import annotations

from pathlib import Path

CARD_NAME = "textune.json"
"""The file beside a saved model that says what it needs beyond its Hugging Face files."""

MAX_RUNS_SHOWN = 8


def complete_model(run: Path) -> Path | None:
    """The best model of a run folder, even where the run was killed while it replaced it; None if there is none
    yet."""
    return next((folder for name in ("best", "best.new", "best.old") if (folder := run / name).is_dir()), None)


def hint_for_no_run(folder: Path) -> str:
    """What to say of a folder that is none of a run: the newest runs that lie in it, or in its folder `runs`."""
    inside = [*folder.glob("*/manifest.json"), *folder.glob("runs/*/manifest.json")]
    newest = sorted(inside, key=lambda path: (-path.stat().st_mtime_ns, path))
    if not newest:
        return "Give the folder that `textune train` wrote, such as runs/x."
    names = ", ".join(str(path.parent) for path in newest[:MAX_RUNS_SHOWN])
    more = f" and {len(newest) - MAX_RUNS_SHOWN:,} more" if len(newest) > MAX_RUNS_SHOWN else ""
    return f"Give one of the runs in it: {names}{more}."
