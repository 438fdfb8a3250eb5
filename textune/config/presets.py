"""Configurations that come with textune, by name: `preset:tiny` is a file in `textune/presets`; below `parents.py`.

To add one: put a TOML file there that begins with a comment of one line, which `textune presets` prints. A table
`[parameters]` at its top holds words and their defaults: `{language}` in any text of the file stands for the value of
`language`, which a user sets in the name, as in `preset:xnli:language=de`. Relative paths start where a user names the
preset, so its own files are written as `package:textune/presets/...`, and its parents are presets too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from textune.config.toml import Tree, read_toml
from textune.errors import ConfigError
from textune.wording import LIKELY, listing, nearest

PREFIX = "preset:"
_FOLDER = Path(__file__).parents[1] / "presets"
_PARAMETERS = "parameters"


def is_preset(name: object) -> bool:
    """Whether this names a preset, whether or not there is one of that name."""
    return isinstance(name, str) and name.startswith(PREFIX)


def preset_names() -> list[str]:
    """The names of all presets, without the prefix, sorted."""
    return sorted(path.relative_to(_FOLDER).with_suffix("").as_posix() for path in _FOLDER.rglob("*.toml"))


def described_presets() -> dict[str, str]:
    """What each preset is for, in one line, by its name."""
    return {name: _first_line(_FOLDER / f"{name}.toml") for name in preset_names()}


def preset_like(name: str, *, cutoff: float = LIKELY) -> str:
    """The name of the preset that was probably meant; empty if none is close.

    A task of GLUE may be named alone: so may any preset whose last word no other has.
    """
    names = preset_names()
    last_words = [known.rpartition("/")[2] for known in names]
    by_word = {word: known for word, known in zip(last_words, names, strict=True) if last_words.count(word) == 1}
    called = by_word | {known: known for known in names}
    return called.get(nearest(name, called, cutoff=cutoff) or "", "")


def name_of_preset(preset: str) -> str:
    """What a run of it is called: its name without parameters, in one word."""
    return preset.removeprefix(PREFIX).partition(":")[0].replace("/", "-")


def read_preset(name: str) -> Tree:
    """The tables of `preset:NAME` or `preset:NAME:PARAMETER=VALUE,...`, with its parameters filled in.

    ConfigError for a name that no preset has, and for a parameter that this one does not have.
    """
    plain, _, given = name.removeprefix(PREFIX).partition(":")
    if plain not in preset_names():
        raise _unknown(name, plain)
    tree = read_toml(_FOLDER / f"{plain}.toml", shown=name)
    defaults = tree.pop(_PARAMETERS, {})
    parameters = defaults | _given(name, given, defaults)
    return {key: _filled(value, parameters) for key, value in tree.items()}


def _unknown(name: str, plain: str) -> ConfigError:
    near = preset_like(plain)
    hint = f'Did you mean "{PREFIX}{near}"? ' if near else ""
    return ConfigError(
        f"{name}: there is no such preset.",
        hint=f"{hint}`textune presets` lists them all.",
        key="extends",
        value=name,
        reason="there is no such preset",
    )


def _given(name: str, text: str, known: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in text.split(",") if text else []:
        key, equals, value = word.partition("=")
        if not equals or not value or key not in known:
            has = f"Its parameters: {listing(known)}." if known else "It has no parameters."
            near = nearest(key, known)
            hint = f"Did you mean {near}? {has}" if near and near != key else has
            reason = "there is no such parameter" if equals and value else "a parameter is written NAME=VALUE"
            raise ConfigError(
                f"{name}: {word!r}: {reason}.", hint=hint, key="extends", value=word, place=name, reason=reason
            )
        found[key] = value
    return found


def _filled(value: object, parameters: Mapping[str, str]) -> object:
    """The value with each parameter in braces replaced, inside lists and tables too."""
    if isinstance(value, str):
        for key, word in parameters.items():
            value = value.replace(f"{{{key}}}", word)
        return value
    if isinstance(value, list):
        return [_filled(item, parameters) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, parameters) for key, item in value.items()}
    return value


def _first_line(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return lines.readline().removeprefix("#").strip()
