"""Shared by all tests: a clean, offline, quiet environment, and the same processor everywhere."""

import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings

# A shell that starts the tests in the background has them ignore Ctrl+C and Ctrl+\, and `nohup` the end of the
# terminal; some tests send themselves these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ignored in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_ignored, signal.SIG_DFL)
# The same examples in every run, however busy the machine is; `--hypothesis-profile=default` looks for others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
# Before PyTorch is imported. Models here are too small for two threads, and where other work wants the cores, too,
# threads that wait for each other make a test ten to forty times slower.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

FEATURES = ("bf16",)
"""What some processors have: `has_...` in `textune.model.processor`."""


def pytest_make_parametrize_id(val: object) -> str | None:
    """gzip and zip write the time into their bytes, and every process must give a test the same name."""
    packed = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip"}
    found = (name for start, name in packed.items() if isinstance(val, bytes) and val.startswith(start))
    return next(found, None)


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs of this machine from tests that are not about them: their figures are those of a processor."""
    chosen = config.option.markexpr
    if "gpu" not in chosen or "not gpu" in chosen:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the points of a grid marked `every_day(n)`, n are not slow: which ones is drawn by their names."""
    grids: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("every_day") and not item.get_closest_marker("slow"):
            grids.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for grid in grids.values():
        [number] = grid[0].iter_markers("every_day")
        for item in sorted(grid, key=lambda item: crc32(item.name.encode()))[number.args[0] :]:
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if terminalreporter.config.option.collectonly:
        return
    # The module alone: where other processes ran the tests, nothing is imported here yet.
    package = find_spec("textune")
    assert package is not None and package.origin is not None
    processor = runpy.run_path(str(Path(package.origin).parent / "model" / "processor.py"))
    found = [name for name in FEATURES if processor[f"has_{name}"]()]
    capped = " (capped)" if processor["is_capped"]() else ""
    terminalreporter.write_line(f"textune: {Path(package.origin).parent}")
    terminalreporter.write_line(
        f"processor: {processor['vectors']()}{capped}, {', '.join(found) or 'none'} of {FEATURES}"
    )


@pytest.fixture(scope="session", autouse=True)
def real_features() -> Iterator[dict[str, Callable[[], bool]]]:
    """Every processor is one without the features: a test that takes one for granted fails here, not only
    elsewhere."""
    from textune.model import processor

    real = {name: getattr(processor, f"has_{name}") for name in FEATURES}
    with pytest.MonkeyPatch.context() as patch:
        for name in FEATURES:
            patch.setattr(processor, f"has_{name}", lambda: False)
        yield real


@pytest.fixture(autouse=True)
def asked_features(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, real_features: dict[str, Callable[[], bool]]
) -> None:
    """`@pytest.mark.needs_processor("bf16")`: the test is skipped where there is no such thing, and sees it where
    there is."""
    for marker in request.node.iter_markers("needs_processor"):
        for name in marker.args:
            if not real_features[name]():
                pytest.skip(f"this processor has no {name}")
            monkeypatch.setattr(f"textune.model.processor.has_{name}", real_features[name])


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's cache of tokens."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setattr("textune.batches.cache.default_cache", lambda: base / "token-cache")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One for all tests, since MLflow keeps its store for the process."""
    from kits.mlflowserver import serving

    with serving(tmp_path_factory.mktemp("mlflow")) as server:
        yield server
