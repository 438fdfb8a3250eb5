"""A run goes on bit for bit (R2) from every step, under everything that decides how a step is computed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone, why_no_kernels
from kits.languageruns import write_documents
from kits.languages import tiny_language_model
from kits.resume import same_end
from kits.resumption import Kit, end, quick, record
from kits.runs import reviews, threads, write_csv

from textune.config.updaterules import AdamW, LinearSchedule
from textune.run.parts import batches_of
from textune.training.rules import UPDATE_RULES
from textune.training.schedule import SCHEDULES

needs_kernels = pytest.mark.skipif(why_no_kernels() != "", reason=why_no_kernels())
needs_bf16 = pytest.mark.needs_processor("bf16")

LANGUAGE = [
    "task.kind=conditional_lm",
    "data.train.files=a.jsonl",
    "data.validation.kind=files",
    "data.validation.files=held.jsonl",
    'metadata.types=["html", "title", "url"]',
    "metadata.sampling.kind=uniform",
    "metadata.sampling.probability=0.8",
    "tokens.max_length=48",
    "model.pretrained=gpt2",
    "train.batch_size=8",
]
"""Documents that are drawn anew in each epoch."""
PLACES: dict[str, list[str]] = {
    "shuffle": [],
    "bucket": ["train.order=bucket", "train.prefetch=0"],
    "sequential": ["train.order=sequential", "train.evaluate_first=true"],
    "weighted": ["train.order=weighted", "data.columns.weight=weight"],
    "row weights": ["data.columns.weight=weight", "train.prefetch=0"],
    "accumulation": ["train.max_tokens=100", "train.order=bucket"],
    "stopped early": ["train.early_stopping.patience=2", "train.early_stopping.threshold=0.5"],
    "bf16": ["train.precision=bf16"],
    "fp16": ["train.precision=fp16"],
    "without dropout": ["model.config.hidden_dropout_prob=0.0", "model.config.attention_probs_dropout_prob=0.0"],
    "cosine": ["train.schedule.kind=cosine", "train.max_grad_norm=0"],
    "restarts": ["train.schedule.kind=cosine_with_restarts", "train.schedule.num_cycles=3"],
    "polynomial": ["train.schedule.kind=polynomial", "train.schedule.power=2", "train.schedule.lr_end=1e-5"],
    "constant": ["train.schedule.kind=constant_with_warmup", "train.schedule.warmup=20 %"],
    "inverse root": ["train.schedule.kind=inverse_sqrt", "train.evaluate_every=25%", "train.log_every=10 %"],
    "rates": ["train.optimizer.layer_decay=0.7", "train.optimizer.head_lr=1e-2"],
    "whole vocabulary": ["train.compact_vocabulary=off"],
    "compact vocabulary": ["train.compact_vocabulary=on"],
    "gradient checkpointing": ["train.gradient_checkpointing=true"],
    "frozen": ["model.freeze=embeddings"],
    "unfrozen": ["model.freeze=backbone", 'model.unfreeze=["*.layer.1.*", "*LayerNorm*"]', "task.loss=focal"],
    "frozen backbone": ["model.freeze=backbone"],
    "adapters": ["model.lora.r=4"],
    "adapters with dropout": ["model.lora.r=4", "model.lora.dropout=0.2", "train.max_tokens=200"],
    "adapters and biases": ["model.lora.r=4", "model.lora.bias=all", "model.lora.targets=query"],
    "adapters compiled": ["model.lora.r=4", "model.compile=on"],
    "several tasks": [
        "task.kind=multitask",
        'task.groups={ label = ["neg", "pos"], third = ["a", "b", "c"] }',
        'data.columns.labels=["label", "third"]',
        "data.columns.weight=weights",
    ],
    "padded": ["model.attention=padded"],
    "padded backbone": ["model.pretrained=xlnet", "train.max_tokens=200"],
    "padded to the end": ["tokens.pad=max_length", "tokens.pad_multiple=16", "train.max_tokens=200"],
    "compiled": ["model.compile=on"],
    "compiled bf16": ["model.compile=on", "train.precision=bf16", "train.max_tokens=200"],
    "adafactor": ["train.optimizer.kind=adafactor", "train.optimizer.lr=1e-3", "train.optimizer.beta1=0.9"],
    "adafactor scaled": ["train.optimizer.kind=adafactor", "train.optimizer.scale_parameter=true"],
    "sgd": ["train.optimizer.kind=sgd", "train.optimizer.nesterov=true", "train.compact_vocabulary=on"],
    "lion": ["train.optimizer.kind=lion", "train.optimizer.lr=1e-4", "train.compact_vocabulary=on"],
    "own optimizer": [
        "train.optimizer.kind=python",
        "train.optimizer.object=kits.ownoptimizers:Averaged",
        "train.optimizer.weight_decay=0.1",
        "train.max_tokens=200",
    ],
    "schedule free": [
        "train.optimizer.kind=schedule_free",
        "train.schedule.kind=constant",
        "train.optimizer.lr=1e-3",
        "train.compact_vocabulary=on",
    ],
    "schedule free fp16": [
        "train.optimizer.kind=schedule_free",
        "train.schedule.kind=constant",
        "train.optimizer.lr=1e-3",
        "train.precision=fp16",
    ],
    "muon": ["train.optimizer.kind=muon", "train.optimizer.lr=1e-3", "model.lora.r=4", "model.lora.bias=all"],
    "weights of 4 bits": ["model.quantize.bits=4", "model.lora.r=4", "train.optimizer.lr=1e-2"],
    "weights of 8 bits, bf16": ["model.quantize.bits=8", "model.lora.dropout=0.2", "train.precision=bf16"],
    "8 bits": ["train.optimizer.kind=adamw_8bit", "train.compact_vocabulary=off"],
    "logged behind its end": ["train.log_every=7 steps", "train.evaluate_every=1 epochs", "train.duration=13 steps"],
    "windows": [
        "tokens.long=windows",
        "tokens.max_length=8",
        "tokens.stride=2",
        "tokens.pooling=attention",
        "train.max_tokens=20",
    ],
    "nothing to evaluate": ["data.validation.kind=none"],
    "own model": ["model.kind=python", "model.object=kits.ownmodels:PackedBag", "model.tokenizer=backbone"],
    "own task": ["task.kind=python", "task.object=kits.own:Margin", "train.max_tokens=200"],
} | {
    f"language model{name}": [*LANGUAGE, *words]
    for name, words in {
        "": [],
        ", llama, bf16": ["model.pretrained=llama", "train.precision=bf16", "train.max_tokens=96"],
        ", adapters": ["model.lora.r=4", "model.lora.dropout=0.1"],
        ", gradient checkpointing": ["train.gradient_checkpointing=true", "task.metadata_loss=true"],
        ", added tokens": [
            'model.added_tokens=["<HTML>", "</HTML>"]',
            'metadata.wraps={ html = ["<HTML>", "</HTML>"] }',
            "train.max_tokens=96",
        ],
        ", padded": ["model.attention=padded", "train.order=sequential", "train.prefetch=0"],
        ", a curriculum": ["metadata.sampling.curriculum=[[0.4, 0.2], [0.8, 0.0]]", "evaluate.arms=same-context"],
    }.items()
}
"""What a run is resumed under, every time from each of its steps."""

FAST = {
    "weighted": [3],
    "accumulation": [4, 7],
    "stopped early": [3],
    "compiled": [6],
    "windows": [5],
    "padded backbone": [5],
    "padded to the end": [4],
    "bf16": [8],
    "sequential": [1],
    "adafactor": [5],
    "sgd": [4],
    "lion": [7],
    "muon": [6],
    "own optimizer": [4],
    "schedule free": [2, 8],
    "rates": [6],
    "unfrozen": [4],
    "inverse root": [5],
    "frozen backbone": [5],
    "adapters": [1, 6],
    "adapters with dropout": [4],
    "adapters and biases": [7],
    "adapters compiled": [3],
    "several tasks": [6],
    "bucket": [9],
    "logged behind its end": [12],
    "own model": [4],
    "weights of 4 bits": [3, 7],
    "own task": [2, 7],
    "language model": [7],
    "language model, llama, bf16": [5],
    "language model, adapters": [8],
    "language model, added tokens": [6],
}
"""Of these some steps are enough for every day."""


def marked(places: Iterable[str]) -> list[Any]:
    """Each with what it needs of the machine."""
    needs = {"compiled": needs_kernels, "bf16": needs_bf16}
    return [pytest.param(place, marks=[mark for word, mark in needs.items() if word in place]) for place in places]


@pytest.mark.parametrize(
    ("table", "kinds"),
    [("optimizer", set(UPDATE_RULES) - {AdamW().kind}), ("schedule", set(SCHEDULES) - {LinearSchedule().kind})],
)
def test_every_optimizer_and_schedule_has_its_place(table: str, kinds: set[str]) -> None:
    """The defaults have all the others."""
    start = f"train.{table}.kind="
    assert kinds == {key.removeprefix(start) for keys in PLACES.values() for key in keys if key.startswith(start)}


@pytest.fixture(scope="module")
def rows(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, with weights, and two backbones."""
    folder = tmp_path_factory.mktemp("rows")
    data = [
        {
            **row,
            "weight": 0.25 + (row["id"] % 5) / 2,
            "third": "" if row["id"] % 4 == 3 else "abc"[row["id"] % 3],
            "weights": [0.25 + (row["id"] % 5) / 2, 1 + row["id"] % 2],
        }
        for row in reviews(200)
    ]
    write_csv(folder / "reviews.csv", data)
    tiny_backbone("bert", folder / "backbone")
    tiny_backbone("xlnet", folder / "xlnet")
    for family in ("gpt2", "llama"):
        tiny_language_model(family, folder / family)
    write_documents(folder, range(25), "a.jsonl")
    write_documents(folder, range(100, 110), "held.jsonl")
    text = (home / "config.toml").read_text(encoding="utf-8")
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def undelayed() -> Iterator[None]:
    with quick():
        yield


