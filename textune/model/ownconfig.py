"""`config.json` of a model of the user's own; before `pretrained.py`, which reads it, and `own.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

OWN_TYPE = "textune_python"
"""The `model_type` of such a configuration: nothing but textune opens it."""


class OwnConfig(transformers.PretrainedConfig):  # type: ignore[misc]  # transformers is not typed
    """All that the user's class is made with, and the names of its outputs."""

    model_type = OWN_TYPE

    def __init__(
        self,
        object: str = "",
        options: Mapping[str, Any] | None = None,
        vocab_size: int = 0,
        max_position_embeddings: int | None = None,
        **others: Any,
    ) -> None:
        self.object = object
        self.options = dict(options or {})
        self.vocab_size = vocab_size
        self.max_position_embeddings = max_position_embeddings
        super().__init__(**others)
