"""The hub is asked once for all that a run opens, not once for each file."""

from collections.abc import Iterator

import pytest

from textune.config.schema import ModelSection
from textune.model import pretrained
from textune.model.pretrained import find_pretrained


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """When the hub was asked, on a clock that this test sets; it never answers."""
    times: list[float] = []
    monkeypatch.setattr(pretrained, "_answers", {})
    monkeypatch.setattr(pretrained.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(pretrained, "hub_answers", lambda: times.append(clock[0]) or False)  # type: ignore[func-returns-value]
    clock[0] = 1000.0
    yield times


clock = [0.0]


def test_one_name_and_revision_is_asked_for_once_in_a_while(asked: list[float]) -> None:
    def find(name: str, revision: str = "main") -> bool:
        section = ModelSection(pretrained=name, revision=revision)
        found = find_pretrained(name, section, key="model.pretrained")
        assert found.options["revision"] == revision
        return bool(found.options["local_files_only"])

    assert [find("owner/name") for _ in range(4)] == [True] * 4
    assert asked == [1000.0]
    find("owner/name", "v2"), find("owner/other"), find("owner/other")
    assert len(asked) == 3
    clock[0] += pretrained.HUB_MEMORY + 1
    find("owner/name"), find("owner/name")
    assert len(asked) == 4
