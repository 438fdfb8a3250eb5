"""One tree of a YAML file, the files of its list of defaults, and words: who comes later wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.adapters.hydra.words import Override, parse_override
from textune.adapters.hydra.yamlfile import Place, YamlFile, read_yaml
from textune.errors import ConfigError
from textune.wording import listing, nearest

COMMAND_LINE = "command line"
_ITSELF = "_self_"
_OF_HYDRA = ("hydra", "hydra/")


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


def compose(file: Path | None, words: Iterable[str]) -> Composed:
    """What Hydra would make of a YAML file and words that override it; of no file, the words alone.

    A word `group=option` chooses another file of the list of defaults. Words and keys about Hydra itself are set
    aside.
    """
    overrides = [parse_override(word) for word in words]
    composed = Composed()
    chosen = {"/".join(one.key): one for one in overrides if len(one.key) == 1 and isinstance(one.value, str | None)}
    if file is not None:
        used = _lay(composed, read_yaml(file), file.parent, (), chosen, [])
        overrides = [one for one in overrides if not (len(one.key) == 1 and one.key[0] in used)]
    for one in overrides:
        if one.key[0] in _OF_HYDRA or one.key[0].startswith("hydra/"):
            composed.of_hydra.append(one.word)
        elif one.action == "delete":
            composed.forget(one.key)
        else:
            composed.put(one.key, one.value, COMMAND_LINE)
    return composed


def _lay(
    composed: Composed, found: YamlFile, root: Path, package: Place, chosen: Mapping[str, Override], above: list[Path]
) -> set[str]:
    """Put the values of a file and of its defaults, in their order; the groups whose option a word chose."""
    path = found.path.resolve()
    if path in above:
        raise ConfigError(f"{found.path}: its list of defaults leads back to itself.", place=str(found.path))
    composed.files.append(found.path)
    entries = found.tree.get("defaults", [])
    if not isinstance(entries, list):
        raise ConfigError(f"{found.place(('defaults',))}: defaults is not a list.", key="defaults", value=entries)
    used: set[str] = set()
    for entry in entries if _ITSELF in entries else [*entries, _ITSELF]:
        if entry == _ITSELF:
            own = {name: value for name, value in found.tree.items() if name not in ("defaults", "hydra")}
            for key, value in _leaves(own):
                composed.put((*package, *key), value, found.place(key))
            continue
        group, option = _option(entry, found)
        if group.split("/")[0] == "hydra":
            composed.of_hydra.append(f"defaults: {group}")
            continue
        if group in chosen:
            used.add(group)
            option = None if chosen[group].action == "delete" else chosen[group].value
        if option is None:
            continue
        where = root / group / f"{option}.yaml" if group else root / f"{option}.yaml"
        inner = package if not group else (*package, *group.split("/"))
        used |= _lay(composed, _of_group(where, found), root, inner, chosen, [*above, path])
    if "hydra" in found.tree:
        composed.of_hydra.append("hydra")
    return used


def _option(entry: object, found: YamlFile) -> tuple[str, Any]:
    """The group (empty for a plain file) and the option of an entry of a list of defaults."""
    if isinstance(entry, str):
        return "", entry.removeprefix("/").removesuffix(".yaml")
    if isinstance(entry, dict) and len(entry) == 1:
        [(group, option)] = entry.items()
        return str(group).removeprefix("optional ").removeprefix("override ").strip().removeprefix("/"), option
    where = found.place(("defaults",))
    raise ConfigError(
        f"{where}: {entry!r:.60} is not an entry of a list of defaults.",
        hint="Write the name of a file, or GROUP: OPTION.",
        key="defaults",
        value=entry,
        place=where,
    )


def _of_group(path: Path, found: YamlFile) -> YamlFile:
    if path.is_file():
        return read_yaml(path)
    there = sorted(other.stem for other in path.parent.glob("*.yaml"))
    close = nearest(path.stem, there)
    where = found.place(("defaults",))
    raise ConfigError(
        f"{where}: defaults names {path.stem}, but there is no {path}.",
        hint=f"Did you mean {close}?" if close else f"There are {listing(there)}." if there else "",
        key="defaults",
        value=path.stem,
        place=where,
    )


def _leaves(tree: Mapping[str, Any], place: Place = ()) -> Iterable[tuple[Place, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*place, name))
        else:
            yield (*place, name), value
