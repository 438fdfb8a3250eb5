"""A plain server of a model folder, as it is usually written: FastAPI and a pipeline of transformers; no textune.

`python -m bench.sides.plainserver FOLDER PORT`
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Request(BaseModel):
    """A text."""

    inputs: str


def main(folder: str, port: int) -> None:
    """Serve until a signal comes."""
    classify = pipeline("text-classification", model=folder, top_k=None, truncation=True)
    app = FastAPI()

    @app.post("/predict")
    def predict(request: Request) -> list[dict[str, str | float]]:
        return classify([request.inputs])[0]

    @app.get("/health")
    def health() -> str:
        return "ok"

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
