"""Which engines there are, and what each refuses before a row is read."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.errors import refused
from kits.runs import reviews, write_place

import textune
from textune.config.engines import LIMITS
from textune.config.schema import Experiment, TrainSection
from textune.errors import ConfigError, ModelError
from textune.model.device import Device
from textune.pipeline.cautions import device_of
from textune.ranks import ALONE, Ranks
from textune.training.engines import ENGINES, require_engine

CPU = Device(torch.device("cpu"), "fp32")
ORT = TrainSection(engine="onnxruntime")
NO_ROWS = '[data.train]\nkind = "files"\nfiles = "nowhere.csv"\n[model]\npretrained = "backbone"\n'


def install(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Only these of the packages that a look at the engine asks for are installed."""

    def distribution(name: str) -> Any:
        if name in packages:
            return object()
        raise importlib.metadata.PackageNotFoundError(name)

    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.metadata.distribution", distribution)
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: (object() if name in packages else None) if name == "onnxscript" else real(name, *rest),
    )


def test_every_engine_of_the_configuration_is_there() -> None:
    known = set(TrainSection.model_fields["engine"].annotation.__args__)  # type: ignore[union-attr]
    assert ENGINES.keys() == LIMITS.keys() == known


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.attention", "packed"),
        ("model.compile", "on"),
        ("tokens.long", "windows"),
        ("train.precision", "bf16"),
        ("train.precision", "fp16"),
        ("train.device", "cuda"),
        ("train.gradient_checkpointing", True),
        ("train.distributed.kind", "fsdp"),
        ("train.distributed.kind", "deepspeed"),
        ("train.distributed.devices", 2),
    ],
)
def test_keys_that_onnxruntime_cannot_go_with(tmp_path: Path, key: str, value: Any) -> None:
    """Before rows are read, which are not there."""
    place = write_place(tmp_path, NO_ROWS, reviews(4))
    overrides = ["train.engine=onnxruntime", f"{key}={str(value).lower()}"]
    with refused(ConfigError, key=key, value=value):
        textune.check(place / "config.toml", overrides=overrides)


def test_weights_of_few_bits_are_refused(tmp_path: Path) -> None:
    place = write_place(tmp_path, NO_ROWS + "[model.quantize]\n[model.lora]\n", reviews(4))
    with refused(ConfigError, key="train.engine"):
        textune.check(place / "config.toml", overrides=["train.engine=onnxruntime"])


def test_a_model_of_the_users_own_is_refused(tmp_path: Path) -> None:
    config = NO_ROWS.replace(
        'pretrained = "backbone"', 'kind = "python"\nobject = "own:Model"\ntokenizer = "backbone"'
    )
    place = write_place(tmp_path, config, reviews(4))
    with refused(ConfigError, key="model.kind", value="python"):
        textune.check(place / "config.toml", overrides=["train.engine=onnxruntime"])


@pytest.mark.parametrize(
    ("installed", "reason", "hint"),
    [
        ((), "onnxruntime-training-cpu is not installed", "textune[ort-training]"),
        (("onnxruntime-training-cpu",), "onnxscript is not installed", "textune[ort-training]"),
        (("onnxruntime",), "one environment", "new environment"),
        (("onnxruntime", "onnxruntime-training-cpu", "onnxscript"), "one environment", "new environment"),
    ],
)
def test_packages_that_are_missing_or_in_the_way(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], reason: str, hint: str
) -> None:
    install(monkeypatch, *installed)
    with pytest.raises(ModelError) as caught:
        require_engine(ORT, CPU, ALONE)
    found = caught.value
    assert (found.key, found.value) == ("train.engine", "onnxruntime")
    assert reason in found.reason and hint in found.hint and "Python 3.11 or 3.12" in found.hint
    require_engine(TrainSection(), CPU, ALONE)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "onnxruntime-training-cpu", "onnxscript")
    require_engine(ORT, CPU, ALONE)
    with refused(ModelError, key="train.engine", value="onnxruntime", reason="one process"):
        require_engine(ORT, CPU, Ranks(world=2))


def test_a_missing_package_is_told_before_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    place = write_place(tmp_path, NO_ROWS, reviews(4))
    with refused(ModelError, key="train.engine", value="onnxruntime"):
        textune.check(place / "config.toml", overrides=["train.engine=onnxruntime"])


def test_auto_stands_for_what_the_engine_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.model.processor.prefers_bf16", lambda: True)
    monkeypatch.setattr("textune.model.processor.has_bf16", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert device_of(ORT, ALONE) == CPU
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of(TrainSection(), ALONE).precision == "bf16"


def test_the_default_is_pytorch() -> None:
    assert Experiment().train.engine == "torch"
