"""Shared by all tests: a clean, offline, quiet environment."""

import os
import signal
import sys
from pathlib import Path

import pytest

# A shell that starts the tests in the background has them ignore Ctrl+C, which some of them send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests out of the user's caches of tokens and compiled kernels."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setattr("textune.data.tokens.default_cache", lambda: base / "token-cache")
    monkeypatch.setattr("textune.model.native.build.default_cache", lambda: base / "kernel-cache")
