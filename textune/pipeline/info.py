"""Describes a run folder: how good its model is, what it was trained on, and how it was made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, TypeAlias

from textune.config import user_path
from textune.data import LabelMap
from textune.errors import RunError
from textune.evaluation import number, read_report
from textune.prediction import find_model, read_card
from textune.run import RunFolder, machine_in_words, read_manifest, state_of
from textune.training import STATE, checkpoints_in, open_checkpoint
from textune.wording import count, listing

_OF_THE_RUN = (
    "status",
    "reason",
    "started",
    "finished",
    "seconds",
    "steps",
    "best_step",
    "rows",
    "num_skipped",
    "left_out",
    "command",
)
Facts: TypeAlias = dict[str, Any]
"""As a JSON object."""
MAX_OTHERS = 6
"""Metrics that are shown along with the main one."""


def info(run: str | Path) -> Facts:
    """Results, status, data and versions of a run folder, a model folder or a checkpoint, as a JSON object."""
    run = user_path(run)
    if (run / STATE).is_file():
        return _of_checkpoint(run)
    facts: Facts = {}
    if (run / "manifest.json").is_file():
        manifest = read_manifest(run).model_dump(mode="json", exclude_unset=True)
        facts["results"] = {name: _result(path) for name, path in RunFolder(run).reports().items()}
        facts |= {key: manifest[key] for key in _OF_THE_RUN if manifest.get(key)}
        facts["checkpoints"] = [str(path) for _, path in checkpoints_in(run / "checkpoints")]
        facts |= {key: manifest[key] for key in ("machine", "versions", "git") if manifest.get(key)}
    try:
        model = find_model(run)
    except RunError:
        if not facts:
            raise
        return facts
    card = read_card(model)
    if card.adapters is not None:
        facts["adapters"] = card.adapters.model_dump(mode="json", exclude_none=True)
    return facts | {
        "model": str(model),
        "model_bytes": _size(model),
        "problem": card.problem,
        "labels": list(card.names),
        "max_length": card.max_length,
        "long": card.long,
        "precision": card.precision,
    }


def in_words(found: Facts) -> dict[str, str]:
    """What `info` found, for people: the most important first, nothing empty."""
    if "checkpoint" in found:
        best = f", the best so far at step {found['best_step']:,}" if found["best_step"] else ""
        words = {
            "checkpoint": f"{found['checkpoint']} ({found['bytes'] / 1e6:.1f} MB), complete",
            "step": f"{found['step']:,}{best}",
            "run": found["run"],
            "machine": _pairs({machine_in_words(name): value for name, value in found["machine"].items()}),
        }
        return {name: value for name, value in words.items() if value}
    words = {}
    results = found.get("results", {})
    for part in sorted(results, key=_by_weight):
        result = results[part]
        words[part] = result["headline"]
        words |= {f"warning, {part}": " ".join(result["warnings"])}
    words["status"] = _status(found)
    size = f" ({found['model_bytes'] / 1e6:.1f} MB)" if "model" in found else ""
    words["model"] = f"{found['model']}{size}" if "model" in found else "none saved yet"
    if "adapters" in found:
        backbone = found["adapters"]["backbone"]
        words["adapters"] = f"beside {backbone.get('folder', backbone['name'])}, weights {backbone['fingerprint']}"
    if "problem" in found:
        words["task"] = str(LabelMap(found["problem"], tuple(found["labels"])))
        windows = "in windows of " if found["long"] == "windows" else ""
        words["texts"] = f"{windows}at most {found['max_length']} tokens each, computed in {found['precision']}"
    lost = {part: f" ({num:,} left out)" for part, num in found.get("left_out", {}).items() if num}
    rows = (
        f"{'unknown number of' if num is None else f'{num:,}'} {part}{lost.get(part, '')}"
        for part, num in found.get("rows", {}).items()
    )
    left_out = f"; {count(found['num_skipped'], 'row')} left out" if "num_skipped" in found and not lost else ""
    words["rows"] = f"{', '.join(rows)}{left_out}"
    for part, result in found.get("results", {}).items():
        others = [
            (name, value)
            for name, value in result["metrics"].items()
            if name != result["metric"] and value is not None
        ]
        by_task = [(name, value) for name, value in others if name.endswith(f"/{result['metric']}")]
        shown = (by_task or others)[:MAX_OTHERS]
        words[f"also, {part}"] = ", ".join(f"{name} {number(value)}" for name, value in shown)
    words["checkpoints"] = listing((Path(path).name for path in found.get("checkpoints", [])), 8)
    words["command"] = shlex.join(found.get("command", []))
    words["machine"] = _pairs(found.get("machine", {}))
    words["versions"] = _pairs(found.get("versions", {}))
    git = found.get("git", {})
    words["git"] = (
        f"{git['commit']}{', with changes' if git.get('changed') == 'yes' else ''}" if "commit" in git else ""
    )
    return {name: value for name, value in words.items() if value}


def _by_weight(part: str) -> int:
    """Test rows say more than the rows that chose the model, and both say more than other sets."""
    return {"test": 0, "validation": 1}.get(part, 2)


def _of_checkpoint(folder: Path) -> Facts:
    checkpoint = open_checkpoint(folder)
    state = state_of(checkpoint)
    return {
        "checkpoint": str(folder),
        "bytes": _size(folder),
        "step": checkpoint.step,
        "best_step": state.best_step,
        "run": str(folder.parent.parent),
        "machine": dict(state.identity.machine),
    }


def _result(path: Path) -> Facts:
    """The numbers of a report about the model."""
    report = read_report(path)
    tree, baseline = report.to_dict(), None
    if report.baseline is not None:
        compared = report.baseline.compared
        baseline = {"metric": compared, "value": tree["baseline"]["metrics"][compared], "rule": report.baseline.rule}
    shown = {key: tree[key] for key in ("rows", "metrics", "warnings", "dataset")}
    return {"headline": report.headline(), **tree["main"], "baseline": baseline, **shown}


def _status(found: Facts) -> str:
    if "status" not in found:
        return ""
    words = [found["status"] + (f" ({found['reason']})" if "reason" in found else "")]
    if "steps" in found:
        seconds = f" in {found['seconds']:.0f} s" if "seconds" in found else ""
        words.append(f"{count(found['steps'], 'step')}{seconds}")
    if "best_step" in found:
        words.append(f"best at step {found['best_step']:,}")
    words.append(f"started {found['started']}")
    return ", ".join(words)


def _pairs(values: Facts | str) -> str:
    if isinstance(values, str):
        return values
    return ", ".join(f"{name} {value}" for name, value in values.items() if value)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
