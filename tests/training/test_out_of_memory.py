"""Memory that runs out while training: the step is done again in smaller parts, and the run stays the run it was
(R8)."""

import gc
import resource
import sys
import weakref
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.batches import loader_of, rows_of, store_of
from kits.forking import in_a_process

from textune.batches.batch import TokenBatch
from textune.batches.loader import Loader
from textune.batches.tokens import TextEncoder
from textune.config.schema import ModelSection, TokensSection, TrainSection
from textune.config.taskkinds import MulticlassTask
from textune.config.updaterules import AdamW
from textune.data.labels.map import LabelMap
from textune.errors import ModelError
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer
from textune.tasks.task import Task, build_task
from textune.training.learner import learner_alone
from textune.training.loop import StepResult, steps

FP32, FP16 = (Device(torch.device("cpu"), precision) for precision in ("fp32", "fp16"))
WORDS = ["the", "a", "film", "movie", "good", "bad", "very", "boring", "brilliant", "plot"]
NUM_STEPS, LONG_STEP = 6, 3
"""Batches are of short rows (3 to 10 tokens); the one of step 3 (from 0) has rows of 26, 32 and 38 too."""


class Limited:
    """A model whose forward runs out of memory beyond `limit` tokens at once, after it has built its graph."""

    def __init__(self, model: TextModel, limit: int, error: Callable[[], Exception]) -> None:
        self.limit = limit
        self.error = error
        self.failed: list[weakref.ref[torch.Tensor]] = []
        self.alive_at_retry = 0
        self._forward = model.forward
        model.forward = self  # type: ignore[assignment, method-assign]

    def __call__(self, batch: TokenBatch) -> torch.Tensor:
        self.alive_at_retry += sum(logits() is not None for logits in self.failed)
        logits_BC = self._forward(batch)
        if len(batch.ids_T) > self.limit:
            self.failed.append(weakref.ref(logits_BC))
            raise self.error()
        return logits_BC


class Setting:
    """Rows in the order of training, and the same fresh model for every run."""

    def __init__(self, folder: Path) -> None:
        self.folder = tiny_backbone("bert", folder)
        self.task: Task = build_task(
            MulticlassTask(class_weights={"b": 4.0}), {"label": LabelMap("multiclass", ("a", "b", "c"))}
        )
        generator = np.random.default_rng(0)
        counts = generator.integers(1, 9, 8 * NUM_STEPS)
        counts[8 * LONG_STEP : 8 * LONG_STEP + 3] = [36, 30, 24]
        texts = [" ".join(generator.choice(WORDS, count)) for count in counts]
        self.tokenizer = load_tokenizer(ModelSection(pretrained=str(folder)))
        store = TextEncoder(self.tokenizer, TokensSection(max_length=40)).encode(texts)
        weights = generator.random(len(texts)).astype(np.float32)
        self.rows = rows_of(store, generator.integers(0, 3, len(texts)), weights)

    def train(
        self,
        *,
        limit: int = 10_000,
        max_tokens: int | str = "auto",
        batch_size: int = 8,
        dropout: float = 0.0,
        device: Device = FP32,
        prefetch: int = 2,
        error: Callable[[], Exception] = lambda: torch.OutOfMemoryError("CUDA out of memory."),
    ) -> "Run":
        config = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        section = ModelSection(pretrained=str(self.folder), config=config)
        model = load_model(section, self.tokenizer, label_maps=self.task.label_maps, num_logits=3, seed=0)
        train = self.section(max_tokens=max_tokens, batch_size=batch_size, prefetch=prefetch)
        loader = loader_of(self.rows, train, layout=model.layout, pad_id=model.pad_id)
        limited = Limited(model, limit, error)
        results = list(
            steps(learner_alone(model, train, device), self.task, loader, train, total_steps=NUM_STEPS, warmup_steps=2)
        )
        largest = self.largest_micro_batches(max_tokens=max_tokens, batch_size=batch_size)
        return Run(model, results, loader, limited, largest)

    def section(self, **keys: Any) -> TrainSection:
        """Small steps in the order of the rows."""
        return TrainSection.model_validate({"order": "sequential", "optimizer": AdamW(lr=1e-3, eps=1e-4), **keys})

    def largest_micro_batches(self, **keys: Any) -> list[int]:
        """Tokens of each step's largest micro-batch."""
        loader = loader_of(self.rows, self.section(prefetch=0, **keys))
        return [batch.largest for batch in islice(loader, NUM_STEPS)]


class Run:
    """What a run did."""

    def __init__(
        self, model: TextModel, results: list[StepResult], loader: Loader, limited: Limited, largest: list[int]
    ) -> None:
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self.notices = [(result.step, notice) for result in results for notice in result.notices]
        self.plan = [(result.step, result.lr, result.num_rows, result.num_tokens) for result in results]
        self.bound = loader.max_tokens
        self.limited = limited
        self.largest = largest
        """Tokens of each step's largest micro-batch, as the run would have begun."""

    def assert_same_as(self, other: "Run") -> None:
        """Steps, schedule and rows are equal, and so are the weights."""
        assert self.plan == other.plan and len(self.plan) == NUM_STEPS
        for name, tensor in self.weights.items():
            assert (tensor - other.weights[name]).abs().max() <= 1e-6, name


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(tmp_path_factory.mktemp("bert"))


