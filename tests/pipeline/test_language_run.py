"""Whole runs of language models on documents: trained, checked, dry, fast, and refused in a sentence."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from kits.errors import refused
from kits.languageruns import CONFIG, make_document, metrics_of, write_documents, write_language_home
from kits.languages import labels_of, plain_language
from kits.runs import Listener, signal_after
from kits.streams import write_shard
from torch.nn import functional
from transformers import AutoTokenizer

import textune
from textune.cli import commands
from textune.config.load import load_config
from textune.config.values import Duration
from textune.data.labels.map import LABEL
from textune.errors import ConfigError, DataError, ModelError, Preempted, TextuneError
from textune.pipeline.build import build_parts
from textune.prediction.load import load_scorer
from textune.run.parts import Parts, batches_of

STREAM = [
    "data.train.kind=stream",
    'data.train.files=["a.jsonl", "b.jsonl"]',
    "data.train.block_rows=7",
    "data.train.num_rows=40",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_language_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture(scope="module")
def trained(home: Path) -> tuple[Path, Listener, Any]:
    listener = Listener()
    words = ["train.duration=6 epochs", 'data.validation.by_type=["title"]', "train.log_every=1 step"]
    result = textune.train(home / "config.toml", run=home / "trained", tracker=listener, overrides=words)
    return home / "trained", listener, result


def parts_of(home: Path, *words: str, **options: Any) -> Parts:
    experiment = load_config(home / "config.toml", words).experiment
    return build_parts(experiment, tracker=Listener(), audit=True, **options)


def changed_home(home: Path, folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """The same with other rows in one of the files."""
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("trained", "cache"))
    (folder / name).unlink()
    write_shard(folder / name, rows)
    return folder


# --- from a configuration to the end ---------------------------------------------------------------------------------


def test_it_learns_and_every_set_is_evaluated_and_reported(trained: tuple[Path, Listener, Any]) -> None:
    run, listener, result = trained
    losses = [line["loss"] for line in metrics_of(run) if line["kind"] == "step"]
    assert losses[-1] < 0.8 * losses[0]
    sets = ["validation", "validation-without", "validation-title", "validation-title-without"]
    sets += ["validation-no-metadata"]
    assert [line["set"] for line in listener.evaluations[: len(sets)]] == sets
    assert set(result.reports) == set(sets)
    best = max(line["step"] for line in listener.evaluations if line["is_best"])
    assert result.best_step == best
    main = [line["metrics"]["bits_per_character"] for line in listener.evaluations if line["set"] == "validation"]
    assert result.reports["validation"].value == pytest.approx(min(main), rel=1e-6)
    assert result.reports["validation"].num_rows == 10, "documents, not chunks"


def test_the_header_speaks_of_documents_and_chunks(trained: tuple[Path, Listener, Any]) -> None:
    run, listener, _ = trained
    assert listener.words["documents"].startswith("40 train, 10 validation")
    assert "an epoch of 40 documents has" in listener.words["chunks"]
    assert "rows" not in listener.words and "tokens" not in listener.words
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["facts"]["documents"]["documents"] == 40 and manifest["rows"]["train"] == 40
    assert not any("truncated" in words for words in listener.words.values())


def test_the_saved_folder_opens_in_plain_transformers(trained: tuple[Path, Listener, Any], home: Path) -> None:
    """With its tokenizer; the same nats of the same rows."""
    best = trained[0] / "best"
    tokenizer = AutoTokenizer.from_pretrained(best)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(home / "model").get_vocab()
    rows = parts_of(home).rows["validation"]
    nats = load_scorer(trained[0]).score_store(rows.store, rows.examples)[LABEL]
    plain, store = plain_language(best), rows.store.whole()
    for position, row in enumerate(rows.rows.tolist()):
        part = slice(int(store.offsets[row]), int(store.offsets[row + 1]))
        ids, mask = store.ids[part].tolist(), store.columns["mask"][part].tolist()
        with torch.no_grad():
            logits = plain(torch.tensor([ids])).logits
        loss = functional.cross_entropy(
            logits[0, :-1], labels_of([ids], [mask])[0, 1:], ignore_index=-100, reduction="sum"
        )
        assert nats[position] == pytest.approx(float(loss), rel=1e-4, abs=1e-4)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("words", [[], STREAM])
def test_the_other_verbs_know_documents(home: Path, words: list[str]) -> None:
    result = textune.check(home / "config.toml", overrides=words)
    assert result.ok and "measured batches" in result.words["time"] and "memory" in result.words
    assert result.words["steps"].startswith("18 of 8 rows (2 epochs of 9 steps)")
    assert result.to_dict()["training"]["steps"] == 18
    assert textune.check(home / "config.toml", overrides=words, timing=False).to_dict()["training"]["memory_bytes"]
    assert textune.train(home / "config.toml", dry_run=True, run=home / "dry", overrides=words).dry_run
    fast = textune.train(home / "config.toml", fast_dev_run=True, run=home / "fast", overrides=words)
    assert fast.steps == 1 and fast.reports["validation"].num_rows <= 8
    assert not (home / "dry").exists() and not (home / "fast").exists()


def test_rendering_goes_on_working(home: Path) -> None:
    shown = CliRunner().invoke(commands, ["render", str(home / "config.toml"), "--rows", "2"])
    assert shown.exit_code == 0 and "url: film" in shown.output


def test_info_knows_a_language_model(trained: tuple[Path, Listener, Any]) -> None:
    shown = CliRunner().invoke(commands, ["info", str(trained[0])])
    assert shown.exit_code == 0, shown.output
    assert "language" in shown.output and "bits_per_character" in shown.output


def test_what_comes_next_is_what_a_language_model_can_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    words = ["train", "config.toml", "--run", "next", "train.duration=1 steps"]
    shown = CliRunner().invoke(commands, words)
    assert shown.exit_code == 0, shown.output
    following = [line.partition("textune ")[2] for line in shown.output.splitlines() if " textune " in line]
    assert [line.split()[0] for line in following] == ["generate", "evaluate", "info"]
    assert following[1] == "evaluate next --by-metadata"
    for line in (following[0], following[2]):
        assert CliRunner().invoke(commands, shlex.split(line)).exit_code == 0, line


@pytest.mark.parametrize(("words", "verb"), [([], "train"), (["--unset", "task"], "render")])
def test_a_check_ends_with_what_can_be_done(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], verb: str
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = CliRunner().invoke(commands, ["check", "config.toml", "--no-timing", *words])
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines()[-1].endswith(f"ready: {shlex.join(['textune', verb, 'config.toml', *words])}")


def test_weights_that_are_missing_are_missed_or_meant_to_be(home: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in (home / "model").iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, bare)
    with refused(ModelError, key="model.pretrained", value=str(bare)):
        parts_of(home, f"model.pretrained={bare}")
    parts_of(home, f"model.pretrained={bare}", "model.init=scratch")


def test_a_stream_trains_on_the_rows_of_a_file(home: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=STREAM, tracker=listener)
    assert result.steps == 18
    assert listener.words["documents"].endswith("train streamed from 2 shards")


# --- durations, steps to evaluate and save at, a curriculum ----------------------------------------------------------


def test_steps_are_evaluated_and_saved_where_the_configuration_says(home: Path, tmp_path: Path) -> None:
    """Four steps, saved at the second and the last; evaluated there, too."""
    words = [
        "train.duration=4 steps",
        "train.checkpoint.every=never",
        "train.checkpoint.at_steps=2",
        "train.evaluate_at=2",
        "train.evaluate_every=100 steps",
    ]
    listener = Listener()
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=words, tracker=listener)
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == ["step-2", "step-4"]
    assert [line["step"] for line in listener.evaluations if line["set"] == "validation"] == [2, 4]


@pytest.mark.parametrize(("duration", "steps"), [("7 steps", 7), ("1 epochs", 9), ("2 epochs", 18), ("0.5 epochs", 4)])
def test_epochs_are_counted_in_chunks(home: Path, duration: str, steps: int) -> None:
    """Other durations, too, whatever the unit of the run's own."""
    parts = parts_of(home, f"train.duration={duration}")
    assert parts.plan.total_steps == steps
    assert parts.plan.steps(Duration(2, "epochs")) == 18


