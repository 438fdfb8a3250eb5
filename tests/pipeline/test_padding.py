"""`tokens.pad` and `tokens.pad_multiple`: shapes that are the same, results that are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.runs import reviews, write_csv

import textune
from textune.batches.layout import NO_PADDING, Group, Padding, cut_by_tokens, lay_out
from textune.config.load import load_config
from textune.config.schema import TokensSection
from textune.errors import ConfigError
from textune.model import backbone
from textune.pipeline.build import build_parts
from textune.prediction.load import load
from textune.prediction.predictor import Predictor
from textune.run.parts import batches_of, scorer_of
from textune.run.tracking.tracker import SilentTracker
from textune.training.loop import StepResult

LENGTH = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("padding")
    for family in ("bert", "gpt2", "xlnet", "roberta"):
        tiny_backbone(family, folder / family)
    write_csv(folder / "rows.csv", reviews(48))
    return folder


def _config(place: Path, family: str = "bert", **tokens: Any) -> dict[str, Any]:
    return {
        "data": {"train": {"files": [str(place / "rows.csv")]}},
        "model": {"pretrained": str(place / family), "config": _without_dropout(family)},
        "tokens": {"cache": str(place / "cache"), "max_length": LENGTH, **tokens},
        "train": {
            "duration": "8 steps",
            "batch_size": 8,
            "device": "cpu",
            "precision": "fp32",
            "optimizer": {"lr": 1e-3},
        },
        "evaluate": {"bootstrap": 0},
    }


def _without_dropout(family: str) -> dict[str, float]:
    """Dropout draws by the shape of a batch, so only runs without it can be the same."""
    return {
        "gpt2": {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0},
        "xlnet": {"dropout": 0.0, "summary_last_dropout": 0.0},
    }.get(family, {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})


@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "xlnet"])
@pytest.mark.parametrize(
    "tokens", [{"pad": "max_length"}, {"pad_multiple": 8}, {"pad": "max_length", "pad_multiple": 5}]
)
def test_a_run_with_padding_is_the_run_without(
    place: Path, tmp_path: Path, family: str, tokens: dict[str, Any]
) -> None:
    def trained(name: str, **tokens: Any) -> tuple[list[float], dict[str, Any]]:
        steps: list[StepResult] = []
        config = _config(place, family, **tokens)
        result = textune.train(config, run=tmp_path / name, after_step=steps.append)
        assert result.facts is not None and result.facts.layout == (
            "padded" if tokens or family == "xlnet" else "packed"
        )
        return [float(step.loss) for step in steps], dict(result.reports["validation"].to_dict()["metrics"])

    losses, metrics = trained("plain")
    padded_losses, padded_metrics = trained("padded", **tokens)
    assert len(losses) == 8 and padded_losses == pytest.approx(losses, abs=1e-5)
    assert padded_metrics == pytest.approx(metrics, abs=1e-5)


def _parts(config: dict[str, Any]) -> Any:
    return build_parts(load_config(config).experiment, tracker=SilentTracker(), audit=False)


@pytest.mark.parity("AZ-07", "HF-15")
def test_every_shape_is_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = _parts(_config(place, pad="max_length"))
    batches = iter(batches_of(parts))
    shapes = {part.tokens.groups for _ in range(5) for part in next(batches).micro_batches}
    assert shapes == {(Group(8, LENGTH),)}
    assert parts.model.reason == 'tokens.pad = "max_length", so padding is computed, too'
    seen: list[int] = []
    forward = backbone.TextModel.forward

    def watched(model: Any, batch: Any) -> Any:
        seen.append(batch.groups[0].length)
        return forward(model, batch)

    monkeypatch.setattr(backbone.TextModel, "forward", watched)
    Predictor(scorer_of(parts)).score(["good", "a film " * 9])
    assert set(seen) == {LENGTH}  # evaluation while training, too


@pytest.mark.parity("HF-15")
def test_rows_are_a_multiple_long(place: Path) -> None:
    config = _config(place, pad_multiple=8)
    config["train"] |= {"order": "bucket", "batch_size": 4}
    batches = iter(batches_of(_parts(config)))
    lengths = {part.tokens.groups[0].length for _ in range(5) for part in next(batches).micro_batches}
    assert lengths <= {8, 16, 24} and len(lengths) > 1


def test_what_is_computed_stays_within_the_budget(place: Path) -> None:
    config = _config(place, pad="max_length")
    config["train"]["max_tokens"] = 3 * LENGTH + 5
    batches = iter(batches_of(_parts(config)))
    parts = [part.tokens for _ in range(5) for part in next(batches).micro_batches]
    assert {part.groups for part in parts} == {(Group(3, LENGTH),), (Group(2, LENGTH),)}
    config["train"]["max_tokens"] = LENGTH - 1
    with refused(ConfigError, key="train.max_tokens", value=LENGTH - 1):
        _parts(config)


def test_a_saved_model_predicts_without_the_padding(place: Path, tmp_path: Path) -> None:
    run = textune.train(_config(place, pad="max_length"), run=tmp_path / "run").run
    assert load(run, device="cpu").scorer.model.layout == "packed"


@pytest.mark.parametrize(
    ("tokens", "model", "problem"),
    [
        ({"pad": "max_length"}, {"attention": "packed"}, {"key": "tokens.pad", "value": "max_length"}),
        ({"pad_multiple": 8}, {"attention": "packed"}, {"key": "tokens.pad_multiple", "value": 8}),
        ({"pad_multiple": 0}, {}, {"key": "tokens.pad_multiple", "value": 0}),
        (
            {"pad_multiple": 50},
            {"config": {"max_position_embeddings": 32}},
            {"key": "tokens.pad_multiple", "value": 50},
        ),
        ({"pad": "longest"}, {}, {"key": "tokens.pad", "value": "longest"}),
    ],
)
def test_padding_that_cannot_be_is_refused(
    place: Path, tmp_path: Path, tokens: dict[str, Any], model: dict[str, Any], problem: dict[str, Any]
) -> None:
    config = _config(place, **tokens)
    config["model"] |= model | {
        "pretrained": str(tiny_backbone("bert", tmp_path / "short", max_position_embeddings=32))
    }
    config["model"]["config"] = {}
    with refused(ConfigError, **problem):
        _parts(config)


def test_widths_are_what_a_row_takes() -> None:
    lengths = np.array([1, 7, 8, 9, 24])
    assert NO_PADDING.widths(lengths).tolist() == lengths.tolist()
    assert Padding(multiple=8).widths(lengths).tolist() == [8, 8, 8, 16, 24]
    assert Padding(to=24).widths(lengths).tolist() == [24] * 5
    assert Padding(to=24, multiple=16).widths(lengths).tolist() == [32] * 5
    section = TokensSection(max_length=20, pad="max_length", pad_multiple=16)
    assert Padding.of(section) == Padding(20, 16) and section.pads
    assert Padding.of(TokensSection(max_length=20)) == NO_PADDING and not TokensSection().pads
    widths = Padding(multiple=8).widths(np.array([3, 8, 9, 1]))
    assert [cut.tolist() for cut in cut_by_tokens(widths, 24, layout="padded")] == [[0, 1, 3], [2]]
    assert lay_out(widths[[0, 1, 3]], layout="padded") == (Group(3, 8),)
