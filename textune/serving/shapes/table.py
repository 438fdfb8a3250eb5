"""Every shape of requests that a server answers.

To add one: write a module beside `tei.py` with `router(models, settings) -> fastapi.APIRouter`, and give it a row in
`SHAPES`. Its router is mounted twice, at `/` and at `/models/NAME/`; `models.of(request)` is the model that is meant.
Routes are of the class that `guarded(models, settings, form)` makes, where `form` writes a refusal as the shape's
clients read it; `await served.engine.score(...)` gives scores, and `answers.label_rows` labels.
"""

from __future__ import annotations

SHAPES: dict[str, str] = {
    "tei": "textune.serving.shapes.tei:router",
    "inference": "textune.serving.shapes.inference:router",
    "batch": "textune.serving.shapes.batch:router",
    "classify": "textune.serving.shapes.classify:router",
    "moderations": "textune.serving.shapes.moderations:router",
    "systemone": "textune.serving.shapes.systemone:router",
    "models": "textune.serving.shapes.openai:router",
}
"""Name -> where its router is made."""
