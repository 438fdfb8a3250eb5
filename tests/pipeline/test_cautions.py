"""Settings that do not suit the backbone, whatever rows were seen: refused, or said."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.runs import Listener, reviews, write_csv

import textune
from textune.config.sources import FilesSource
from textune.errors import ConfigError, RunError
from textune.exports import export
from textune.pipeline.evaluate import evaluate
from textune.prediction.load import load


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of a few tokens, and a backbone with 32 positions."""
    folder = tmp_path_factory.mktemp("short")
    tiny_backbone("bert", folder / "backbone", max_position_embeddings=32)
    write_csv(folder / "rows.csv", [{**row, "text": row["text"][-9:]} for row in reviews(40)])
    (folder / "config.toml").write_text(
        f"""
[data.train]
files = "rows.csv"
[tokens]
cache = "{folder / "cache"}"
[model]
pretrained = "backbone"
[train]
duration = "2 steps"
batch_size = 8
device = "cpu"
precision = "fp32"
[evaluate]
bootstrap = 0
""",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def run(short: Path) -> Any:
    listener = Listener()
    return textune.train(short / "config.toml", run=short / "run", tracker=listener)


LONG = "the film is a long one " * 40


@pytest.mark.parametrize("verb", [textune.check, textune.train])
def test_a_max_length_above_the_positions_is_refused_however_short_the_rows(verb: Any, short: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        verb(short / "config.toml", overrides=["tokens.max_length=33"])
    assert caught.value.message == f"tokens.max_length = 33, but {short / 'backbone'} has positions for 32 tokens."
    assert caught.value.hint == 'Set tokens.max_length = 32 or less, or "auto".'


def test_the_default_is_what_the_backbone_allows_and_said(run: Any, short: Path) -> None:
    said = f"tokens.max_length is 32 here, since {short / 'backbone'} has no positions beyond that"
    assert said in run.notices
    assert json.loads((run.run / "best" / "textune.json").read_text())["max_length"] == 32
    scores = load(run.run).score([LONG, LONG[:9]])
    assert scores.shape == (2, 2)


def test_a_card_that_promises_more_than_the_backbone_has_is_read_with_what_it_has(run: Any, tmp_path: Path) -> None:
    folder = export(run.run, tmp_path / "model").folder
    card = folder / "textune.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "max_length": 256}))
    with pytest.warns(UserWarning, match="rows are cut at 32"):
        predictor = load(folder)
    assert predictor.card.max_length == 32
    assert predictor.score([LONG]).shape == (1, 2)
    listener = Listener()
    rows = write_csv(tmp_path / "long.csv", [{**row, "text": LONG} for row in reviews(8)])
    assert evaluate(folder, data=FilesSource(files=(str(rows),)), tracker=listener).num_rows == 8
    assert any("has positions for 32 tokens: rows are cut at 32" in notice for notice in listener.notices)


def test_a_run_resumes_whether_its_length_was_written_out_or_not(short: Path, tmp_path: Path) -> None:
    """`auto` and the number that it stands for are the same run; another number is not."""
    overrides = ["train.schedule.kind=constant"]
    textune.train(short / "config.toml", run=tmp_path / "a", overrides=overrides)
    longer = [*overrides, "train.duration=3 steps"]
    again = textune.train(
        short / "config.toml", run=tmp_path / "a", overrides=[*longer, "tokens.max_length=32"], resume="latest"
    )
    assert again is not None and again.steps == 3
    with pytest.raises(RunError, match=r"tokens\.max_length"):
        textune.train(
            short / "config.toml",
            run=tmp_path / "a",
            overrides=[*longer, "tokens.max_length=16"],
            resume="latest",
        )


def test_a_rate_that_no_backbone_bears_is_said(short: Path) -> None:
    def notices(*overrides: str) -> list[str]:
        found = textune.check(short / "config.toml", overrides=list(overrides), timing=False).findings
        return [one.message for one in found if one.code == "learning-rate" and one.level == "warning"]

    [said] = notices("train.optimizer.lr=5")
    assert "train.optimizer.lr = 5 is very high for a pretrained backbone" in said
    [said] = notices("train.optimizer.kind=lion", "train.optimizer.lr=1e-3")
    assert '1e-6 to 3e-5 is usual with "lion"' in said
    assert notices("train.optimizer.lr=1e-3") == []
    assert notices("train.optimizer.lr=5", "model.freeze=backbone") == []
    assert len(notices("train.optimizer.lr=2e-3")) == 1


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
def test_adapters_have_rates_of_their_own(short: Path) -> None:
    def notices(*overrides: str) -> list[str]:
        words = ["model.lora.r=4", *overrides]
        found = textune.check(short / "config.toml", overrides=words, timing=False).findings
        return [one.message for one in found if one.code == "learning-rate" and one.level == "warning"]

    for rate in ("1e-4", "2e-3", "5e-3"):
        assert notices(f"train.optimizer.lr={rate}") == []
    [said] = notices("train.optimizer.lr=1e-2")
    assert "0.01 is very high for adapters" in said and '1e-4 to 1e-3 is usual with "adamw" and model.lora' in said
    [said] = notices()  # the default, which is one for whole weights
    assert "5e-05 is low for adapters" in said
    assert notices("train.optimizer.kind=muon") == []


def test_few_rows_are_said(short: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", reviews(12))
    found = textune.check(short / "config.toml", overrides=[f"data.train.files={tmp_path / 'rows.csv'}"])
    said = [finding.message for finding in found.findings if finding.code == "few-rows"]
    assert said == [
        "train has only 11 rows: what is learned depends largely on chance.",
        "validation has only 1 row: a score on so few rows depends largely on chance.",
    ]


@pytest.mark.parametrize(
    ("variables", "overrides", "both"),
    [
        ({"MIXED_PRECISION": "fp16"}, [], ("mixed precision fp16", 'train.precision = "fp32" computes in fp32')),
        ({"MIXED_PRECISION": "fp8"}, [], ("mixed precision fp8", 'train.precision = "fp32" computes in fp32')),
        ({"GRADIENT_ACCUMULATION_STEPS": "4"}, [], ("4 steps of gradient accumulation", "train.batch_size = 8 rows")),
        ({"USE_FSDP": "true"}, [], ("it asks for fsdp", 'train.distributed.kind = "ddp"')),
        ({"GRADIENT_CLIPPING": "0.5"}, [], ("gradient clipping at 0.5", "train.max_grad_norm = 1")),
    ],
)
def test_what_accelerate_was_told_otherwise_is_refused_with_both_values(
    variables: dict[str, str],
    overrides: list[str],
    both: tuple[str, str],
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    with pytest.raises(ConfigError) as caught:
        textune.check(short / "config.toml", overrides=overrides)
    assert all(part in caught.value.message for part in both), caught.value.message
    assert caught.value.hint and 'train.precision = "fp8"' not in caught.value.hint


def test_what_accelerate_sets_by_itself_contradicts_nothing(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unasked = {"MIXED_PRECISION": "no", "GRADIENT_ACCUMULATION_STEPS": "1", "USE_CPU": "False", "DYNAMO_BACKEND": "no"}
    for name, value in unasked.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    assert textune.check(short / "config.toml").ok
