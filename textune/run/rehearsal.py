"""`train --fast-dev-run`: the same run with one batch of everything, in a folder that is removed again."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from textune.config import Duration
from textune.data import Part
from textune.ranks import Ranks
from textune.run.folder import RunFolder
from textune.run.parts import Ingredients, Tokenized


@contextlib.contextmanager
def scratch_folder(beside: Path, ranks: Ranks) -> Iterator[RunFolder]:
    """A run folder beside a path, removed at the end; every rank gets the same one."""
    parent = beside.absolute().parent
    made = next(ancestor for ancestor in [parent, *parent.parents] if ancestor.is_dir())
    with contextlib.ExitStack() as stack:
        name = None
        if ranks.is_first:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=".fast-dev-run-", dir=made))
        yield RunFolder(Path(ranks.broadcast(name)))
        ranks.wait()


def one_batch_of_everything(parts: Ingredients) -> Ingredients:
    """The same run with one training step and one batch of every other split."""
    size = parts.experiment.train.batch_size

    def first(part: Part) -> Part:
        return part if part.name == "train" else replace(part, indices=part.indices[:size])

    duration = Duration(1, "steps")
    section = parts.experiment.train.model_copy(update={"duration": duration})
    data = parts.data.map_parts(first)
    return replace(
        parts,
        experiment=parts.experiment.model_copy(update={"train": section}),
        data=data,
        plan=replace(parts.plan, duration=duration),
        parts={part.name: Tokenized(part, parts.parts[part.name].store) for part in data.parts},
    )
