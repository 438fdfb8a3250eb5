"""The list of defaults of a YAML file: its entries, the files that they name, and the words that choose others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textune.adapters.hydra.words import Override
from textune.adapters.hydra.yamlfile import Place, YamlFile
from textune.errors import ConfigError
from textune.wording import listing, nearest

SELF = "_self_"


def about_hydra(name: str) -> bool:
    """Whether a key or a group is one of Hydra's own."""
    return name == "hydra" or name.startswith("hydra/")


@dataclass(frozen=True)
class Entry:
    """One entry of a list of defaults."""

    group: str
    """Such as `module/optim`; empty for a plain file."""
    option: Any
    """The name of its file; None for none."""
    folder: str = ""
    """The group that entries of its file's own list of defaults start from."""
    package: str = ""
    """What `@` says of the place of its values; empty for the usual one."""
    overrides: bool = False
    """Whether it chooses the option of another entry."""
    optional: bool = False

    @property
    def file(self) -> str:
        """The path of its file, from a search folder."""
        return f"{self.group}/{self.option}.yaml" if self.group else f"{self.option}.yaml"

    def package_below(self, above: Place, found: YamlFile) -> Place:
        """Where its values go, for a list of defaults whose own values go to `above`."""
        said = self.package or found.package
        if said == "_global_":
            return ()
        if said in ("_here_", "_self_"):
            return above
        if said and said != "_group_":
            return tuple(said.removeprefix("_global_.").split("."))
        below = self.group.removeprefix("/".join(above)).strip("/") if above else self.group
        return (*above, *below.split("/")) if below else above


def entries_of(found: YamlFile, group: str) -> list[Entry]:
    """The list of defaults of a file of that group; ConfigError for what is no list of such entries."""
    entries = found.tree.get("defaults", [])
    if not isinstance(entries, list):
        raise ConfigError(f"{found.place(('defaults',))}: defaults is not a list.", key="defaults", value=entries)
    return [_entry(one, found, group) for one in entries]


def _entry(entry: object, found: YamlFile, group: str) -> Entry:
    if entry == SELF:
        return Entry(SELF, SELF)
    if isinstance(entry, str):
        name, _, package = entry.partition("@")
        folder, _, option = _absolute(name.removesuffix(".yaml"), group).rpartition("/")
        return Entry(folder, option, folder, package or "_here_")
    if isinstance(entry, dict) and len(entry) == 1:
        [(text, option)] = entry.items()
        words = str(text).split()
        name, _, package = words[-1].partition("@")
        folder = _absolute(name, group)
        return Entry(folder, option, folder, package, "override" in words[:-1], "optional" in words[:-1])
    where = found.place(("defaults",))
    raise ConfigError(
        f"{where}: {entry!r:.60} is not an entry of a list of defaults.",
        hint="Write the name of a file, or GROUP: OPTION.",
        key="defaults",
        value=entry,
        place=where,
    )


def _absolute(name: str, group: str) -> str:
    """A group or file as seen from a search folder; without a leading slash it is within `group`."""
    return name.removeprefix("/") if name.startswith("/") or not group else f"{group}/{name}"


def search_path(found: YamlFile) -> list[Path]:
    """Folders that the file itself names (`hydra.searchpath`); packages are folders below the current one."""
    listed = (found.tree.get("hydra") or {}).get("searchpath") or []
    folders = []
    for one in listed if isinstance(listed, list) else []:
        kind, _, path = str(one).rpartition("://")
        folders.append(Path(path.replace(".", "/")) if kind == "pkg" else Path(path))
    return [folder for folder in folders if folder.is_dir()]


@dataclass
class Groups:
    """The groups of the search folders, and who chose an option of them."""

    folders: Sequence[Path]
    chosen: Mapping[str, Override]
    """Words by the group that they may be about."""
    overridden: dict[str, Entry] = field(default_factory=dict)
    """Entries of lists of defaults that choose the option of another entry."""
    used: set[str] = field(default_factory=set)

    def names(self) -> list[str]:
        """All groups."""
        found = {
            path.parent.relative_to(folder).as_posix()
            for folder in self.folders
            for path in folder.glob("*/**/*.yaml")
        }
        return sorted(found)

    def override(self, entry: Entry, found: YamlFile) -> None:
        """Note an entry that chooses the option of another."""
        if not about_hydra(entry.group):
            self.path_of(entry, found.place(("defaults",)))
            self.overridden.setdefault(entry.group, entry)

    def file_of(self, entry: Entry, found: YamlFile) -> Path | None:
        """The file of an entry, or of the option that was chosen instead; None for none."""
        if entry.group == SELF or about_hydra(entry.group):
            return None
        place = found.place(("defaults",))
        if entry.package == "_here_":
            return self.path_of(entry, place)
        word = self.chosen.get(entry.group)
        if word is not None:
            self.used.add(entry.group)
            option = None if word.action == "delete" else word.value
            return self.path_of(Entry(entry.group, option), word.word)
        return self.path_of(self.overridden.get(entry.group, entry), place)

    def path_of(self, entry: Entry, place: str) -> Path | None:
        """The file of an entry; None for none, ConfigError where no search folder has it."""
        if entry.option is None:
            return None
        for folder in self.folders:
            if (folder / entry.file).is_file():
                return folder / entry.file
        if entry.optional:
            return None
        there = sorted({path.stem for folder in self.folders for path in (folder / entry.group).glob("*.yaml")})
        option = str(entry.option)
        close = nearest(option, there)
        said = f"defaults names {option}, but there is" if "," in place or place.endswith(".yaml") else "there is"
        raise ConfigError(
            f"{place}: {said} no {entry.file} in {listing(map(str, self.folders))}.",
            hint=f"Did you mean {close}?" if close else f"There are {listing(there)}." if there else "",
            key=entry.group if "=" in place else "defaults",
            value=option,
            place=place,
        )

    def added(self) -> Iterator[Override]:
        """Words that add a group which no list of defaults has; those are used now."""
        for name, one in self.chosen.items():
            is_group = any((folder / name).is_dir() for folder in self.folders)
            if name not in self.used and is_group and one.action == "set" and one.value is not None:
                self.used.add(name)
                yield one

    def has_used(self, one: Override) -> bool:
        """Whether a word chose the option of a group."""
        return len(one.key) == 1 and one.key[0] in self.used


def option_chosen(one: Override, groups: Groups) -> Entry:
    """The entry that a word adds."""
    name, _, package = one.key[0].partition("@")
    return Entry(name, one.value, name, package)
