"""`train.deterministic`: what it sets, that it leaves nothing behind, and the same bits twice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.flash import on_gpu
from kits.models import build
from kits.runs import Listener, reviews, signal_after, threads, write_csv
from safetensors.torch import load_file

import textune
from textune.config.schema import TrainSection
from textune.errors import ModelError, Preempted
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.recipe import Recipe, prepare
from textune.training.determinism import deterministic, without_deterministic_way

ON = TrainSection(deterministic=True, seed=5)
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def _settings() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    return torch.get_deterministic_debug_mode(), cudnn.deterministic, cudnn.benchmark, os.environ.get(WORKSPACE)


def _draws() -> tuple[float, float, float]:
    """The next draws of every generator, which stay as they are."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    found = random.random(), float(np.random.random()), float(torch.rand(()))
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    return found


@pytest.fixture(autouse=True, params=["usual", "own"])
def own_settings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch's usual settings, or others that the program around a run has chosen."""
    monkeypatch.delenv(WORKSPACE, raising=False)
    if request.param == "own":
        monkeypatch.setenv(WORKSPACE, ":16:8")
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
        torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parity("AZ-14")
def test_within_everything_is_deterministic_and_afterwards_as_before() -> None:
    before, draws = _settings(), _draws()
    with deterministic(ON):
        assert torch.get_deterministic_debug_mode() == 2
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
        assert os.environ[WORKSPACE] in {":4096:8", ":16:8"}
        first = _draws()
        assert first != draws
        random.random()
    assert (_settings(), _draws()) == (before, draws)
    with deterministic(ON):
        assert _draws() == first
    with deterministic(ON.model_copy(update={"seed": 6})):
        assert _draws() != first


def test_an_error_leaves_nothing_behind_either() -> None:
    before, draws = _settings(), _draws()
    with pytest.raises(ValueError, match="mine"), deterministic(ON):
        raise ValueError("mine")
    assert (_settings(), _draws()) == (before, draws)


@pytest.mark.parametrize(
    ("device", "gpu", "refuses"), [("auto", True, True), ("cpu", True, False), ("auto", False, False)]
)
def test_a_workspace_that_is_not_deterministic_is_refused_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, device: Any, gpu: bool, refuses: bool
) -> None:
    monkeypatch.setenv(WORKSPACE, ":0:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    before, section = _settings(), TrainSection(deterministic=True, device=device)
    if refuses:
        with refused(ModelError, key=WORKSPACE, value=":0:0"), deterministic(section):
            pass
    else:
        with deterministic(section):
            assert os.environ[WORKSPACE] == ":0:0"
    assert _settings() == before


def test_without_the_key_nothing_is_touched() -> None:
    before = _settings()
    random.seed(1)
    wanted = _draws()
    with deterministic(TrainSection()):
        assert (_settings(), _draws()) == (before, wanted)
        drawn = random.random()
    assert drawn == wanted[0] and random.random() != wanted[0]


def test_an_operator_without_a_deterministic_algorithm_is_named() -> None:
    with deterministic(ON), pytest.raises(RuntimeError) as caught:
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    refusal = without_deterministic_way(caught.value)
    assert refusal is not None
    assert (refusal.key, refusal.value, refusal.reason) == ("train.deterministic", True, "put_ has none")
    assert without_deterministic_way(RuntimeError("another error")) is None
    assert without_deterministic_way(ValueError(str(caught.value))) is None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deterministic")
    tiny_backbone("bert", folder / "backbone")
    write_csv(folder / "rows.csv", reviews(60))
    return folder


def _config(place: Path, *, device: str = "cpu", precision: str = "fp32", **train: Any) -> dict[str, Any]:
    return {
        "data": {"train": {"files": [str(place / "rows.csv")]}},
        "model": {"pretrained": str(place / "backbone")},
        "tokens": {"max_length": 24, "cache": str(place / "cache")},
        "train": {"duration": "6 steps", "batch_size": 8, "device": device, "precision": precision, **train},
        "evaluate": {"bootstrap": 0},
    }


def _trained(place: Path, run: Path, **train: Any) -> Any:
    config = _config(place, **train)
    losses: list[float] = []
    listener = Listener()
    textune.train(config, run=run, tracker=listener, after_step=lambda result: losses.append(float(result.loss)))
    return losses, load_file(run / "best" / "model.safetensors"), listener.notices


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("number", [1, 2])
def test_a_run_on_a_processor_has_the_same_bits_with_it_and_without(place: Path, tmp_path: Path, number: int) -> None:
    before, draws = _settings(), _draws()
    with threads(number):
        losses, weights, said = _trained(place, tmp_path / "on", deterministic=True)
        assert (_settings(), _draws()) == (before, draws)
        plain_losses, plain_weights, _ = _trained(place, tmp_path / "off")
    assert losses == plain_losses and _same(weights, plain_weights)
    assert any("train.max_tokens was measured" in notice for notice in said)
    _, _, said = _trained(place, tmp_path / "set", deterministic=True, max_tokens=512)
    assert not any("train.deterministic" in notice for notice in said)


@pytest.mark.every_day(1)
def test_a_run_that_goes_on_has_the_bits_of_one_that_was_not_stopped(place: Path, tmp_path: Path) -> None:
    losses, weights, _ = _trained(place, tmp_path / "whole", deterministic=True)
    config, before = _config(place, deterministic=True), _settings()
    with pytest.raises(Preempted):
        textune.train(config, run=tmp_path / "run", after_step=signal_after({3: [signal.SIGTERM]}))
    assert _settings() == before
    again: list[float] = []
    textune.train(
        config, run=tmp_path / "run", resume="latest", after_step=lambda result: again.append(float(result.loss))
    )
    assert again == losses[3:] and _same(load_file(tmp_path / "run" / "best" / "model.safetensors"), weights)


def test_a_run_that_needs_such_an_operator_is_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TextModel.forward

    def scattering(model: Any, batch: Any) -> torch.Tensor:
        logits: torch.Tensor = forward(model, batch)
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
        return logits

    monkeypatch.setattr(TextModel, "forward", scattering)
    before = _settings()
    with refused(ModelError, key="train.deterministic", value=True, reason="put_"):
        _trained(place, tmp_path / "run", deterministic=True, max_tokens=512)
    assert _settings() == before


@pytest.mark.parametrize(("compile_", "refusal"), [("auto", None), ("off", None), ("on", "chosen by timing")])
def test_nothing_is_compiled_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compile_: Any, refusal: str | None
) -> None:
    """What that would be is found by timing; here the GPU itself is left out."""
    model = build("bert", tmp_path, section={"compile": compile_}).model
    monkeypatch.setattr(TextModel, "to", lambda model, device: model)
    recipe = Recipe(Device(torch.device("cuda"), "fp32"), "training", deterministic=True)
    if refusal is not None:
        with pytest.raises(ModelError, match=refusal):
            prepare(model, recipe)
        return
    prepare(model, recipe)
    assert model.accelerator.kernels is None


@on_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_on_a_gpu_have_the_same_bits(place: Path, tmp_path: Path, precision: str) -> None:
    """bf16 takes flash attention, whose backward pass adds in any order without it."""
    options: dict[str, Any] = {"device": "cuda", "precision": precision, "deterministic": True, "max_tokens": 512}
    losses, weights, _ = _trained(place, tmp_path / "first", **options)
    again, same_weights, _ = _trained(place, tmp_path / "second", **options)
    assert losses == again and _same(weights, same_weights)