def message(step: int, bound: int) -> tuple[int, str]:
    return step, f"out of memory at step {step}: computing {bound} tokens at once from here on"


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        lambda: RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried"),
        lambda: MemoryError(),
    ],
)
@pytest.mark.parity("AZ-12")
def test_at_the_first_step_the_run_is_one_with_the_smaller_bound(
    setting: Setting, error: Callable[[], Exception]
) -> None:
    """Dropout on: an attempt draws the same numbers, whatever was tried before."""
    run = setting.train(limit=40, dropout=0.2, error=error)
    bound = run.largest[0] // 2
    assert run.notices == [message(1, bound)]
    assert run.bound == bound < 38 <= 40 < run.largest[0]
    run.assert_same_as(setting.train(max_tokens=bound, dropout=0.2))


@pytest.mark.every_day(2)
@pytest.mark.parametrize(("prefetch", "device"), [(0, FP32), (5, FP32), (1, FP16)])
def test_at_the_first_long_batch_only_the_cut_changes(setting: Setting, prefetch: int, device: Device) -> None:
    run = setting.train(limit=110, device=device, prefetch=prefetch)
    assert run.largest[LONG_STEP] > 110 > max(run.largest[:LONG_STEP] + run.largest[LONG_STEP + 1 :])
    bound = run.largest[LONG_STEP] // 2
    assert run.notices == [message(LONG_STEP + 1, bound)]
    assert run.bound == bound
    if device is FP32:
        run.assert_same_as(setting.train(max_tokens=bound))
        run.assert_same_as(setting.train())


def test_every_halving_is_said_once(setting: Setting) -> None:
    """All rows in one batch, which has to be halved several times."""
    run = setting.train(limit=60, batch_size=8 * NUM_STEPS)
    bounds, largest = [], run.largest[0]
    while largest > 60:
        bounds.append(largest // 2)
        largest = max(setting.largest_micro_batches(max_tokens=bounds[-1], batch_size=8 * NUM_STEPS))
    assert len(bounds) > 1
    assert run.notices == [message(1, bound) for bound in bounds]
    run.assert_same_as(setting.train(max_tokens=bounds[-1], batch_size=8 * NUM_STEPS))


def test_a_failed_attempt_leaves_no_graph_and_no_gradient(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the help of the garbage collector: nothing is left that only a cycle holds."""
    monkeypatch.setattr(gc, "collect", lambda: 0)
    gc.disable()
    try:
        run = setting.train(limit=40, prefetch=0)
    finally:
        gc.enable()
    assert len(run.limited.failed) == 1
    assert run.limited.alive_at_retry == 0


@pytest.mark.parametrize("limit", [37, 20])
def test_a_row_that_does_not_fit_alone_is_an_error_that_names_its_length(setting: Setting, limit: int) -> None:
    with pytest.raises(ModelError, match=r"out of memory: a single row of 38 tokens does not fit") as caught:
        setting.train(limit=limit)
    for way_out in ("tokens.max_length", "train.gradient_checkpointing = true", "smaller backbone"):
        assert way_out in caught.value.hint


def test_other_errors_are_raised_at_once(setting: Setting) -> None:
    with pytest.raises(RuntimeError, match="a fault"):
        setting.train(limit=1, error=lambda: RuntimeError("a fault"))


def test_an_update_that_does_not_fit_is_an_error(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(ModelError, match=r"optimizer's update at step 1") as caught:
        setting.train()
    assert "adamw_8bit" in caught.value.hint


def test_other_errors_of_an_update_are_raised(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        setting.train()


def train_with_and_without_a_limit(folder: str) -> Any:
    """Losses and notices of two steps: with 128 MB left to this process, and with all there are."""
    task = build_task(MulticlassTask(), {"label": LabelMap("multiclass", ("a", "b", "c"))})
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    section = ModelSection(pretrained=folder, config=dropout)
    ids = np.random.default_rng(0).integers(5, 100, 64 * 100).astype(np.int32)
    store = store_of([100] * 64, ids)
    rows = rows_of(store, np.arange(64) % 3)
    train = TrainSection(batch_size=64)
    runs = []
    for limited in (True, False):
        model = load_model(section, load_tokenizer(section), label_maps=task.label_maps, num_logits=3, seed=0)
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = in_use + (128 << 20) if limited else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        loader = loader_of(rows, train, layout=model.layout, pad_id=model.pad_id)
        learner = learner_alone(model, train, FP32)
        results = list(steps(learner, task, loader, train, total_steps=2, warmup_steps=0))
        runs.append([[float(result.loss) for result in results], [n for result in results for n in result.notices]])
    return runs


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are Linux's")
@pytest.mark.parity("AZ-12")
def test_a_real_allocation_that_fails_is_survived(tmp_path: Path) -> None:
    """A process with 128 MB left, where each activation of 6,400 tokens takes 52."""
    folder = tiny_backbone("bert", tmp_path, intermediate_size=2048)
    runs = in_a_process(train_with_and_without_a_limit, str(folder))
    (losses_limited, notices_limited), (losses, notices) = runs
    assert notices == []
    assert notices_limited[0] == "out of memory at step 1: computing 3,200 tokens at once from here on"
    assert losses_limited == pytest.approx(losses, abs=1e-5)
