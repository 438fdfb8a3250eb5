"""What an error says to a program: which key, which value, where and why; the prose is free to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from textune.errors import TextuneError

_ANY: Any = object()


@contextmanager
def refused(
    error: type[TextuneError] = TextuneError,
    *,
    key: str = _ANY,
    value: Any = _ANY,
    place: str = _ANY,
    reason: str = _ANY,
) -> Iterator[pytest.ExceptionInfo[TextuneError]]:
    """The body raises this error, which is given, with each of the fields that are named; `place`, `reason`: a part
    of it is enough."""
    with pytest.raises(error) as caught:
        yield caught
    found = caught.value
    assert key is _ANY or found.key == key, f"key {found.key!r} of: {found}"
    assert value is _ANY or found.value == value, f"value {found.value!r} of: {found}"
    assert place is _ANY or place in found.place, f"place {found.place!r} of: {found}"
    assert reason is _ANY or reason in found.reason, f"reason {found.reason!r} of: {found}"
    assert found.message, "an error says something"
