"""`report.html`, plots and model card of a run, made from its files alone, so that they can be written again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from textune.atomic import replace_folder, write_bytes, write_text
from textune.evaluation import (
    Opened,
    Report,
    SplitRows,
    Story,
    model_card,
    page_of,
    plots_of,
    plots_of_training,
    read_report,
)
from textune.model import CARD_NAME, complete_model, stated_license
from textune.prediction import outside_textune, read_card
from textune.run.folder import CARD, PAGE, PLOTS, RunFolder
from textune.run.history import read_history
from textune.run.manifest import Manifest, read_manifest

FIRST = ("test", "validation")
"""Test rows say more than those that chose the model; the set that stands first on a page is open."""

_BEFORE = r"(?<![\w:/.~])(?:file://|~)?/"
_PLACE = re.compile(_BEFORE + r"(?:[^\s/,;'\"]+/)+([^\s/,;'\"]+)")
"""An absolute path in a sentence, and the last name of it."""
_PLACE_IN_WORD = re.compile(_BEFORE + r"(?:[^/,;'\"]+/)+([^/,;'\"]+)")
"""The same in one word of a command, where names may hold spaces."""
_QUERY = re.compile(r"(\w+://[^\s?'\"]+\?)[^\s,'\"\]]+")
"""An address up to its query, which may hold a key."""


def write_page(folder: RunFolder) -> list[Path]:
    """Write the page about a run and the card of its model; nothing where it has no report yet. RunError where the
    folder is no run's, or a report is damaged."""
    story = story_of(folder)
    reports = {name: read_report(path) for name, path in folder.reports().items()}
    if not reports:
        return []
    reports = in_order(reports)
    texts = {PAGE: page_of(reports, story), CARD: model_card(reports, replace(story, limits=_limits(folder)))}
    for name, text in texts.items():
        write_text(folder.path / name, text)
    return [folder.path / name for name in texts]


def card_of_run(folder: RunFolder, *, name: str = "", opened: Opened | None = None) -> str | None:
    """The card of a run's best model for readers who find it as `opened`, under another `name` than the run's, and to
    whom folders of this machine say nothing; None where the run has no report yet. Errors as in `write_page`."""
    story = story_of(folder)
    reports = {name: _for_others(read_report(path)) for name, path in folder.reports().items()}
    if not reports:
        return None
    manifest = read_manifest(folder.path)
    backbone = _backbone(manifest)
    if Path(backbone).is_absolute():
        facts = {key: said.replace(backbone, Path(backbone).name) for key, said in story.facts.items()}
        story = replace(story, facts=facts)
    story = replace(
        story,
        name=name or story.name,
        limits=_limits(folder),
        facts={key: _without_places(said) for key, said in story.facts.items()},
        command=shlex.join(_without_places(word, _PLACE_IN_WORD) for word in manifest.command),
    )
    return model_card(in_order(reports), story, opened=opened)


def _for_others(report: Report) -> Report:
    """The report without folders of this machine, in what a model card takes of it."""
    return replace(
        report,
        dataset=_without_places(report.dataset, _PLACE_IN_WORD),
        warnings=tuple(map(_without_places, report.warnings)),
        notes=tuple(map(_without_places, report.notes)),
    )


def _without_places(text: str, place: re.Pattern[str] = _PLACE) -> str:
    """The text with each absolute path cut to its last name, and without the queries of addresses."""
    return _QUERY.sub(r"\1…", place.sub(r"\1", text))


def _limits(folder: RunFolder) -> tuple[str, ...]:
    model = complete_model(folder.path)
    return outside_textune(read_card(model)) if model is not None and (model / CARD_NAME).is_file() else ()


def write_plots(folder: RunFolder) -> list[Path]:
    """Draw the plots of a run, those of each set in a folder of its name, in place of earlier ones; nothing where it
    has no report yet. Errors as in `write_page`."""
    story = story_of(folder)
    reports = {name: read_report(path) for name, path in folder.reports().items()}
    if not reports:
        return []

    def write(plots: Path) -> None:
        for name, report in reports.items():
            _write_all(plots / name, plots_of(report))
        if story.history is not None:
            _write_all(plots, plots_of_training(story.history, story.best_step))

    replace_folder(folder.path / PLOTS, write)
    return folder.plots()


def _write_all(folder: Path, plots: Iterable[tuple[PurePosixPath, bytes]]) -> None:
    for path, data in plots:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / path, data)


def in_order(reports: Mapping[str, Report]) -> dict[str, Report]:
    """The reports in the order of a page."""
    return {
        name: reports[name] for name in sorted(reports, key=lambda name: FIRST.index(name) if name in FIRST else 2)
    }


def _backbone(manifest: Manifest) -> str:
    """The folder or name of the model that the run started from."""
    name = manifest.facts.get("backbone")
    return name if isinstance(name, str) else ""


def story_of(folder: RunFolder) -> Story:
    """What the manifest and the metrics of a run say of it."""
    manifest = read_manifest(folder.path)
    last = manifest.resumed[-1] if manifest.resumed else None
    git, backbone = manifest.git, _backbone(manifest)
    return Story(
        name=folder.path.absolute().name,
        status=manifest.status,
        started=manifest.started,
        seconds=manifest.seconds,
        steps=manifest.steps,
        best_step=manifest.best_step,
        facts=manifest.resolved if last is None or not last.resolved else last.resolved,
        splits=_splits(manifest),
        history=read_history(folder.metrics),
        findings=manifest.findings,
        notices=manifest.notices,
        command=shlex.join(manifest.command),
        versions=manifest.versions,
        backbone="" if Path(backbone).exists() else backbone,
        license=stated_license(backbone),
        labels=tuple(map(str, labels)) if isinstance(labels := manifest.facts.get("labels"), list) else (),
        fingerprints=manifest.data,
        machine=", ".join(manifest.machine.values()),
        commit=""
        if "commit" not in git
        else git["commit"] + (", with changes" if git.get("changed") == "yes" else ""),
    )


def _splits(manifest: Manifest) -> tuple[SplitRows, ...]:
    return tuple(
        SplitRows(name, rows, manifest.left_out.get(name, 0), manifest.truncated.get(name))
        for name, rows in manifest.rows.items()
    )
