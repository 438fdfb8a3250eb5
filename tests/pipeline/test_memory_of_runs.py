"""Memory in whole runs: the bound is chosen and said, running out of it changes the parts alone, keys have their
effect."""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone
from kits.runs import Listener, reviews

import textune
from textune.errors import ConfigError, ModelError
from textune.model import budget
from textune.model.backbone import TextModel
from textune.model.budget import TokenBudget
from textune.prediction.load import load
from textune.run.facts import Facts
from textune.run.header import describe

QUICK = ["train.duration=2 epochs", "data.train.take=120"]
HALVED = re.compile(r"out of memory (at step \d+|while predicting): computing [\d,]+ tokens at once from here on")


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Most tokens that fit at once, by what the model does: "training" and "predicting"."""
    limits = {"training": 1 << 30, "predicting": 1 << 30}
    forward = TextModel.forward

    def limited(model: TextModel, batch: Any) -> torch.Tensor:
        if len(batch.ids_T) > limits["training" if model.training else "predicting"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(model, batch)

    monkeypatch.setattr(TextModel, "forward", limited)
    yield limits


def train(home: Path, run: Path, *overrides: str) -> tuple[Any, Listener]:
    listener = Listener()
    return textune.train(home / "config.toml", run=run, overrides=[*QUICK, *overrides], tracker=listener), listener


def test_a_run_that_runs_out_of_memory_everywhere_is_the_same_run(
    home: Path, tmp_path: Path, limits: dict[str, int]
) -> None:
    """R8: training and evaluation, dropout off; the same steps and reports, one line for each halving."""
    keys = [
        "model.config.hidden_dropout_prob=0",
        "model.config.attention_probs_dropout_prob=0",
        "train.max_tokens=5000",
    ]
    plain, said = train(home, tmp_path / "plain", *keys)
    assert not any(HALVED.match(notice) for notice in said.notices)
    limits.update(training=60, predicting=100)
    small, said = train(home, tmp_path / "small", *keys)
    halvings = [notice for notice in said.notices if HALVED.match(notice)]
    assert len(halvings) == len(set(halvings))
    assert any("at step 1:" in notice for notice in halvings)
    assert any("while predicting" in notice for notice in halvings)
    assert small.notices == tuple(said.notices)
    assert (small.steps, small.best_step) == (plain.steps, plain.best_step)
    for name, report in plain.reports.items():
        assert small.reports[name].value == report.value
    texts = [row["text"] for row in reviews(20, seed=3)]
    limits.update(predicting=1 << 30)
    np.testing.assert_allclose(textune.load(small.run).score(texts), textune.load(plain.run).score(texts), atol=1e-4)


def test_prediction_goes_on_in_smaller_parts(trained: Any, limits: dict[str, int]) -> None:
    texts = [row["text"] for row in reviews(60, seed=3)]
    expected = textune.load(trained[0].run).score(texts)
    predictor = load(trained[0].run)
    said: list[str] = []
    budget = predictor.scorer.budget(said.append)
    limits.update(predicting=100)
    store = predictor.encode(texts)
    np.testing.assert_allclose(predictor.scorer.score_store(store, budget=budget)["label"], expected, atol=1e-6)
    assert budget.max_tokens <= 100
    assert said and all(HALVED.match(notice) for notice in said)
    before = len(said)
    np.testing.assert_allclose(predictor.scorer.score_store(store, budget=budget)["label"], expected, atol=1e-6)
    assert len(said) == before  # the caller's budget stays halved
    assert predictor.scorer.max_tokens > 100  # that of other callers does not


def test_a_model_loaded_for_good_says_when_memory_runs_out(
    trained: Any, limits: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    limits.update(predicting=100)
    textune.load(trained[0].run).score([row["text"] for row in reviews(60, seed=3)])
    assert "out of memory while predicting" in caplog.text


def test_a_text_that_does_not_fit_alone_is_an_error(trained: Any, limits: dict[str, int]) -> None:
    limits.update(predicting=10)
    with pytest.raises(ModelError, match=r"out of memory: a single row of 24 tokens does not fit"):
        textune.load(trained[0].run).score(["film " * 40])


def test_check_survives_it_too(home: Path, limits: dict[str, int]) -> None:
    limits.update(training=100)
    listener = Listener()
    assert textune.check(home / "config.toml", tracker=listener, overrides=["train.max_tokens=4000"]).ok
    assert any(HALVED.match(notice) for notice in listener.notices)


def test_the_header_and_check_say_the_bound_and_why(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "available_bytes", lambda device: 1 << 40)
    listener = Listener()
    dry = textune.train(home / "config.toml", dry_run=True, tracker=listener).facts
    checked = textune.check(home / "config.toml")
    for facts in (dry, checked.facts):
        assert facts is not None and facts.max_tokens == 16384
        assert re.match(r"auto: \d+ kB per token .* 5\d\d\.\d GB", facts.max_tokens_reason)
        assert describe(facts)["at once"] == f"16,384 tokens ({facts.max_tokens_reason})"
    assert "16,384 tokens at once" in checked.words["memory"]
    told = textune.train(
        home / "config.toml", dry_run=True, tracker=listener, overrides=["train.max_tokens=512"]
    ).facts
    assert told is not None and (told.max_tokens, told.max_tokens_reason) == (512, "train.max_tokens")
    assert listener.started == []  # nothing is trained


def test_little_memory_gives_a_small_bound(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches the loader: no more is computed at once."""
    computed: list[int] = []
    forward = TextModel.forward

    def spy(model: TextModel, batch: Any) -> torch.Tensor:
        computed.append(len(batch.ids_T) if model.training else 0)
        return forward(model, batch)

    measure = budget.measure_budget

    def measure_in_little(*args: Any, to_come: int, available: int, **keys: Any) -> TokenBudget:
        return measure(*args, **keys, to_come=to_come, available=to_come + 1_500_000)

    monkeypatch.setattr(budget, "measure_budget", measure_in_little)

    class Started(Listener):
        def start(self, config: Any, facts: Facts, state: Any) -> None:
            super().start(config, facts, state)
            monkeypatch.setattr(TextModel, "forward", spy)  # from here on, the measurement is over

    listener = Started()
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=["train.duration=4 steps"], tracker=listener)
    assert listener.facts is not None and 24 <= listener.facts.max_tokens <= 128
    assert 0 < max(computed) <= listener.facts.max_tokens


