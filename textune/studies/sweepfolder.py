"""`study.json` in the folder of a sweep: which sweep it is, so that the same one goes on and another is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textune.atomic import write_text
from textune.config import Role, Stage, format_value, role_of
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.wording import listing

if TYPE_CHECKING:
    from pydantic import JsonValue

NAME = "study.json"
_KIND = "sweep"
_MAX_SHOWN = 4


def identity_of(stages: Sequence[tuple[Stage, Mapping[str, object]]]) -> dict[str, JsonValue]:
    """What must stay the same for the runs of a sweep to go on together: each search, and what it is laid over.

    The values of a grid, the number of trials and keys that only say how a run is computed may change.
    """
    return {str(number): _search_of(search, base) for number, (search, base) in enumerate(stages, 1)}


def _search_of(search: Stage, base: Mapping[str, object]) -> dict[str, JsonValue]:
    found: dict[str, Any] = {"keys": sorted(search.keys), "continues": search.continues, "name": search.name or ""}
    for kind in ("random", "optuna"):
        section = getattr(search, kind)
        if section is not None:
            found[kind] = {key: value for key, value in section.model_dump(mode="json").items() if key != "trials"}
    swept = tuple(search.keys)
    found["config"] = {
        key: value
        for key, value in _flat(base).items()
        if role_of(key) is not Role.COMPUTED and not any(key == one or key.startswith(f"{one}.") for one in swept)
    }
    return found


def _flat(tree: object, start: str = "") -> dict[str, Any]:
    """Values by dotted key; those of lists as they are."""
    if not isinstance(tree, Mapping):
        return {} if tree is None else {start: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{start}.{name}" if start else str(name))
    return found


class SweepFolder:
    """The folder of a sweep, and what is written down in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: dict[str, Any] = {}

    def open(self, identity: Mapping[str, JsonValue]) -> None:
        """Begin in a new folder, or go on in one of the same sweep; RunError where it holds anything else."""
        if self.path.is_dir() and any(self.path.iterdir()):
            self._held = self._read()
            self._require_same(identity)
            return
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file; a folder was expected.", hint=_OTHER, place=str(self.path))
        self._held = {"version": 1, "study": _KIND, "identity": dict(identity), "proposed": {}}
        self._write()

    def proposals(self, stage: str) -> list[dict[str, object]]:
        """What Optuna has proposed in a stage, in order; `stage`: where its runs are."""
        return list(self._held["proposed"].get(stage, []))

    def keep_proposals(self, stage: str, proposed: Sequence[Mapping[str, object]]) -> None:
        """Write down what Optuna has proposed, before it is tried."""
        self._held["proposed"][stage] = [dict(one) for one in proposed]
        self._write()

    def _read(self) -> dict[str, Any]:
        path = self.path / NAME
        reason = f"it is not empty, and has no {NAME}"
        try:
            held = parse_json(path.read_text(encoding="utf-8"))
            if isinstance(held, dict) and held.get("study") == _KIND and isinstance(held.get("identity"), dict):
                return held
            reason = f"{NAME} says that it holds something else"
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            reason = f"{NAME} cannot be read: {error}"
        raise RunError(
            f"{self.path} is not the folder of a sweep: {reason}.", hint=_OTHER, place=str(self.path), reason=reason
        )

    def _require_same(self, identity: Mapping[str, JsonValue]) -> None:
        before, now = _flat(self._held["identity"]), _flat(identity)
        changed = [key for key in before.keys() | now.keys() if before.get(key) != now.get(key)]
        if not changed:
            return
        said = [f"{_in_words(key)} was {_shown(before, key)} and is {_shown(now, key)}" for key in sorted(changed)]
        reason = "; ".join(listing([line], 1) for line in said[:_MAX_SHOWN])
        reason += f"; and {len(said) - _MAX_SHOWN} more" if len(said) > _MAX_SHOWN else ""
        raise RunError(
            f"{self.path} holds another sweep: {reason}.",
            hint=f"{_OTHER} Values of a grid may be added, and trials.",
            key="run",
            value=str(self.path),
            place=str(self.path),
            reason=reason,
        )

    def _write(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(
            self.path / NAME, json.dumps(self._held, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
        )


_OTHER = "Choose another folder with --run."


def _in_words(key: str) -> str:
    """`train.batch_size` for `1.config.train.batch_size`."""
    _, _, rest = key.partition(".")
    return rest.removeprefix("config.")


def _shown(values: Mapping[str, Any], key: str) -> str:
    return format_value(values[key], one_line=True) if key in values else "not set"