@pytest.mark.every_day(1)
@pytest.mark.parametrize("rows", [[], STREAM, ["data.chunks=fixed"]])
def test_a_cool_down_ends_with_plain_texts(home: Path, tmp_path: Path, rows: list[str]) -> None:
    """Four epochs with metadata, the last without any; a row of one length may have both."""
    curriculum = "metadata.sampling.curriculum=[[0, 1.0], [0.8, 0.0]]"
    parts = parts_of(home, *rows, "train.duration=5 epochs", curriculum)
    masked = []
    batches = iter(batches_of(parts))
    for _ in range(parts.plan.total_steps):
        tokens = [part.tokens for part in next(batches).micro_batches]
        masked.append(sum(int(one.columns["mask"].sum()) for one in tokens))  # type: ignore[union-attr]
    batches.close()
    last = max(step for step, num in enumerate(masked) if num)
    assert all(masked[: last + 1]), "all with metadata, then all without any"
    assert 0.75 < (last + 1) / len(masked) < 0.95
    words = [*rows, "train.duration=10 steps", curriculum]
    assert textune.train(home / "config.toml", run=tmp_path / "run", overrides=words).steps == 10


def test_tokens_of_metadata_are_scored_where_the_task_says_so(home: Path) -> None:
    plain, all_scored = (parts_of(home, f"task.metadata_loss={value}").rows["train"] for value in ("false", "true"))
    assert plain.lengths.tolist() == all_scored.lengths.tolist()
    assert all_scored.targets[LABEL][:, 0].tolist() == (all_scored.lengths - 1).tolist()
    assert (plain.targets[LABEL][:, 0] < plain.lengths - 1).any()


