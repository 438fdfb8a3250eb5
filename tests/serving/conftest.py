"""One small model of each kind, for all tests of this room."""

from pathlib import Path

import pytest
from kits.gating import forked_gate
from kits.serving import NUMBER, TAGS, TONES, TOPICS, save_model

from textune.config.sources import MetadataPrefix
from textune.tasks.decision import Decision

__all__ = ["folders", "forked_gate"]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("served")
    return {
        "topic": save_model(home / "topic", {"label": TOPICS}),
        "tone": save_model(home / "tone", {"label": TONES}, decision=Decision(temperature=2.0, thresholds=(0.9,))),
        "tags": save_model(home / "tags", {"label": TAGS}),
        "number": save_model(home / "number", {"label": NUMBER}),
        "both": save_model(home / "both", {"tone": TONES, "topic": TOPICS}),
        "pairs": save_model(home / "pairs", {"label": TOPICS}, pairs=True),
        "fields": save_model(home / "fields", {"label": TOPICS}, prefix=MetadataPrefix(columns=("source",))),
        "unsure": save_model(home / "unsure", {"label": TOPICS}, decision=Decision(abstain_below=0.99999)),
        "strict": save_model(home / "strict", {"label": TOPICS}, truncate="error"),
    }
