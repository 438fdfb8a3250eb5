"""Imports without a search for garbage: the collector is left as it was found."""

import gc
from collections.abc import Iterator

import pytest

import textune
from textune.cli import main
from textune.imports import importing


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("for_good", [False, True])
def test_nothing_is_collected_meanwhile_and_everything_afterwards(for_good: bool) -> None:
    with importing(for_good=for_good):
        assert not gc.isenabled()
    assert gc.isenabled() and (gc.get_freeze_count() > 0) == for_good


def test_an_error_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_a_collector_that_someone_set_is_left_alone() -> None:
    gc.disable()
    with importing():
        assert not gc.isenabled()
    assert not gc.isenabled()
    gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    with importing(for_good=True):
        assert gc.isenabled()
    assert 0 < gc.get_freeze_count() <= frozen  # objects die meanwhile, but no more are frozen


def test_verbs_freeze_what_they_import_and_the_library_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert issubclass(textune.__getattr__("TextuneError"), Exception)
    assert gc.isenabled() and gc.get_freeze_count() == 0
    with pytest.raises(SystemExit):
        main(["info", "nowhere"])
    assert "nowhere does not exist" in capsys.readouterr().err
    assert gc.isenabled() and gc.get_freeze_count() > 0
