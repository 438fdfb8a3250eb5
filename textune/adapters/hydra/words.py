"""Words that override keys, in Hydra's grammar: `key=value`, `+key=value`, `++key=value`, `~key`.

A value is text, quoted text, a number, `true`, `false`, `null`, a list `[a,b]` or a mapping `{a:1,b:2}`; `${key}`
is the value of another key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from textune.errors import ConfigError

_WHOLE = re.compile(r"[-+]?\d+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?inf|nan", re.IGNORECASE)
_KEY = re.compile(r"[\w$/.@:-]+")
_FIXED = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Override:
    """One word."""

    key: tuple[str, ...]
    value: Any
    action: Literal["set", "delete"] = "set"
    word: str = ""


def parse_override(word: str) -> Override:
    """ConfigError for a word that is not an override, or asks for several runs (`key=a,b`)."""
    name, equals, text = word.partition("=")
    action: Literal["set", "delete"] = "delete" if name.startswith("~") else "set"
    key = name.lstrip("~+")
    if not _KEY.fullmatch(key) or not (equals or action == "delete"):
        raise _refused(word, "it is not KEY=VALUE", "Write KEY=VALUE, such as learning_rate=1e-4.")
    parts = tuple(key.split("."))
    if not all(parts):
        raise _refused(word, "a part of the key is empty", "Write KEY=VALUE, such as data_config.train_file=x.jsonl.")
    if action == "delete":
        return Override(parts, None, "delete", word)
    return Override(parts, _Reader(text, word).whole(), word=word)


class _Reader:
    """Reads one value from left to right."""

    def __init__(self, text: str, word: str) -> None:
        self.text, self.word, self.at = text, word, 0

    def whole(self) -> Any:
        """The value that is all of the text."""
        value = self.value("")
        self.skip_spaces()
        if self.at < len(self.text):
            if self.text[self.at] == ",":
                raise _refused(
                    self.word,
                    "several values are several runs",
                    "Give one value; a text with a comma stands in quotes.",
                )
            raise _refused(self.word, f"nothing may follow after {self.text[: self.at]}", "Put the value in quotes.")
        return value

    def value(self, ends: str) -> Any:
        """A value that ends before one of these letters."""
        self.skip_spaces()
        first = self.text[self.at : self.at + 1]
        if first in ("'", '"') and first:
            return self.quoted(first)
        if first == "[":
            return self.items("]", lambda: self.value(",]"))
        if first == "{":
            return dict(self.items("}", self.pair))
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in (ends or ","):
            reference = self.text.find("}", self.at) if self.text.startswith("${", self.at) else -1
            self.at = max(self.at, reference) + 1
        return self.plain(self.text[start : self.at].strip())

    def plain(self, text: str) -> Any:
        """Text that may mean a number, a truth value or nothing."""
        if text.lower() in _FIXED:
            return _FIXED[text.lower()]
        if _WHOLE.fullmatch(text):
            return int(text)
        return float(text) if _NUMBER.fullmatch(text) else text

    def quoted(self, quote: str) -> str:
        """Text in quotes, where a backslash protects a quote."""
        found, self.at = "", self.at + 1
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == "\\" and self.text[self.at + 1 : self.at + 2] == quote:
                letter, self.at = quote, self.at + 1
            elif letter == quote:
                self.at += 1
                return found
            found, self.at = found + letter, self.at + 1
        raise _refused(self.word, "a quote is not closed", f"Close it with {quote}.")

    def items(self, end: str, one: Any) -> list[Any]:
        """What stands between brackets."""
        found: list[Any] = []
        self.at += 1
        while True:
            self.skip_spaces()
            if self.text[self.at : self.at + 1] == end and not found:
                self.at += 1
                return found
            found.append(one())
            self.skip_spaces()
            letter = self.text[self.at : self.at + 1]
            if letter not in (",", end) or not letter:
                raise _refused(self.word, f"a bracket is not closed by {end}", f"Close it with {end}.")
            self.at += 1
            if letter == end:
                return found

    def pair(self) -> tuple[str, Any]:
        """A key and its value."""
        key = self.value(":,}")
        if self.text[self.at : self.at + 1] != ":":
            raise _refused(self.word, "a key in braces has no value", "Write {key:value}.")
        self.at += 1
        return str(key), self.value(",}")

    def skip_spaces(self) -> None:
        """Go on to the next letter."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1


def _refused(word: str, reason: str, hint: str) -> ConfigError:
    return ConfigError(
        f"{word} cannot be used: {reason}.",
        hint=hint,
        key=word.partition("=")[0].lstrip("~+"),
        value=word,
        place="command line",
        reason=reason,
    )
