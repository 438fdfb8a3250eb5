"""Whole runs of texts that are read in windows: trained, shared, saved, exported, predicted, checked; and what they
refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_backbone, why_no_kernels
from kits.cli import runner
from kits.errors import refused
from kits.ranking import textune_ranks
from kits.runs import Listener, reviews, write_csv, write_place
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.config.load import load_config
from textune.errors import ConfigError
from textune.evaluation import render
from textune.exports import export
from textune.pipeline.build import build_parts
from textune.prediction.load import load as load_predictor
from textune.run.tracking.tracker import SilentTracker

CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
count = 24
[tokens]
max_length = 10
long = "windows"
stride = 2
pooling = "attention"
[model]
pretrained = "backbone"
[train]
duration = "2 epochs"
batch_size = 12
max_tokens = 30
log_every = "1 steps"
optimizer.eps = 1e-4
checkpoint.every = "4 steps"
"""
"""The longest text has 24 tokens, so four windows; one of four has more tokens than are computed at once."""
WITHOUT_DROPOUT = ["model.config.hidden_dropout_prob=0.0", "model.config.attention_probs_dropout_prob=0.0"]

PLAIN = ["tokens.long=truncate", "tokens.stride=0", "tokens.pooling=mean"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("long"), CONFIG, reviews(121))


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    textune.train(home / "config.toml", run=home / "run")
    return home / "run"


def texts_of(home: Path) -> list[str]:
    return [row["text"] for row in reviews(121)][-40:]


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def test_the_saved_model_knows_how_it_reads_long_texts(home: Path, run: Path) -> None:
    card = json.loads((run / "best" / "textune.json").read_text())
    assert (card["long"], card["stride"], card["pooling"], card["max_length"]) == ("windows", 2, "attention", 10)
    learned = load_file(run / "best" / "pooling.safetensors")["query"]
    assert learned.shape == (32,) and learned.norm() > 0
    # Nothing of it is in the file that plain transformers reads.
    assert not any("pooling" in name for name in load_file(run / "best" / "model.safetensors"))


def test_evaluated_again_a_run_is_what_it_reported(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    again = json.loads(render.json.render(textune.evaluate(run, part="validation")))
    assert report["rows"] == 24 and again["metrics"] == report["metrics"]


def test_a_text_has_one_prediction_whatever_it_is_computed_with(home: Path, run: Path) -> None:
    texts, predictor = texts_of(home), load_predictor(run)
    store = predictor.encode(texts)
    assert store.num_examples == 40 < len(store) and store.num_rows_of(np.arange(40)).max() == 4
    together = predictor.score(texts)
    assert together.shape == (40, 2)
    alone = np.concatenate([predictor.score([text]) for text in texts])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    for max_tokens in (10, 25):
        np.testing.assert_allclose(load_predictor(run, max_tokens=max_tokens).score(texts), together, atol=1e-6)
    if why_no_kernels():
        return
    bytewise = load_predictor(run, precision="int8").score(texts)
    np.testing.assert_allclose(bytewise, together, atol=0.1)


def test_the_command_line_predicts_a_row_for_each_text(
    home: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, home)
    answer = call("predict", "run", "--input", "rows.csv", "--output", "found.jsonl")
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in (home / "found.jsonl").read_text().splitlines()]
    wanted = textune.load(run).predict([row["text"] for row in reviews(121)])
    assert [row["predicted_label"] for row in rows] == [found.label for found in wanted]
    assert [row["predicted_score"] for row in rows] == pytest.approx([found.score for found in wanted], abs=1e-5)


def test_short_texts_are_the_same_in_plain_transformers(home: Path, run: Path) -> None:
    texts = ["a good film", "the worst movie is dull", "fine"]
    model = AutoModelForSequenceClassification.from_pretrained(run / "best").eval()
    inputs = AutoTokenizer.from_pretrained(run / "best")(texts, return_tensors="pt", padding=True)
    assert inputs["input_ids"].shape[1] <= 10
    with torch.inference_mode():
        plain = torch.softmax(model(**inputs).logits, dim=1).double().numpy()
    np.testing.assert_allclose(textune.load(run).score(texts), plain, atol=1e-5)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_texts_of_one_window_train_as_without_windows(home: Path, tmp_path: Path, pooling: str) -> None:
    common = ["tokens.max_length=24", "tokens.stride=0"]
    ways = {
        "windows": [*common, f"tokens.pooling={pooling}"],
        "truncate": [*common, *PLAIN],
    }
    for name, overrides in ways.items():
        textune.train(home / "config.toml", run=tmp_path / name, overrides=overrides)
    assert losses(tmp_path / "windows") == losses(tmp_path / "truncate")
    one, other = (load_file(tmp_path / name / "best" / "model.safetensors") for name in ways)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_of_a_checkpoint_keeps_what_its_pooling_learned(run: Path, tmp_path: Path) -> None:
    step = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.name.split("-")[1]))[-1]
    export(step, tmp_path / "exported")
    export(run, tmp_path / "best")
    for name in ("exported", "best"):
        assert load_file(tmp_path / name / "pooling.safetensors")["query"].norm() > 0
        assert textune.load(tmp_path / name).score(["a good film " * 9]).shape == (1, 2)
    best = textune.load(run).score(["a good film " * 9])
    assert (textune.load(tmp_path / "best").score(["a good film " * 9]) == best).all()


