"""`textune generate`: texts of a language model that was saved, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kits.cli import run_cli
from kits.languagefolders import saved_language_model

import textune


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_language_model(tmp_path_factory.mktemp("language"))
