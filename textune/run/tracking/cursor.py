"""How far each tracker of a run came: `tracking/NAME.json` in its folder, a file for each place that it is sent to."""

from __future__ import annotations

import hashlib
import json
import threading
import uuid
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from textune.atomic import write_text
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.run.tracking.sink import Record

if TYPE_CHECKING:
    from pydantic import JsonValue

_WRITING = threading.Lock()
"""Two threads may have a cursor: one that its tracker has kept since the run ended, and one that sends the rest."""


@dataclass(frozen=True)
class Cursor:
    """What one tracker has of a run."""

    place: str
    """Where the tracker keeps it."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """`TrackedRun.key`."""
    run: str = ""
    """The tracker's own name of the run; empty before it has given one."""
    bytes: int = 0
    """How much of metrics.jsonl was passed on."""
    tail: str = ""
    """Hash of what stands right before that: in a file that was cut since, something else does."""
    sent: Mapping[str, int] = field(default_factory=dict)
    """The step of the last record of each stream. What a resumed run does again is not beyond it."""
    notices: tuple[str, ...] = ()
    """Hashes of the notices that it has: what is said again is not sent again."""
    left_out: int = 0
    """Records that it can never take."""
    files: tuple[str, ...] = ()
    """What it has kept of the complete run."""
    status: str = ""
    """How the run ended, as the tracker was told; empty while it goes on."""

    @classmethod
    def from_json(cls, tree: object, *, where: str) -> Self:
        """As it was written; RunError where that is something else."""
        try:
            assert isinstance(tree, Mapping)
            known = {name: tree[name] for name in {item.name for item in fields(cls)} & tree.keys()}
            known["sent"] = {str(stream): int(step) for stream, step in dict(known["sent"]).items()}
            for name in ("notices", "files"):
                known[name] = tuple(map(str, known[name]))
            known["bytes"] = int(known["bytes"])
            return cls(**known)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{where} is damaged: {type(error).__name__}: {error}.",
                hint="Remove it: the tracker then gets the whole run again, as a new one.",
                place=where,
                reason="damaged",
            ) from error

    def to_dict(self) -> dict[str, JsonValue]:
        """As JSON holds it."""
        tree: dict[str, JsonValue] = asdict(self)
        return tree | {"sent": dict(self.sent), "notices": list(self.notices), "files": list(self.files)}

    def has(self, record: Record) -> bool:
        """Whether the tracker has this record, or the same one of steps that are done again."""
        if record.kind == "notice":
            return _hash(record.message) in self.notices
        return record.step <= self.sent.get(record.stream, -1)

    def after(self, record: Record) -> Self:
        """This one, once the tracker has a further record."""
        if record.kind == "notice":
            return replace(self, notices=(*self.notices, _hash(record.message)))
        return replace(self, sent={**self.sent, record.stream: record.step})


def find_cursor(folder: Path, name: str, place: str, *, taken: Collection[Path] = ()) -> tuple[Path, Cursor | None]:
    """The file for this place among those of the folder that are called after `name`, and what it says; else a name
    that is neither there nor `taken`."""
    for path in sorted(folder.glob(f"{name}*.json")):
        cursor = _read(path)
        if cursor.place == place:
            return path, cursor
    path, number = folder / f"{name}.json", 1
    while path in taken or path.exists():
        number += 1
        path = folder / f"{name}-{number}.json"
    return path, None


def write_cursor(path: Path, cursor: Cursor, *, before: Cursor | None) -> None:
    """Write it. RunError where the file no longer says `before`: somebody else sends this run to the same place."""
    with _WRITING:
        if before is not None and (not path.is_file() or _read(path) != before):
            raise RunError(
                f"{path} was changed by another process.", hint="Let one of them send the run.", place=str(path)
            )
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps(cursor.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _read(path: Path) -> Cursor:
    try:
        tree = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {error}.",
            hint="Remove it: the tracker then gets the whole run again, as a new one.",
            place=str(path),
            reason=str(error),
        ) from error
    return Cursor.from_json(tree, where=str(path))


def _hash(message: str) -> str:
    return hashlib.blake2b(message.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