PATHS = ("model.pretrained=", "model.tokenizer=", "data.train.files=", "data.validation.files=")
"""Keys whose values stand in the folder of the data."""


def kit_of(rows: Path, place: str) -> Kit:
    if "bits" in place:
        pytest.importorskip("bitsandbytes")
    overrides = [
        f"{override.partition('=')[0]}={rows / override.partition('=')[2]}" if override.startswith(PATHS) else override
        for override in PLACES[place]
    ]
    return Kit.of(rows / "config.toml", overrides)


def test_what_is_resumed_is_what_the_names_say(rows: Path, tmp_path: Path) -> None:
    cut = kit_of(rows, "accumulation").parts
    batches = iter(batches_of(cut))
    assert min(len(next(batches).micro_batches) for _ in range(cut.plan.total_steps - 1)) > 1
    batches.close()
    early = kit_of(rows, "stopped early")
    whole = record(early, tmp_path / "early")
    assert 1 < whole.steps < early.parts.plan.total_steps
    assert kit_of(rows, "padded backbone").parts.model.layout == "padded" != cut.model.layout
    # Dropout draws, unless it is taken out.
    assert cut.model.hf.config.hidden_dropout_prob == 0.1


def prove(kit: Kit, folder: Path, steps: list[int] | None = None) -> None:
    whole = record(kit, folder / "whole")
    expected = end(whole.folder)
    assert expected.lines and len(expected.checkpoint.names) > 10
    for step in steps or range(1, whole.steps + 1):
        run = whole.at(step, folder / f"from-{step}")
        listener = kit.run(run, resume="latest")
        assert not any("bit-identical" in notice for notice in listener.notices)
        try:
            same_end(end(run), expected)
        except AssertionError as error:
            raise AssertionError(f"resumed at step {step}: {error}") from error
        shutil.rmtree(run)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("place", marked(FAST))
@pytest.mark.parity("AZ-18", "HF-13")
def test_resumed_is_never_stopped(rows: Path, tmp_path: Path, place: str) -> None:
    with threads(2 if place == "compiled" else 1):
        prove(kit_of(rows, place), tmp_path, FAST[place])


@pytest.mark.slow
@pytest.mark.parametrize("place", marked(PLACES))
@pytest.mark.parametrize("number", [1, 2])
def test_resumed_at_every_step_is_never_stopped(rows: Path, tmp_path: Path, place: str, number: int) -> None:
    with threads(number):
        prove(kit_of(rows, place), tmp_path)
