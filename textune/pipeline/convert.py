"""Writes what another system's configuration became as a config file."""

from __future__ import annotations

from pathlib import Path

from textune.adapters import Foreign, as_toml, load_foreign, read_foreign
from textune.atomic import write_text
from textune.config import user_path
from textune.errors import ConfigError


def convert(foreign: Foreign | str | Path, out: str | Path | None = None) -> str:
    """The text of the config file, which is also written to `out` if there is one.

    `foreign`: another system's configuration as its adapter gives it, or the name of such a file.

    Its paths start from the folder of `out`, else from the current folder. ConfigError where `out` exists or its
    folder does not, and for values that do not fit.
    """
    if not isinstance(foreign, Foreign):
        foreign = _foreign_file(user_path(foreign))
    load_foreign(foreign)
    if out is None:
        return as_toml(foreign)
    out = user_path(out)
    if out.exists():
        raise ConfigError(
            f"--out {out} exists; nothing is ever overwritten.",
            hint="Choose another name, or remove it first.",
            key="--out",
            value=str(out),
        )
    if not out.absolute().parent.is_dir():
        raise ConfigError(
            f"--out {out}: its folder does not exist.", hint="Create it first.", key="--out", value=str(out)
        )
    text = as_toml(foreign, out.parent)
    write_text(out, text)
    return text


def _foreign_file(file: Path) -> Foreign:
    """ConfigError for a file that is no other system's."""
    found = read_foreign(file)
    if found is None:
        raise ConfigError(
            f"{file} is no configuration of another system that textune knows."
            if file.is_file()
            else f"{file} does not exist.",
            hint="docs/migrating.md names the systems.",
            place=str(file),
            reason="no configuration of another system",
        )
    return found
