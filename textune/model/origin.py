"""Which backbone an adapter folder belongs to, and how it is found again; before `adapterfolder.py`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from textune.config import Quantize, Section


class BackboneNote(Section):
    """The backbone that adapters were trained beside."""

    name: str
    """As it was configured: a folder, a run or a name on the hub."""
    revision: str = "main"
    """Branch, tag or commit on the hub."""
    folder: str | None = None
    """Where it was, as an absolute path; None for a name on the hub."""
    relative: str | None = None
    """The same, as seen from the adapter folder: both may have moved together."""
    fingerprint: str = ""
    """Hash of its weights without the head; empty where whoever wrote the folder noted none."""

    def seen_from(self, folder: Path) -> BackboneNote:
        """The same note for an adapter folder there."""
        if self.folder is None:
            return self
        return self.model_copy(update={"relative": os.path.relpath(self.folder, folder.resolve())})

    def found_in(self, folder: Path | None, fingerprint: str = "") -> BackboneNote:
        """The same note of a backbone that was found in this folder, or on the hub, with weights of that hash."""
        place = None if folder is None else str(folder.resolve())
        return self.model_copy(update={"folder": place, "relative": None, "fingerprint": fingerprint})

    def moved(self, folder: Path, to: Path) -> BackboneNote:
        """The same note for a copy of the adapter `folder`."""
        near = None if self.relative is None else folder.resolve() / self.relative
        if near is None or not near.is_dir():
            return self.seen_from(to)
        return self.model_copy(update={"relative": os.path.relpath(near.resolve(), to.resolve())})

    def places(self, folder: Path) -> list[str]:
        """Where the backbone of the adapter `folder` may be, the likeliest first: where it lies as seen from there,
        where it was, what it was called."""
        near = [] if self.relative is None else [os.path.normpath(folder.resolve() / self.relative)]
        was = [] if self.folder is None else [self.folder]
        return list(dict.fromkeys([*near, *was, self.name]))


class AdapterNote(Section):
    """What `textune.json` says of the adapters in its folder."""

    merge: Literal["command", "off"] = "off"
    """What `textune export` makes of them by default: `command` adds them to the weights, `off` keeps them apart."""
    backbone: BackboneNote
    """What they stand beside."""
    quantize: Quantize | None = None
    """The weights of few bits that it had then."""
