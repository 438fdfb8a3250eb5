"""Every error that textune raises on purpose, and its exit code (the table of codes is in exitcodes.py).

    TextuneError            the user can fix it: the CLI prints the sentence and exits with 2, or with a code that
                            says to try again where that helps
    ├── ConfigError         a key, a value, an override or a combination of keys
    ├── DataError           a file, a row, a column, a label or a split
    │   └── InputError      what was given to `predict` in Python
    ├── CodeError           code of the user's own: it is not there, lacks a method, or raises
    ├── ModelError          a backbone, a tokenizer, a device or a precision
    ├── RunError            a run folder: occupied, incomplete, or not one at all
    ├── ExportError         a kind of export that cannot hold a model, or one that does not answer as the model does
    ├── RanksError          processes that work together: one is missing or lost
    ├── Preempted           not an error: a scheduler stopped the run, and everything is saved (exit code 128 + signal)
    ├── LaunchError         a job for a scheduler: its size, its options, or a missing package
    └── HubError            the hub of models: a name, a token, rights, the network, or what is there already

Anything else that escapes is a bug: the CLI says so, names `--debug`, and exits with 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

FAULT, MEND = 1, 2
"""Exit codes after which the same command fails again until somebody mends something: textune, or what it was
given."""
NO_MEMORY, NO_ROOM, AGAIN = 71, 74, 75
"""Exit codes after which the same command may succeed later: with more memory, with room on the disk, or as it is
(EX_TEMPFAIL)."""


@dataclass(frozen=True)
class Setting:
    """A key of the configuration as a sentence names it: `set delimiter = ";"`; the command line has options for
    some."""

    key: str
    """Dotted, such as `train.precision`; bare for a key of the source being read, such as `delimiter`."""
    value: object = None
    """None: only the key is named."""
    verb: str = ""
    """Such as `set`, if the sentence needs it."""

    def __str__(self) -> str:
        value = "" if self.value is None else f" = {_as_toml(self.value)}"
        return f"{self.verb} {self.key}{value}".lstrip()


class Words:
    """A sentence that names settings. The printer decides how: the command line names its options instead."""

    def __init__(self, *parts: str | Setting | Words) -> None:
        self.parts: tuple[str | Setting, ...] = tuple(
            part for given in parts for part in (given.parts if isinstance(given, Words) else [given])
        )

    def said(self, name: Callable[[Setting], str] = str) -> str:
        """The sentence with each setting as `name` writes it; by default as in a config."""
        return "".join(part if isinstance(part, str) else name(part) for part in self.parts).strip()

    def __str__(self) -> str:
        return self.said()

    def __bool__(self) -> bool:
        return bool(self.said())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


Advice: TypeAlias = str | Words
"""What to do: in plain words, or in words that name settings."""


class TextuneError(Exception):
    """One sentence that names the place, the value and the reason; `hint` says what to do next.

    The other fields hold the same for a program. `exit_code`: another than that of the class.
    """

    exit_code = MEND

    def __init__(
        self,
        message: str | Words,
        *,
        hint: Advice = "",
        key: str = "",
        value: object = None,
        place: str = "",
        reason: str = "",
        exit_code: int | None = None,
    ) -> None:
        super().__init__(str(message))
        if exit_code is not None:
            self.exit_code = exit_code
        self._sentence = Words(message)
        self.message = str(message)
        self.remedy = Words(hint)
        """What to do next."""
        self.hint = str(self.remedy)
        """The remedy as it is printed."""
        self.key = key
        """The setting, or the Python argument, that is wrong or would help."""
        self.value = value
        """The value that cannot be used."""
        self.place = place
        """Such as `train.tsv, line 17`, or a path."""
        self.reason = reason
        """Why not."""

    def advise(self, advice: Advice) -> None:
        """Add to the hint."""
        self.remedy = Words(self.remedy, " ", advice)
        self.hint = str(self.remedy)

    def introduce(self, words: str) -> None:
        """Put words before the sentence, such as the name of the run that it is about."""
        self._sentence = Words(words, self._sentence)
        self.message = str(self._sentence)

    def name_settings(self, name: Callable[[Setting], str]) -> None:
        """Put message and hint in the reader's terms."""
        self.message, self.hint = self._sentence.said(name), self.remedy.said(name)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


def _as_toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_toml, value))}]"
    if isinstance(value, str | bool):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return str(value)


class ConfigError(TextuneError):
    """A configuration key, value or combination that cannot be used."""


class DataError(TextuneError):
    """A file, row, column, label or split that cannot be used."""


class InputError(DataError, TypeError, ValueError):
    """An argument in Python that cannot be texts; also a TypeError and a ValueError, as is usual in Python."""


class CodeError(TextuneError):
    """Code of the user's own that cannot be imported, is not what is asked of it, or raises an exception."""


class ModelError(TextuneError):
    """A backbone, tokenizer, device or precision that cannot be used."""


class RunError(TextuneError):
    """A run folder that is occupied, incomplete or not a run folder."""


class ExportError(TextuneError):
    """A kind of export that cannot take a model, or an export that does not answer as the model does."""


class RanksError(TextuneError):
    """Processes of a run that cannot find, or have lost, each other; a scheduler may simply try again
    (EX_TEMPFAIL)."""

    exit_code = AGAIN


class Preempted(TextuneError):
    """A signal asked the run to stop; everything is saved, and the same command resumes it."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class LaunchError(TextuneError):
    """A job that cannot be handed to a scheduler."""


class HubError(TextuneError):
    """The hub of models refuses a name, a token or files, holds something else there, or cannot be reached."""
