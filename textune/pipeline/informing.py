"""Says what a run folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textune.errors import RunError
from textune.prediction import find_model, read_card
from textune.rundir import read_manifest
from textune.training.checkpoint import STATE, checkpoints_in, open_checkpoint


def info(run: str | Path) -> dict[str, Any]:
    """Status, data, results and versions of a run folder (or of a model folder), as JSON holds them."""
    run = Path(run)
    facts: dict[str, Any] = {}
    if (run / STATE).is_file():
        checkpoint = open_checkpoint(run)
        size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
        return {
            "checkpoint": f"{run} ({size / 1e6:.1f} MB), whole",
            "step": checkpoint.step,
            "best step so far": checkpoint.state["best"]["best_step"],
            "run": str(run.parent.parent),
            "computed on": checkpoint.state["machine"],
        }
    if (run / "manifest.json").is_file():
        manifest = read_manifest(run)
        facts = {
            key: manifest[key]
            for key in ("status", "started", "finished", "reason", "command", "steps", "best_step", "seconds", "rows")
            if manifest.get(key)
        }
        facts |= {f"metrics, {part}": metrics for part, metrics in manifest.get("metrics", {}).items()}
        saved = [str(path) for _, path in checkpoints_in(run / "checkpoints")]
        facts |= {"checkpoints": saved} if saved else {}
        facts |= {"versions": manifest.get("versions", {}), "git": manifest.get("git", {})}
    try:
        model = find_model(run)
    except RunError:
        if not facts:
            raise
        return {**facts, "model": "none saved yet"}
    card = read_card(model)
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    return {
        "model": f"{model} ({size / 1e6:.1f} MB)",
        "problem": card.problem,
        "labels": list(card.names),
        "max_length": card.max_length,
        "precision": card.precision,
        **facts,
    }
