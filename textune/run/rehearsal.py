"""`train --fast-dev-run`: the same run with one batch of everything, in a folder that is removed again."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from textune.config import Duration
from textune.data import Split
from textune.ranks import Ranks
from textune.run.folder import RunFolder
from textune.run.parts import Parts


@contextlib.contextmanager
def scratch_folder(beside: Path, ranks: Ranks) -> Iterator[RunFolder]:
    """A run folder beside a path, removed at the end; every rank gets the same one."""
    parent = beside.absolute().parent
    made = next(ancestor for ancestor in [parent, *parent.parents] if ancestor.is_dir())
    with contextlib.ExitStack() as stack:
        name = ""
        if ranks.is_first:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=".fast-dev-run-", dir=made))
        yield RunFolder(Path(ranks.broadcast(name)))
        ranks.wait()


def one_batch_of_everything(parts: Parts) -> Parts:
    """The same run with one training step and one batch of every other split, of which no tracker hears."""
    size = parts.settings.train.batch_size

    def first(split: Split) -> Split:
        """The rows that are left; documents stay, as chunks know theirs by number."""
        is_kept = split.name == "train" or parts.documents is not None
        return split if is_kept else replace(split, indices=split.indices[:size])

    duration = Duration(1, "steps")
    section = parts.settings.train.model_copy(update={"duration": duration})
    data = parts.data.map_splits(first)
    return replace(
        parts,
        settings=replace(parts.settings, train=section, track=()),
        data=data,
        plan=replace(parts.plan, duration=duration),
        rows={
            name: rows if name == "train" else rows.at(np.arange(min(size, len(rows))))
            for name, rows in parts.rows.items()
        },
    )