@pytest.mark.slow
def test_micro_batches_of_any_size_train_alike(home: Path, tmp_path: Path) -> None:
    """A batch is cut by tokens; its loss is the mean over all its scored tokens all the same."""
    words = [
        "train.duration=8 steps",
        "train.log_every=1 step",
        "train.optimizer.eps=1e-4",
        "model.config={ resid_pdrop = 0.0, embd_pdrop = 0.0, attn_pdrop = 0.0 }",
        "model.compile=off",
    ]
    losses, weights = [], []
    for size in (48, 100, 16384):
        run = tmp_path / str(size)
        textune.train(home / "config.toml", run=run, overrides=[*words, f"train.max_tokens={size}"])
        losses.append([line["loss"] for line in metrics_of(run) if line["kind"] == "step"])
        weights.append(load_scorer(run).model.state_dict())
    for other, other_weights in zip(losses[1:], weights[1:], strict=True):
        np.testing.assert_allclose(other, losses[0], rtol=1e-6)
        for name, tensor in weights[0].items():
            torch.testing.assert_close(other_weights[name], tensor, atol=1e-6, rtol=1e-5)


# --- what is refused -------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[type[TextuneError], str, list[str]]] = {
    "a curriculum that goes backwards": (
        ConfigError,
        "metadata.sampling.curriculum",
        ["metadata.sampling.curriculum=[[0.9, 0.0], [0.5, 1.0]]"],
    ),
    "a misspelt type": (ConfigError, "metadata.types", ['metadata.types=["urll"]']),
    "chunks longer than the positions": (ConfigError, "tokens.max_length", ["tokens.max_length=4096"]),
    "fewer tokens at once than a chunk has": (ConfigError, "train.max_tokens", ["train.max_tokens=47"]),
    "the same when evaluating": (ConfigError, "evaluate.max_tokens", ["evaluate.max_tokens=47"]),
    "an engine of classifiers": (ConfigError, "train.engine", ["train.engine=onnxruntime"]),
    "a token that is added twice": (ConfigError, "model.added_tokens", ['model.added_tokens=["<x>", "<x>"]']),
    "a classifier of documents": (ConfigError, "metadata", ["task.kind=multiclass"]),
    "a set by type that no document has": (
        DataError,
        "data.validation.by_type",
        ['data.validation.by_type=["entity"]', 'metadata.types=["url", "entity"]'],
    ),
    "evaluated documents among those of training": (
        DataError,
        "data.on_shared_text",
        ["data.evaluations.news.files=b.jsonl"],
    ),
}


