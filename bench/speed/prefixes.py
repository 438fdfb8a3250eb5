"""Columns before each text: beside the same rows written out, whose tokens are the same."""

from __future__ import annotations

import csv

from bench.rows import Row, compared
from bench.speed.race import TEXTUNE, Plan, race
from bench.speed.work import BATCH_SIZE, Settings, short_task

SOURCES = 7
DAYS = 1000
DROPOUT = 1e-9
"""Fields are drawn in every epoch, and so rarely dropped that the tokens are those of the written rows."""


def metadata_prefix(settings: Settings) -> list[Row]:
    """Two columns put before each text by the loader, beside texts that hold them already."""
    task = short_task(settings)
    config = str(task.write(settings))
    apart, written = settings.work / "apart.csv", settings.work / "written.csv"
    with (
        apart.open("w", newline="", encoding="utf-8") as first,
        written.open("w", newline="", encoding="utf-8") as second,
    ):
        in_columns, in_texts = csv.writer(first), csv.writer(second)
        in_columns.writerow(["text", "source", "date", "label"])
        in_texts.writerow(["text", "label"])
        for number, (text, _, label) in enumerate(task.texts.examples):
            source, date = f"source {number % SOURCES}", f"2020-{number % DAYS}"
            in_columns.writerow([text, source, date, label])
            in_texts.writerow([f"source: {source} | date: {date} ||| {text}", label])
    columns = [f"data.train.files={apart}", 'data.metadata.columns=["source", "date"]']
    columns.append(f"data.metadata.dropout={DROPOUT}")
    sides = {
        "prefix": (TEXTUNE, {"config": config, "overrides": columns}),
        "written": (TEXTUNE, {"config": config, "overrides": [f"data.train.files={written}"]}),
    }
    result = race(settings, task, sides, Plan(warm_up=4))
    question = f"training, MiniLM-L6, short texts, batch {BATCH_SIZE}: two columns before each text"
    peer = "the same rows as texts"
    return [
        compared("metadata-prefix", question, result.comparison("written"), result.details(), unit="rows/s", peer=peer)
    ]
