"""`textune tag` by two processes, beside one."""

from __future__ import annotations

import gzip
import html
import json
import os
import shutil
import time
from pathlib import Path

from bench.rows import Row, compared
from bench.speed.measure import Comparison, repeat
from bench.speed.texts import long_texts
from bench.speed.work import Settings
from bench.worker import Skip, run_module

REVIEWS_OF_A_PAGE = 40
WORKERS = 2


def workers(settings: Settings) -> list[Row]:
    """Pages a second of whole commands, from the start of the process to the file."""
    if (os.cpu_count() or 1) < WORKERS:
        raise Skip(f"{WORKERS} processes need as many cores")
    name, pages, num_pages = _pages(settings)
    rates = repeat(
        lambda: (num_pages / _seconds(pages, settings, WORKERS), num_pages / _seconds(pages, settings, 1)),
        seconds=settings.left(),
        at_least=settings.pairs,
    )
    question = f"textune tag of {num_pages:,} pages in one packed file, {WORKERS} processes"
    return [compared("tag", question, Comparison(rates), {"data": name}, unit="pages/s", peer="one process")]


def _pages(settings: Settings) -> tuple[str, Path, int]:
    """What they are, the file, and how many: the news pages of the data folder four times, or reviews as pages."""
    path = settings.work / "pages.jsonl.gz"
    news = settings.data and settings.data / "web" / "html_pages.jsonl.gz"
    if news and news.is_file() and not settings.tiny:
        with path.open("wb") as file:
            for _ in range(4):
                with news.open("rb") as once:
                    shutil.copyfileobj(once, file)
        with gzip.open(path) as file:
            return "news pages, four times", path, sum(1 for _ in file)
    num_pages = settings.count(1_000, tiny=20)
    texts = [example[0] for example in long_texts(num_pages).examples]
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for number in range(num_pages):
            chosen = (texts[(number + step) % len(texts)] for step in range(REVIEWS_OF_A_PAGE))
            body = "".join(
                f"<div class='review'><h2>{step}</h2><p>{html.escape(t)}</p></div>" for step, t in enumerate(chosen)
            )
            row = {"url": f"https://example.org/2020/01/02/reviews-{number}", "html": f"<title>Reviews</title>{body}"}
            file.write(json.dumps(row, allow_nan=False) + "\n")
    return "pages of IMDB reviews", path, num_pages


def _seconds(pages: Path, settings: Settings, num_workers: int) -> float:
    target = settings.work / "tagged.jsonl.gz"
    started = time.perf_counter()
    run_module(
        "textune", "tag", "--input", str(pages), "--output", str(target), "--workers", str(num_workers), "--force"
    )
    return time.perf_counter() - started