@pytest.mark.slow
def test_the_token_budget_changes_nothing_but_the_parts(home: Path, tmp_path: Path) -> None:
    found = {}
    for max_tokens in (10, 30, 4000):
        folder = tmp_path / str(max_tokens)
        overrides = [*WITHOUT_DROPOUT, f"train.max_tokens={max_tokens}"]
        textune.train(home / "config.toml", run=folder, overrides=overrides)
        found[max_tokens] = losses(folder)
    assert found[10] == pytest.approx(found[4000], abs=1e-5) and found[30] == pytest.approx(found[4000], abs=1e-5)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_ranks_train_on_windows_as_one_process_does(home: Path, tmp_path: Path, way: str) -> None:
    budget = {"ddp": 30, "fsdp": 60}[way]  # in lockstep every text is computed as a whole
    words = [*WITHOUT_DROPOUT, "model.compile=off", f"train.max_tokens={budget}"]
    textune.train(home / "config.toml", run=tmp_path / "alone", overrides=words)
    arguments = ["train", str(home / "config.toml"), "--run", str(tmp_path / "shared"), *words]
    ended = textune_ranks(2, [*arguments, f"train.distributed.kind={way}"], tmp_path / "logs")
    assert ended.codes == [0, 0], ended.said
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "alone"), abs=1e-5)
    for file in ("model.safetensors", "pooling.safetensors"):
        one, other = (load_file(tmp_path / name / "best" / file) for name in ("alone", "shared"))
        for name, tensor in one.items():
            torch.testing.assert_close(tensor, other[name], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "budgets"),
    [("train.max_tokens", []), ("evaluate.max_tokens", ["train.max_tokens=60", "evaluate.max_tokens=12"])],
)
def test_ranks_in_lockstep_refuse_a_text_that_is_computed_in_parts(
    home: Path, tmp_path: Path, key: str, budgets: list[str]
) -> None:
    arguments = ["train", str(home / "config.toml"), "--run", str(tmp_path / "run"), "model.compile=off", *budgets]
    ended = textune_ranks(2, [*arguments, "train.distributed.kind=fsdp"], tmp_path / "logs")
    assert ended.codes == [2, 2], ended.said
    assert f"Set {key} =" in ended.said[0] and "Traceback" not in ended.said[0]
    assert not (tmp_path / "run").exists()  # it is known before the first step


