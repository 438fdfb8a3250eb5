"""Small models of every kind in folders, and a server of them: in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from kits.backbones import WORDS, tiny_backbone
from kits.predictions import card_of
from textune.config.schema import ModelSection
from textune.config.sources import Columns, MetadataPrefix
from textune.config.taskkinds import AutoTask
from textune.data.labels.map import LabelMap
from textune.model.device import resolve_device
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer
from textune.prediction.card import HeadCard
from textune.prediction.scorer import Scorer
from textune.serving.app import build_app
from textune.serving.models import Models
from textune.serving.settings import LoadOptions, Settings
from textune.tasks.decision import USUAL, Decision

TOPICS = LabelMap("multiclass", ("red", "green", "blue"))
TONES = LabelMap("binary", ("neg", "pos"))
TAGS = LabelMap("multilabel", ("joy", "anger", "fear"))
NUMBER = LabelMap("regression", ("value",))
START = 60.0
"""Seconds that a server has to start or to end, however busy the machine is."""


def save_model(
    folder: Path,
    maps: Mapping[str, LabelMap],
    *,
    family: str = "bert",
    decision: Decision = USUAL,
    pairs: bool = False,
    prefix: MetadataPrefix | None = None,
    **card: Any,
) -> Path:
    """A model folder of a tiny random model with a head for each of `maps`."""
    heads = tuple(
        HeadCard(name=name, problem=one.problem, names=one.names, task=AutoTask(), decision=decision)
        for name, one in maps.items()
    )
    columns = Columns(text="text", text_pair="second" if pairs else None)
    facts = card_of(heads=heads, columns=columns, metadata=prefix, **card)
    task = facts.build_task()
    backbone = folder.with_name(f"{folder.name}-backbone")
    tiny_backbone(family, backbone)
    section = ModelSection(pretrained=str(backbone))
    tokenizer = load_tokenizer(section)
    model = load_model(section, tokenizer, label_maps=maps, num_logits=task.num_outputs, seed=1)
    # As drawn, the numbers of a head are so small that every text has the same scores.
    for name, weights in model.named_parameters():
        if name.endswith(("classifier.weight", "score.weight")):
            weights.data *= 8
    folder.mkdir(parents=True)
    scorer = Scorer(model.eval(), tokenizer, task, facts, device=resolve_device("cpu", "fp32"), max_tokens=512)
    scorer.save(folder, step=facts.step)
    return folder


def some_texts(num: int, *, longest: int = 20) -> list[str]:
    """Texts of words that the tiny backbones know, of different lengths."""
    return [" ".join(WORDS[(7 * i + 3 * j) % len(WORDS)] for j in range(1 + i * 5 % longest)) for i in range(num)]


@contextlib.contextmanager
def client(
    folders: Mapping[str, Path], *, options: LoadOptions | None = None, **settings: Any
) -> Iterator[TestClient]:
    """A client of the application, in this process."""
    chosen = Settings(**settings)
    notices: list[str] = []
    models = Models(folders, chosen, options or LoadOptions(device="cpu"), on_notice=notices.append)
    with TestClient(build_app(models, chosen), raise_server_exceptions=False) as found:
        found.models = models  # type: ignore[attr-defined]
        yield found


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(START)


@contextlib.contextmanager
def running(*words: str | Path, **environment: str) -> Iterator[Running]:
    """`textune serve` on a free port."""
    command = [sys.executable, "-m", "textune", "serve", *map(str, words), "--port", "0", "--device", "cpu"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)} | environment
    )
    try:
        said: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"Serving .* at (http://\S+)", line):
                yield Running(process, found.group(1))
                return
        raise AssertionError(f"the server did not start: {''.join(said)}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(START)
        if process.stderr is not None:
            process.stderr.close()


@contextlib.contextmanager
def listening(folders: Mapping[str, Path], **settings: Any) -> Iterator[str]:
    """The address of a server in a thread of this process, for clients that need a real one."""
    chosen = Settings(port=0, **settings)
    models = Models(folders, chosen, LoadOptions(device="cpu"))
    with socket.create_server(("127.0.0.1", 0)) as place:
        server = uvicorn.Server(uvicorn.Config(build_app(models, chosen), log_level="warning"))
        thread = threading.Thread(target=lambda: server.run(sockets=[place]))
        thread.start()
        try:
            yield f"http://127.0.0.1:{place.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(START)
