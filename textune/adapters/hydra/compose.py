"""One tree of a YAML file, the files of its list of defaults, and words: who comes later wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.adapters.hydra.defaults import SELF, Entry, Groups, about_hydra, entries_of, option_chosen, search_path
from textune.adapters.hydra.interpolation import resolve
from textune.adapters.hydra.words import Override, parse_override
from textune.adapters.hydra.yamlfile import Place, YamlFile, read_yaml
from textune.errors import ConfigError
from textune.wording import listing, nearest

COMMAND_LINE = "command line"


@dataclass
class Composed:
    """Values, and where each was set."""

    tree: dict[str, Any] = field(default_factory=dict)
    places: dict[Place, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    """The YAML files that were read."""
    of_hydra: list[str] = field(default_factory=list)
    """Words and keys that are about Hydra itself."""

    def put(self, key: Place, value: Any, place: str) -> None:
        """Set a value; a mapping is laid over one that is there."""
        if isinstance(value, Mapping) and value:
            for name, item in value.items():
                self.put((*key, name), item, place)
            return
        table = self.tree
        for part in key[:-1]:
            if not isinstance(table.get(part), dict):
                table[part] = {}
            table = table[part]
        self.forget(key)
        table[key[-1]] = value
        self.places[key] = place

    def holds(self, key: Place) -> bool:
        """Whether there is a value, or a table, of that key."""
        found: Any = self.tree
        for part in key:
            if not isinstance(found, dict) or part not in found:
                return False
            found = found[part]
        return True

    def forget(self, key: Place) -> None:
        """Remove a value and what is in it."""
        table: Any = self.tree
        for part in key[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table.pop(key[-1], None)
        self.places = {known: place for known, place in self.places.items() if known[: len(key)] != key}


def find_config(name: str, folders: Sequence[Path]) -> Path:
    """The YAML file of that name in the first folder that has it; ConfigError that says where it was looked for."""
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    there = sorted({path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.yaml")})
    close = nearest(Path(file).stem, there)
    looked = listing("the current folder" if folder == Path() else folder for folder in dict.fromkeys(folders))
    beside = f"There are {listing(there)}; another" if there else "Another"
    raise ConfigError(
        f"--config-name {name}: there is no {file} in {looked}.",
        hint=f"Did you mean {close}?" if close else f"{beside} folder is named by --config-path FOLDER.",
        key="--config-name",
        value=name,
        place=looked,
    )


def compose(file: Path | None, words: Iterable[str], *, folders: Sequence[Path] = ()) -> Composed:
    """What Hydra would make of a YAML file and words that override it; of no file, the words alone.

    A word `group=option` chooses another file of the list of defaults, `+group=option` adds one. A group that the
    folder of `file` lacks is looked for in `folders`. `${key}` is the value of another key. Words and keys about
    Hydra itself are set aside. ConfigError with file and line, or the word, for whatever does not fit.
    """
    overrides = [parse_override(word) for word in words]
    composed = Composed()
    if file is not None:
        found = read_yaml(file)
        groups = Groups((file.parent, *search_path(found), *folders), _choices(overrides))
        _gather(found, groups, "", [])
        _lay(composed, found, groups, "", (), [])
        for one in groups.added():
            _lay_entry(composed, option_chosen(one, groups), groups, one.word, [])
        overrides = [one for one in overrides if not groups.has_used(one)]
    for one in overrides:
        if about_hydra(one.key[0]):
            composed.of_hydra.append(one.word)
        elif one.action == "delete":
            _require_held(one, composed)
            composed.forget(one.key)
        elif "/" in one.key[0]:
            _refuse_group(one, groups if file is not None else Groups((), {}))
        else:
            composed.put(one.key, one.value, COMMAND_LINE)
    resolve(composed.tree, composed.places)
    return composed


def _choices(overrides: Iterable[Override]) -> dict[str, Override]:
    """Words that may choose the option of a group."""
    return {one.key[0]: one for one in overrides if len(one.key) == 1 and isinstance(one.value, str | None)}


def _require_held(one: Override, composed: Composed) -> None:
    """ConfigError for a word that removes what is not there."""
    if composed.holds(one.key):
        return
    name = ".".join(one.key)
    close = nearest(name, {".".join(key[:length]) for key in composed.places for length in range(1, len(key) + 1)})
    raise ConfigError(
        f"{one.word}: there is no {name} to remove.",
        hint=f"Did you mean ~{close}?" if close else "Leave it out.",
        key=name,
        value=one.word,
        place=COMMAND_LINE,
        reason="there is no such key",
    )


def _refuse_group(one: Override, groups: Groups) -> None:
    """A word that can only be about a group, and there is no such group."""
    name = one.key[0]
    there = groups.names()
    close = nearest(name, there)
    raise ConfigError(
        f"{one.word}: there is no group {name}.",
        hint=f"Did you mean {close}?" if close else f"There are {listing(there)}." if there else "",
        key=name,
        value=one.value,
        place=COMMAND_LINE,
        reason="there is no such group",
    )


def _gather(found: YamlFile, groups: Groups, group: str, above: list[Path]) -> None:
    """Note which groups get another option by an `override` of a list of defaults, from the file down."""
    path = found.path.resolve()
    if path in above:
        raise ConfigError(f"{found.path}: its list of defaults leads back to itself.", place=str(found.path))
    for entry in entries_of(found, group):
        if entry.overrides:
            groups.override(entry, found)
        elif (inner := groups.file_of(entry, found)) is not None:
            _gather(read_yaml(inner), groups, entry.folder, [*above, path])


def _lay(composed: Composed, found: YamlFile, groups: Groups, group: str, package: Place, above: list[Path]) -> None:
    """Put the values of a file and of its defaults, in their order."""
    composed.files.append(found.path)
    entries = entries_of(found, group)
    itself = Entry(SELF, SELF)
    for entry in entries if itself in entries else [*entries, itself]:
        if entry == itself:
            own = {name: value for name, value in found.tree.items() if name not in ("defaults", "hydra")}
            for key, value in _leaves(own):
                composed.put((*package, *key), value, found.place(key))
        elif about_hydra(entry.group):
            composed.of_hydra.append(f"defaults: {entry.group}")
        elif not entry.overrides and (inner := groups.file_of(entry, found)) is not None:
            _lay_file(composed, inner, entry, groups, package, [*above, found.path])
    if "hydra" in found.tree:
        composed.of_hydra.append("hydra")


def _lay_entry(composed: Composed, entry: Entry, groups: Groups, place: str, above: list[Path]) -> None:
    inner = groups.path_of(entry, place)
    if inner is not None:
        _lay_file(composed, inner, entry, groups, (), above)


def _lay_file(composed: Composed, path: Path, entry: Entry, groups: Groups, package: Place, above: list[Path]) -> None:
    found = read_yaml(path)
    _lay(composed, found, groups, entry.folder, entry.package_below(package, found), above)


def _leaves(tree: Mapping[str, Any], place: Place = ()) -> Iterator[tuple[Place, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*place, name))
        else:
            yield (*place, name), value
