"""Inspects files of labelled text and writes a commented config: one that is ready to train, or says what to set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textune.atomic import write_text
from textune.config import FilesSource, require_quality, starter_config, user_path
from textune.data import guess_layout
from textune.errors import ConfigError
from textune.pipeline.proposing import backbone_for, chosen_in_words, starter_facts, try_files, with_names


@dataclass(frozen=True)
class Started:
    """What `init` wrote, and why."""

    path: str
    """The config."""
    chosen: dict[str, str]
    """What was decided: text, label, task, rows, model, time."""
    notes: tuple[str, ...]
    """What the user should check, as sentences."""
    unsettled: tuple[str, ...]
    """What the user has to set before the config can be used, as sentences."""

    @property
    def ok(self) -> bool:
        """Whether the config is ready to train."""
        return not self.unsettled

    def to_dict(self) -> dict[str, object]:
        """As a JSON object."""
        return {**vars(self), "ok": self.ok}


def init(
    files: Sequence[str], out: str | Path, *, pretrained: str | None = None, preset: str | None = None
) -> Started:
    """Write a config for `files` to `out`. `preset`: `fast`, `balanced` or `best`, which then says how to train.

    Paths are written relative to the config's folder. Raises ConfigError where `out` exists or its name does not
    end in .toml, DataError where a file cannot be read or holds no text.
    """
    out = user_path(out)
    if out.exists():
        raise ConfigError(
            f"--out {out} exists; nothing is ever overwritten.", hint="Choose another name, or remove it first."
        )
    if out.suffix.lower() != ".toml":
        raise ConfigError(
            f"--out {out}: a config is a TOML file, whose name ends in .toml.",
            hint=f"Call it {out.with_suffix('.toml') if out.name else 'config.toml'}.",
            key="out",
            value=str(out),
            reason="its name does not end in .toml",
        )
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: its folder does not exist.", hint="Create it first.")
    guess = guess_layout(list(files))
    guess, tried = with_names(guess, try_files(guess))
    near = list(dict.fromkeys([out.absolute().parent, Path(guess.source.files[0]).absolute().parent, Path.cwd()]))
    proposed, time = backbone_for(pretrained, tried, near=near)
    model = proposed.pretrained
    model = _relative(model, out) if os.path.isdir(model) and proposed.backbone is None else model
    facts = replace(
        starter_facts(guess, tried, model=model, remark=proposed.remark),
        files=_relative_files(guess.source.files, out),
        options=_options(guess.source, out),
        test=_options(guess.test, out, with_files=True) if guess.test else {},
        is_lines=bool(guess.unsettled) and guess.source.format in {"text", "auto"} and guess.columns.text == "text",
        names_file=_relative(guess.labels.names_file, out) if guess.labels.names_file else None,
        config_name=str(out),
        preset="" if preset is None else require_quality(preset),
    )
    if tried.section is not None and isinstance(tried.section.validation, FilesSource):
        facts = replace(facts, validation=_options(tried.section.validation, out, with_files=True))
    write_text(out, starter_config(facts))
    unsettled = (*(guess.unsettled or tried.unsettled), *proposed.unsettled)
    chosen = chosen_in_words(guess, tried.data)
    if model:
        chosen["model"] = replace(proposed, pretrained=model).in_words
    if time and preset is None:  # it is foretold of the starter's own epochs
        chosen["time"] = time
    return Started(str(out), chosen, (*guess.notes, *tried.notes, *proposed.notes), unsettled)


# --- paths and keys --------------------------------------------------------------------------------------------------


def _options(source: FilesSource, out: Path, *, with_files: bool = False) -> dict[str, object]:
    """The keys of a source that are not the defaults."""
    keys = source.model_dump(exclude_defaults=True, exclude={"kind"} if with_files else {"kind", "files"})
    return {
        key: _relative_files(value, out) if key in {"files", "label_files"} else value for key, value in keys.items()
    }


def _relative_files(files: Sequence[str], out: Path) -> tuple[str, ...]:
    return tuple(_relative(file, out) for file in files)


def _relative(path: str, out: Path) -> str:
    """Relative to the config's folder, which the loader resolves paths against."""
    return os.path.relpath(os.path.abspath(path), out.absolute().parent)