@pytest.mark.slow
def test_streamed_texts_have_windows_too(home: Path, tmp_path: Path) -> None:
    rows = reviews(121)[:97]
    (tmp_path / "part.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "held-out.csv", reviews(121)[97:])
    same = [
        "train.order=sequential",
        "train.compact_vocabulary=off",
        "task.kind=binary",
        'data.labels.names=["neg","pos"]',
        f'data.validation={{kind="files",files="{tmp_path / "held-out.csv"}"}}',
    ]
    stream = f'data.train={{kind="stream",files="{tmp_path / "part.jsonl"}",num_rows=97,block_rows=40}}'
    for name, train in (("stream", stream), ("files", f"data.train.files={tmp_path / 'train.csv'}")):
        textune.train(home / "config.toml", run=tmp_path / name, overrides=[train, *same])
    assert losses(tmp_path / "stream") == losses(tmp_path / "files")


def test_a_run_from_a_model_with_windows_begins_with_its_pooling(home: Path, run: Path) -> None:
    def begun(*overrides: str) -> Any:
        loaded = load_config(home / "config.toml", [f"model.pretrained={run}", *overrides])
        tracker = Listener()
        return build_parts(loaded.experiment, tracker=tracker, audit=False), tracker.notices

    parts, _ = begun()
    learned = load_file(run / "best" / "pooling.safetensors")["query"]
    assert torch.equal(parts.model.pooling.query, learned)
    parts, notices = begun("tokens.pooling=max", "tokens.stride=1")
    said = " ".join(notices)
    assert parts.model.pooling.kind == "max" and 'tokens.pooling = "attention" (here "max")' in said
    assert "tokens.stride = 2 (here 1)" in said


def test_check_counts_windows_and_what_cutting_would_lose(home: Path) -> None:
    result = textune.check(home / "config.toml", timing=False)
    facts = result.facts
    lengths = [2 + len(row["text"].split()) for row in reviews(121)]
    assert sum(facts.windows.values()) == 97 and max(facts.windows) == 4 and facts.rows_truncated == 0
    numbers = result.to_dict()["numbers"]
    assert isinstance(numbers, dict) and numbers["windows"] == {str(n): rows for n, rows in facts.windows.items()}
    assert 0 < facts.tokens_beyond <= sum(max(0, length - 10) for length in lengths)
    words = result.words["windows"]
    assert f"{facts.windows[2]:,} with 2" in words and f"{facts.tokens_beyond:,} tokens" in words
    assert "no row cut off" in result.words["tokens"] and "of 10 tokens (tokens.max_length)" in words
    cut = textune.check(home / "config.toml", timing=False, overrides=["tokens.max_windows=1"])
    assert f"{cut.facts.rows_truncated} rows cut off by tokens.max_windows" in cut.words["tokens"]
    assert cut.facts.windows == {1: 97} and cut.facts.rows_truncated > 0


def test_checked_facts_are_silent_about_windows_where_there_are_none(home: Path) -> None:
    result = textune.check(home / "config.toml", timing=False, overrides=PLAIN)
    assert "windows" not in result.words and result.facts.windows == {1: 97} and result.facts.pooling is None


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["tokens.stride=8"], "tokens.stride", 8),
        (["tokens.truncate=tail"], "tokens.truncate", "tail"),
        (["tokens.truncate=head_tail"], "tokens.truncate", "head_tail"),
        (["tokens.truncate=error"], "tokens.truncate", "error"),
        (["data.columns.text_pair=label"], "tokens.long", "windows"),
        (["model.attention=padded"], "model.attention", "padded"),
        (["tokens.pad=max_length"], "tokens.pad", "max_length"),
        (["tokens.pad_multiple=8"], "tokens.pad_multiple", 8),
        (["tokens.long=truncate", "tokens.pooling=mean"], "tokens.stride", 2),
        (["tokens.long=truncate", "tokens.stride=0"], "tokens.pooling", "attention"),
        (["tokens.max_windows=3", *PLAIN], "tokens.max_windows", 3),
        (["train.max_tokens=9"], "train.max_tokens", 9),
    ],
)
def test_what_windows_cannot_go_with_is_said_before_anything_is_computed(
    home: Path, overrides: list[str], key: str, value: object
) -> None:
    loaded = load_config(home / "config.toml", overrides)
    with refused(ConfigError, key=key, value=value):
        build_parts(loaded.experiment, tracker=SilentTracker(), audit=False)


def test_a_backbone_that_runs_padded_has_no_windows(home: Path, tmp_path: Path) -> None:
    tiny_backbone("xlnet", tmp_path / "xlnet")
    before_data = ["data.train.files=gone.csv"]
    loaded = load_config(home / "config.toml", [f"model.pretrained={tmp_path / 'xlnet'}", *before_data])
    with refused(key="tokens.long", value="windows", reason="padded"):
        build_parts(loaded.experiment, tracker=SilentTracker(), audit=False)


@pytest.mark.slow
def test_several_tasks_read_the_same_windows(home: Path, tmp_path: Path) -> None:
    rows = [{**row, "long": "yes" if len(row["text"].split()) > 12 else "no"} for row in reviews(121)]
    write_csv(tmp_path / "rows.csv", rows)
    overrides = [
        f"data.train.files={tmp_path / 'rows.csv'}",
        'data.columns.labels=["label","long"]',
        'task={kind="multitask",groups={label=["neg","pos"],long=["no","yes"]}}',
    ]
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides)
    predictor = load_predictor(tmp_path / "run")
    store = predictor.encode(texts_of(home))
    whole = predictor.scorer.score_store(store)
    assert {name: scores.shape for name, scores in whole.items()} == {"label": (40, 2), "long": (40, 2)}
    for name, scores in load_predictor(tmp_path / "run", max_tokens=10).scorer.score_store(store).items():
        np.testing.assert_allclose(scores, whole[name], atol=1e-6)


@pytest.mark.parametrize("words", [["--dry-run"], ["--fast-dev-run"]])
def test_a_rehearsal_reads_windows(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    answer = runner(capsys, monkeypatch, home)("train", "config.toml", "--run", tmp_path / "run", *words)
    assert answer.code == 0, answer.err
    assert "windows" in answer.out + answer.err