def test_checkpointing_is_said_and_trains_the_same(home: Path, tmp_path: Path) -> None:
    plain, _ = train(home, tmp_path / "plain")
    checkpointed, listener = train(home, tmp_path / "checkpointed", "train.gradient_checkpointing=true")
    assert listener.words["at once"].endswith(", gradient checkpointing")
    texts = [row["text"] for row in reviews(20, seed=3)]
    scores = [textune.load(result.run).score(texts) for result in (plain, checkpointed)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_what_cannot_work_is_said_before_the_first_step(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    albert = tiny_backbone("albert", tmp_path / "albert")
    for overrides, error, words in (
        ([f"model.pretrained={albert}", "train.gradient_checkpointing=true"], ModelError, "cannot do that for albert"),
        (
            ["evaluate.max_tokens=10"],
            ConfigError,
            r"evaluate.max_tokens = 10 is smaller than the longest validation row: .*24 tok",
        ),
        (["train.max_tokens=many"], ConfigError, r"(?s)train.max_tokens.*many.*auto"),
        (["train.max_tokens=0"], ConfigError, r"(?s)train.max_tokens.*1"),
    ):
        with pytest.raises(error, match=words) as caught:
            textune.train(home / "config.toml", run=tmp_path / "refused", overrides=overrides)
        if "evaluate" in words:
            assert "Use evaluate.max_tokens = 24 or more" in caught.value.hint
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in {"bitsandbytes", "torchao"} else find_spec(name)
    )
    with pytest.raises(ModelError, match="neither bitsandbytes nor torchao"):
        textune.train(home / "config.toml", run=tmp_path / "refused", overrides=["train.optimizer.kind=adamw_8bit"])
    assert not (tmp_path / "refused").exists()


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_8_bits_of_optimizer_state_train_a_run(home: Path, tmp_path: Path) -> None:
    result, _ = train(
        home,
        tmp_path / "run",
        "train.optimizer.kind=adamw_8bit",
        "train.optimizer.lr=3e-3",
        *["train.duration=6 epochs"],
    )
    assert result.reports["validation"].value > 0.7  # 0.5 by chance
    whole = textune.check(home / "config.toml").costs
    small = textune.check(home / "config.toml", overrides=["train.optimizer.kind=adamw_8bit"]).costs
    assert whole is not None and small is not None and small.memory_bytes < whole.memory_bytes