@pytest.mark.every_day(5)
@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_words_and_leaves_no_run(home: Path, tmp_path: Path, what: str) -> None:
    error, key, words = BAD[what]
    with pytest.raises(error) as caught:
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=words)
    assert key in (caught.value.key or str(caught.value))
    assert not (tmp_path / "run").exists()


def test_a_set_without_a_row_is_refused(home: Path) -> None:
    (home / "none.jsonl").write_text("")
    with pytest.raises(DataError, match=r"none\.jsonl is empty"):
        parts_of(home, "data.evaluations.news.files=none.jsonl")
    with pytest.raises(DataError, match="no row has 'nothing'"):
        parts_of(home, "data.evaluations.news.files=held.jsonl", 'data.evaluations.news.where={ text = ["nothing"] }')


def test_an_encoder_is_refused(home: Path, tmp_path: Path) -> None:
    from kits.backbones import tiny_backbone

    tiny_backbone("bert", tmp_path / "bert")
    with refused(ModelError, key="model.pretrained"):
        parts_of(home, f"model.pretrained={tmp_path / 'bert'}")


@pytest.mark.parametrize("streamed", [False, True])
def test_texts_that_are_evaluated_on_as_well(home: Path, tmp_path: Path, streamed: bool) -> None:
    """Refused with the places on both sides; said, or not even looked for, where the configuration wants that."""
    rows = [make_document(n) for n in range(100, 105)]
    rows[3]["text"] = make_document(30)["text"].upper() + "!"
    place = changed_home(home, tmp_path / "home", "held.jsonl", rows)
    words = ["train.duration=4 steps", *(STREAM if streamed else [])]
    with refused(DataError, key="data.on_shared_text", place="held.jsonl, line 4", reason="1 document of 5"):
        parts_of(place, *words)
    listener = Listener()
    experiment = load_config(place / "config.toml", [*words, "data.on_shared_text=report"]).experiment
    build_parts(experiment, tracker=listener, audit=True)
    assert sum("held.jsonl, line 4, also b.jsonl, line 6" in notice for notice in listener.notices) == 1
    parts_of(place, *words, "data.on_shared_text=unchecked")


@pytest.mark.slow
def test_documents_without_a_token_to_learn(home: Path, tmp_path: Path) -> None:
    """Counted where there are others; refused where there are none; the same of a set."""
    short = [{"text": "a", "metadata": []} for _ in range(3)]
    place = changed_home(home, tmp_path / "some", "b.jsonl", [*short, make_document(3)])
    listener = Listener()
    textune.train(place / "config.toml", run=tmp_path / "run", overrides=["train.duration=1 epochs"], tracker=listener)
    assert any("3 documents left out" in notice for notice in listener.notices)
    assert "3 documents left out" in listener.words["chunks"]
    only = changed_home(home, tmp_path / "only", "b.jsonl", short)
    with refused(DataError, key="data.train", value=0, reason="no document has a chunk"):
        parts_of(only, f"data.train.files={only / 'b.jsonl'}")
    of_set = changed_home(home, tmp_path / "set", "held.jsonl", short)
    with refused(DataError, reason="no document has a scored token"):
        parts_of(of_set)
    write_shard(of_set / "some.jsonl", [*short, make_document(100)])
    words = [f"data.validation.files={of_set / 'some.jsonl'}", "train.duration=2 steps"]
    for options in ({}, {"fast_dev_run": True}):
        result = textune.train(home / "config.toml", run=tmp_path / "of-set", overrides=words, **options)
        report = result.reports["validation"]
        assert (report.num_rows, report.num_left_out) == (1, 3)
        assert report.hardest[0].place == "some.jsonl, line 4" and report.hardest[0].text.startswith("n100 ")
        if not options:
            assert textune.evaluate(result.run).num_left_out == 3
            shutil.rmtree(result.run)


