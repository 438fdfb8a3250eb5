"""Values of other systems, as messages write them."""

from __future__ import annotations

import json


def shown(value: object) -> str:
    """A value as messages write it: short, and a null as such."""
    if isinstance(value, float) and value != value // 1:
        return f"{value:g}"
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
