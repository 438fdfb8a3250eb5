"""`textune show`: the resolved configuration as TOML, each value with its origin; the output is itself
a config file.
"""

from __future__ import annotations

from collections.abc import Iterator

from textune.config.fields import REQUIRED, Place, default_of, keys_of
from textune.config.load import DEFAULT, Loaded
from textune.config.schema import Experiment
from textune.config.section import Section
from textune.config.toml import align, format_key, format_value, printable, shorten


def show(loaded: Loaded, *, diff: bool = False) -> str:
    """TOML text of the configuration, each value followed by `# origin`; keys that are not set appear as comments.

    With `diff`, only the values that differ from their defaults, with the defaults. The text loads to an equal
    `Experiment`.
    """
    source = loaded.preset if loaded.path is None else loaded.path.name
    name = f" of {printable(source)}" if source else ""
    what = "what differs from the defaults" if diff else "every value with its origin"
    lines = [f"# Resolved configuration{name}: {what}.", *loaded.remarks]
    heading = len(lines)
    for header, table in _tables(loaded, loaded.experiment, Experiment(), (), diff=diff, in_list=False):
        lines += ["", *filter(None, [header]), *align(table)]
    if diff and len(lines) == heading:
        lines.append("# Nothing differs.")
    return "\n".join(lines) + "\n"


def _tables(
    loaded: Loaded, section: Section, default: object, place: Place, *, diff: bool, in_list: bool
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The tables of a section in the order of the schema: its own values first, then the tables inside. At the top
    level there is no header, and a value there is a section that is not set."""
    lines: list[tuple[str, str]] = []
    inner: list[tuple[str, Section | tuple[Section, ...] | dict[str, Section], object]] = []
    for name in keys_of(type(section)):
        value, standard = getattr(section, name), _default(section, default, name)
        if isinstance(value, Section) or _holds_sections(value):
            inner.append((name, value, standard))
        elif not diff or value != standard:
            lines += _value_lines(loaded, (*place, name), value, standard, diff=diff)
    if lines or in_list:
        header = format_key(*(part for part in place if isinstance(part, str)))
        yield (f"[[{header}]]" if in_list else f"[{header}]" if header else ""), lines
    for name, value, standard in inner:
        if isinstance(value, Section):
            yield from _tables(loaded, value, standard, (*place, name), diff=diff, in_list=False)
        elif isinstance(value, dict):
            for entry, table in value.items():
                yield from _tables(loaded, table, REQUIRED, (*place, name, entry), diff=diff, in_list=False)
        else:
            for index, item in enumerate(value):
                yield from _tables(loaded, item, REQUIRED, (*place, name, index), diff=diff, in_list=True)


def _holds_sections(value: object) -> bool:
    """Whether a value is a list of tables, or tables by name."""
    items = list(value.values()) if isinstance(value, dict) else value
    return isinstance(items, list | tuple) and bool(items) and isinstance(items[0], Section)


def _value_lines(
    loaded: Loaded, place: Place, value: object, standard: object, *, diff: bool
) -> list[tuple[str, str]]:
    name, remark = str(place[-1]), _remark(loaded, place, standard, diff=diff)
    if value is None:
        return [("", f"{name} is not set" + (f"  ({remark})" if diff else ""))]
    if isinstance(value, dict) and value:
        lines = []
        for entry, inner in value.items():
            key = format_key(name, str(entry))
            origin = loaded.origins.get(format_key(*place, str(entry)), DEFAULT)
            lines.append(
                (f"{key} = {format_value(inner)}", origin) if inner is not None else ("", f"{key} is not set")
            )
        return lines
    return [(f"{name} = {format_value(value)}", remark)]


def _remark(loaded: Loaded, place: Place, standard: object, *, diff: bool) -> str:
    origin = loaded.origins.get(format_key(*place), DEFAULT)
    if not diff or standard is REQUIRED:
        return origin
    return f"{origin}, default: {'not set' if standard is None else shorten(format_value(standard, one_line=True))}"


def _default(section: Section, default: object, name: str) -> object:
    """The default of a key: from the section that is the default at this place, else from the section's own class."""
    if isinstance(default, Section) and (
        type(default) is type(section) or (name == "kind" and hasattr(default, "kind"))
    ):
        return getattr(default, name)
    return REQUIRED if name == "kind" else default_of(type(section), name)
