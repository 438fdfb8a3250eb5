"""Files that verbs write: never the input, and an existing one only by request."""

from __future__ import annotations

import os
from pathlib import Path

from textune.data import STANDARD
from textune.errors import DataError


def require_target(source: str, target: str, *, force: bool) -> None:
    """DataError where `target` is the input itself, under any name, or exists without `force`."""
    if target == STANDARD:
        return
    if source != STANDARD and _same_file(source, target):
        raise DataError(
            f"--output {target} is the input itself.",
            hint="Choose another file; the input is never overwritten.",
            key="output",
            value=target,
        )
    if not os.path.lexists(target):
        return
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError(
            f"--output {target} is not a regular file.",
            hint="Choose another file, or omit --output and use a pipe.",
            key="output",
            value=target,
        )
    if not force:
        raise DataError(
            f"--output {target} already exists.",
            hint="Choose another file, or add --force to replace it.",
            key="output",
            value=target,
        )


def require_folder(target: str) -> None:
    """DataError where the folder that `target` is to stand in does not exist."""
    folder = Path(target).parent
    if target != STANDARD and not folder.is_dir():
        reason = f"the folder {folder} does not exist"
        raise DataError(
            f"--output {target}: {reason}.",
            hint="Make it, or choose another --output.",
            key="output",
            value=target,
            place=target,
            reason=reason,
        )


def _same_file(one: str, other: str) -> bool:
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return Path(one).resolve() == Path(other).resolve()
