"""The files of training-wizard: `final_checkpoint/`, `reproducibility/` and, where plots are drawn, `plots/N_step_S/`.

`run.log` is one of textune's own files already.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from textune.atomic import replace_folder
from textune.config import Experiment, format_key, format_string
from textune.run import RunFolder, read_manifest
from textune.wording import without_passwords

if TYPE_CHECKING:
    from textune.pipeline.train import TrainResult
    from textune.run import Manifest

PLOTS = "plots"
MAX_FILES = 100
"""Files of Python near the configuration, beyond which none is kept."""
_THEIRS = {
    "precision-recall.png": "precision_recall_curve.png",
    "scores.png": "density_plot.png",
    "predicted-and-true.png": "regression_plot.png",
}
"""Plots by textune's name and by that of training-wizard."""


def write(run: RunFolder, result: TrainResult, experiment: Experiment) -> None:
    """The best model, where the run comes from, and its plots; each folder is complete or absent."""
    replace_folder(run.path / "final_checkpoint", lambda folder: _copy(run.best, folder))
    replace_folder(run.path / "reproducibility", lambda folder: _write_origin(run, folder))
    drawn = run.path / PLOTS / "validation"
    if drawn.is_dir():
        named = run.path / PLOTS / f"0_step_{result.best_step}"
        replace_folder(named, lambda folder: _rename_plots(drawn, folder))


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _rename_plots(drawn: Path, folder: Path) -> None:
    for plot in drawn.glob("*.png"):
        shutil.copyfile(plot, folder / _THEIRS.get(plot.name, plot.name))


def _write_origin(run: RunFolder, folder: Path) -> None:
    manifest = read_manifest(run.path)
    (folder / "main.toml").write_text("\n".join(_facts(manifest)) + "\n", encoding="utf-8")
    foreign = run.path / "foreign"
    configs = [path for path in foreign.rglob("*") if path.is_file()] if foreign.is_dir() else []
    for path in configs:
        _keep(path, folder / path.relative_to(foreign))
    here = Path.cwd()
    for path in _python_near(manifest, here, run.path):
        _keep(path, folder / path.relative_to(here))


def _keep(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _facts(manifest: Manifest) -> Iterator[str]:
    """`main.toml` line by line."""
    here = Path.cwd()
    code = {**_project(here), "Repository": _repository(), "Commit": manifest.git.get("commit", "")}
    call = {
        "Command": " ".join(manifest.command),
        "Host": platform.node(),
        "WorkingDirectory": str(here),
        "PythonInterpreter": sys.executable,
    }
    yield f"Date = {format_string(manifest.started)}"
    for name, values in (("code", code), ("call", call)):
        yield f"[{name}]"
        yield from (f"{format_key(key)} = {format_string(value)}" for key, value in values.items() if value)


def _project(here: Path) -> dict[str, str]:
    """Name and version of the project in the current folder; nothing where there is none."""
    try:
        project = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return {}
    return {known: str(project[key]) for key, known in (("name", "Project"), ("version", "Version")) if key in project}


def _repository() -> str:
    """Where the current folder's repository comes from, without passwords; empty where it comes from nowhere."""
    try:
        words = ("git", "remote", "get-url", "origin")
        found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return without_passwords(found)


def _python_near(manifest: Manifest, here: Path, run: Path) -> list[Path]:
    """Files of Python in the folder of the configuration, or in the first folder above it that has some, up to the
    current one; none where there are more than `MAX_FILES`."""
    files = (Path(word) for word in manifest.command if word.endswith((".toml", ".json")))
    config = next((path.absolute() for path in files if path.is_file()), None)
    if config is None or not config.is_relative_to(here):
        return []
    found: list[Path] = []
    folder = config.parent
    while not found:
        found = [path for path in sorted(folder.rglob("*.py")) if _is_near(path, here, run)][: MAX_FILES + 1]
        if folder == here:
            break
        folder = folder.parent
    return found if len(found) <= MAX_FILES else []


def _is_near(path: Path, here: Path, run: Path) -> bool:
    """Whether a file is none of an environment, of a hidden folder, or of the run."""
    folders = path.relative_to(here).parts[:-1]
    hidden = any(name.startswith(".") or name == "site-packages" for name in folders)
    return path.is_file() and not hidden and not path.is_relative_to(run)
