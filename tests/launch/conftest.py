"""A config that loads; its data need not exist, since launching reads none."""

from pathlib import Path

import pytest


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = tmp_path / "My first.toml"
    path.write_text('[data.train]\nfiles = "reviews.csv"\n[model]\npretrained = "backbone"\n', encoding="utf-8")
    return path
