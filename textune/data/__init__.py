"""The data room: files, hub data sets and the user's own classes to examples, ids and batches.

    sources -> columns -> labels -> splits   (put together by prepare)   -> tokens -> batches -> loader
       rows    examples   targets   parts                                   audit, guess: beside the flow

The names below are the front door; each is imported when it is first used, and only those of `loader` import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textune.data.audit import Finding, TokenFacts, audit_data
    from textune.data.columns import Examples, select_columns
    from textune.data.guess import Guess, guess_layout
    from textune.data.labels import LabelMap, encode_labels, infer_labels
    from textune.data.sources import Rows, SkippedRow, read_source
    from textune.data.splits import split_rows

_MODULES = {
    "Examples": "columns",
    "Finding": "audit",
    "Guess": "guess",
    "LabelMap": "labels",
    "Rows": "sources",
    "SkippedRow": "sources",
    "TokenFacts": "audit",
    "audit_data": "audit",
    "encode_labels": "labels",
    "guess_layout": "guess",
    "infer_labels": "labels",
    "read_source": "sources",
    "select_columns": "columns",
    "split_rows": "splits",
}

__all__ = [
    "Examples",
    "Finding",
    "Guess",
    "LabelMap",
    "Rows",
    "SkippedRow",
    "TokenFacts",
    "audit_data",
    "encode_labels",
    "guess_layout",
    "infer_labels",
    "read_source",
    "select_columns",
    "split_rows",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"textune.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'textune.data' has no attribute {name!r}")