def test_metadata_that_cannot_be_rendered(home: Path, tmp_path: Path) -> None:
    rows = [make_document(n) for n in range(100, 105)]
    rows[2]["metadata"].append(
        {"key": "html", "type": "local", "value": "i", "char_start_idx": 5, "char_end_idx": 5_000}
    )
    place = changed_home(home, tmp_path / "home", "held.jsonl", rows)
    with refused(DataError, place="held.jsonl, line 3"):
        parts_of(place)
    parts = parts_of(place, "metadata.on_bad_metadata=report")
    assert any("1 entry of metadata left out, such as held.jsonl, line 3" in one for one in parts.data.notices)


def test_shares_of_the_training_documents_are_held_out(home: Path) -> None:
    parts = parts_of(home, "data.validation.kind=split", "data.validation.count=8", "train.duration=1 epochs")
    assert parts.data.num_rows["train"] == 32 and len(parts.data.splits["validation"]) == 8
    assert parts.documents is not None and parts.documents.num_rows == 32


@pytest.mark.every_day(1)
@pytest.mark.parametrize("words", [[], ["data.chunks=fixed"]])
def test_texts_alone_train_as_well(home: Path, tmp_path: Path, words: list[str]) -> None:
    """Without the section `metadata`: plain language modelling."""
    text = CONFIG.replace('[metadata]\ntypes = ["html", "title", "url"]\n', "")
    (home / "plain.toml").write_text(text, encoding="utf-8")
    listener = Listener()
    result = textune.train(
        home / "plain.toml", run=tmp_path / "run", tracker=listener, overrides=[*words, "train.duration=6 steps"]
    )
    assert set(result.reports) == {"validation"} and "metadata" not in listener.words["chunks"]
    parts = build_parts(load_config(home / "plain.toml", words).experiment, tracker=Listener(), audit=True)
    assert not parts.rows["train"].store.whole().columns["mask"].any()


def test_llama_trains_as_well(tmp_path: Path) -> None:
    home = write_language_home(tmp_path / "llama", "llama", config=CONFIG)
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=["train.duration=5 steps"])
    assert result.reports["validation"].value > 0
    assert write_documents(tmp_path, range(3)).is_file()


def test_a_run_goes_on_with_other_sets(home: Path, tmp_path: Path) -> None:
    """With another arm, sets by type and other rows, which alone are compared with those of training."""
    run = tmp_path / "run"
    words = ["train.duration=6 steps", "train.checkpoint.every=2 steps", "train.evaluate_every=3 steps"]
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=run, overrides=words, after_step=signal_after({4: [signal.SIGTERM]}))
    with refused(DataError, key="data.on_shared_text", place="b.jsonl, line 1"):
        textune.train(home / "config.toml", run=run, overrides=[*words, "data.evaluations.news.files=b.jsonl"])
    news = write_documents(tmp_path, range(200, 206), "news.jsonl")
    changes = ["evaluate.arms=same-context", "data.validation.by_type=title", f"data.evaluations.news.files={news}"]
    result = textune.train(home / "config.toml", run=run, overrides=[*words, *changes])
    of_validation = ["validation", "validation-same-context", "validation-title", "validation-title-same-context"]
    assert list(result.reports) == [*of_validation, "validation-no-metadata", "news", "news-same-context"]
    for part in ("validation-same-context", "news"):
        assert textune.evaluate(run, part=part).value == pytest.approx(result.reports[part].value, rel=1e-9)


def test_fields_behind_a_text_are_learned_where_metadata_counts(home: Path, tmp_path: Path) -> None:
    """And leave the likelihood of the text as it is."""
    words = ["metadata.position=suffix", 'metadata.types=["title", "url"]', "task.metadata_loss=true"]
    parts = parts_of(home, *words)
    rows = parts.rows["train"]
    assert parts.documents is not None and parts.documents.metadata_tokens > 100
    assert not rows.store.whole().columns["mask"].any()
    scored = int(rows.targets[LABEL][:, 0].sum())
    assert scored == rows.lengths.sum() - len(rows), "all but the first token of each row, so the fields, too"
    words += ["train.duration=2 epochs"]
    textune.train(home / "config.toml", run=tmp_path / "run", overrides=words)
    model = textune.load(tmp_path / "run")
    for score in model.score([make_document(number) for number in range(4)]):
        assert score.tokens == score.tokens_without > 0
        assert score.log_likelihood == pytest.approx(score.log_likelihood_without, abs=1e-4)
