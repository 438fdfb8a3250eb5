"""Few labels: a head fitted in one go, a backbone that learns from pairs, and the choice between them."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kits.errors import refused
from kits.runs import Listener, reviews, set_status, write_csv, write_place
from sklearn.linear_model import LogisticRegression
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import textune
from textune.draws import Draws
from textune.errors import ConfigError
from textune.model import settled_names
from textune.model.meanlayer import read_mean
from textune.pipeline.few.choosing import Tried, choose, is_hopeless
from textune.pipeline.few.contrastive import drawn, loss_of_pairs
from textune.pipeline.few.linear import Labelled, as_outputs, fit_linear, folds_of

CONFIG = """
[data.train]
kind = "files"
files = "rows.csv"
[data.validation]
kind = "files"
files = "validation.csv"
[data.columns]
text = "text"
label = "label"
[model]
pretrained = "backbone"
[train]
duration = "2 steps"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    write_csv(folder / "validation.csv", reviews(24, seed=1))
    return write_place(folder, CONFIG, reviews(16))


@pytest.fixture(scope="module")
def frozen(place: Path) -> Path:
    return textune.train(place / "config.toml", run=place / "frozen", overrides=["task.few=frozen"]).run


def problem(num_rows: int = 40, classes: int = 3) -> Labelled:
    features = Draws.of_seed(3).uniform(num_rows * 5).reshape(num_rows, 5)
    features /= np.sqrt((features**2).sum(1).mean())
    weights = 0.5 + Draws.of_seed(4).uniform(num_rows)
    return Labelled(features, (features[:, :classes] + 0.0).argmax(1), weights, classes)


def test_the_fit_is_that_of_scikit_learn() -> None:
    rows = problem()
    middle = rows.features_NF - rows.features_NF.mean(0)
    theirs = LogisticRegression(C=10.0, tol=1e-10, max_iter=5000).fit(middle, rows.targets_N, rows.weights_N)
    ours = fit_linear(rows, 10.0)
    assert np.allclose(ours.weight_OF, theirs.coef_, atol=1e-4)
    logits = torch.from_numpy(ours.outputs(rows.features_NF))
    assert np.allclose(logits.softmax(1).numpy(), theirs.predict_proba(middle), atol=1e-5)


def test_one_output_says_what_two_do() -> None:
    rows = problem(classes=2)
    both = fit_linear(rows, 1.0)
    one = as_outputs(both, 1)
    assert one.weight_OF.shape == (1, 5)
    first = torch.from_numpy(both.outputs(rows.features_NF)).softmax(1)[:, 1]
    assert torch.allclose(torch.from_numpy(one.outputs(rows.features_NF)).sigmoid()[:, 0], first)


def test_folds_part_the_rows_of_every_class_evenly() -> None:
    targets = np.array([0] * 9 + [1] * 4)
    folds = folds_of(targets, 0, most=4)
    assert sorted(np.concatenate(folds)) == list(range(13))
    assert all((targets[fold] == 1).sum() == 1 for fold in folds)
    assert folds_of(np.array([0, 0, 1]), 0, most=4) == []


def test_the_loss_is_that_of_a_loop_over_pairs() -> None:
    vectors = torch.from_numpy(Draws.of_seed(0).uniform(30).reshape(6, 5) - 0.5)
    targets = [0, 0, 1, 1, 2, 0]
    alike, apart = [], []
    for i in range(6):
        for j in range(i):
            cosine = float(vectors[i] @ vectors[j] / (vectors[i].norm() * vectors[j].norm()))
            (alike if targets[i] == targets[j] else apart).append(cosine)
    expected = np.mean([(1 - value) ** 2 for value in alike]) + np.mean([value**2 for value in apart])
    assert float(loss_of_pairs(vectors, torch.tensor(targets))) == pytest.approx(expected)


def test_batches_of_pairs_follow_from_seed_and_step() -> None:
    targets = np.repeat(np.arange(10), 3)
    batch = drawn(targets, 1, 5, num_texts=32)
    assert list(batch) == list(drawn(targets, 1, 5, num_texts=32)) != list(drawn(targets, 1, 6, num_texts=32))
    assert set(np.unique(targets[batch], return_counts=True)[1]) == {3}
    assert len(set(batch.tolist())) == len(batch)


def test_the_cheapest_way_wins_within_one_standard_error() -> None:
    rows = np.arange(100)
    frozen, near, far = Tried(rows < 70), Tried((rows >= 3) & (rows < 74)), Tried(rows < 90)
    assert choose({"frozen": frozen, "contrastive": near}) == "frozen"
    assert choose({"frozen": frozen, "contrastive": far}) == "contrastive"
    assert choose({"frozen": frozen, "contrastive": near, "full": far}) == "full"
    assert choose({}) == "frozen"
    low, high = frozen.interval
    assert low < 0.7 < high


def test_the_last_way_is_given_up_only_where_nothing_could_have_helped_it() -> None:
    """Beside the slow way: all that the rows that are left could have been, one by one."""
    draw, verdicts = np.random.default_rng(0), set()
    for _ in range(300):
        num_rows, more = int(draw.integers(4, 13)), bool(draw.integers(2))
        rights = [draw.random(num_rows) < draw.random() for _ in range(3)]
        found = {"frozen": Tried(rights[0])} | ({"contrastive": Tried(rights[1])} if more else {})
        left = int(draw.integers(1, min(7, num_rows)))
        seen = rights[2][:-left]
        hopeless = is_hopeless(found, "full", np.concatenate([seen, np.ones(left, bool)]))
        verdicts.add(hopeless)
        if hopeless:
            for rest in itertools.product([False, True], repeat=left):
                assert choose({**found, "full": Tried(np.concatenate([seen, np.array(rest)]))}) == "frozen"
    assert verdicts == {False, True}


def test_the_folder_opens_in_plain_transformers_and_reads_the_mean(place: Path, frozen: Path) -> None:
    texts = [row["text"] for row in reviews(24, seed=1)]
    ours = textune.load(frozen).predict_proba(texts)
    tokenizer = AutoTokenizer.from_pretrained(frozen / "best")
    model = AutoModelForSequenceClassification.from_pretrained(frozen / "best").eval()
    encoder = AutoModel.from_pretrained(place / "backbone").eval()
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**batch).logits.softmax(1).numpy()
        hidden, real = encoder(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        mean = torch.nn.functional.layer_norm((hidden * real).sum(1) / real.sum(1), hidden.shape[-1:])
        read = model.bert(**batch).pooler_output
    assert np.allclose(np.asarray(ours), theirs, atol=1e-5)
    assert torch.allclose(read, (mean * 0.1).tanh(), atol=5e-3)


def test_a_run_with_few_labels_is_a_run(frozen: Path, place: Path) -> None:
    manifest = json.loads((frozen / "manifest.json").read_text())
    assert (manifest["status"], manifest["steps"], manifest["few"]["chosen"]) == ("complete", 0, "frozen")
    assert (frozen / "report.html").is_file()
    again = textune.train(place / "config.toml", run=place / "again", overrides=["task.few=frozen"])
    ours, theirs = (run / "best" / "model.safetensors" for run in (frozen, again.run))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.every_day(1)
@pytest.mark.parametrize("few", ["contrastive", "auto"])
def test_other_ways_resume_with_the_same_bits(place: Path, few: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.pipeline.few.contrastive.LEAST_STEPS", 2)
    monkeypatch.setattr("textune.pipeline.few.contrastive.PASSES", 1)
    monkeypatch.setattr("textune.pipeline.few.choosing.LEAST_OF_FULL", 1)
    run, listener = place / few, Listener()
    textune.train(place / "config.toml", run=run, overrides=[f"task.few={few}"], tracker=listener)
    said = " ".join(listener.notices)
    tried = json.loads((run / "manifest.json").read_text())["few"].get("tried", {})
    assert set(tried) == ({"frozen", "contrastive", "full"} if few == "auto" else set())
    assert ("cross-validated accuracy" in said) == (few == "auto")
    before = (run / "best" / "model.safetensors").read_bytes()
    set_status(run, "interrupted")
    textune.train(place / "config.toml", run=run, overrides=[f"task.few={few}"])
    assert (run / "best" / "model.safetensors").read_bytes() == before


def test_auto_trains_as_usual_where_labels_are_many(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.pipeline.few.choosing.FEW", 8)
    runs = {}
    for few in ("off", "auto"):
        listener = Listener()
        runs[few] = textune.train(
            place / "config.toml", run=place / f"many-{few}", overrides=[f"task.few={few}"], tracker=listener
        ).run
        assert any("8 rows a class, 8 or more" in notice for notice in listener.notices) == (few == "auto")
    off, auto = (runs[few] / "best" / "model.safetensors" for few in ("off", "auto"))
    assert off.read_bytes() == auto.read_bytes()


def test_check_and_a_dry_run_say_what_will_happen(place: Path) -> None:
    said = {}
    for few in ("off", "frozen", "auto"):
        found = textune.check(place / "config.toml", overrides=[f"task.few={few}"], timing=False)
        said[few] = [notice for notice in found.notices if "task.few" in notice]
    assert said["off"] == []
    assert "a linear head is fitted to the backbone as it is" in said["frozen"][0]
    assert "8 rows a class: when the run begins, cross-validation" in said["auto"][0]
    assert 'between "frozen" and "contrastive"' in said["auto"][0]
    dry = textune.train(place / "config.toml", run=place / "dry", overrides=["task.few=auto"], dry_run=True)
    assert said["auto"][0] in dry.notices


def test_auto_trains_as_usual_where_no_head_can_be_fitted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textune.pipeline.few.choosing.why_unfit", lambda parts: "its head has two ends")
    overrides = ["task.few=auto"]
    found = textune.check(place / "config.toml", overrides=overrides, timing=False)
    assert 'task.few = "auto": the run trains as usual, since its head has two ends' in found.notices
    with refused(ConfigError, key="task.few", reason="its head has two ends"):
        textune.check(place / "config.toml", overrides=["task.few=contrastive"], timing=False)


def _tiny(family: str) -> BertForSequenceClassification | RobertaForSequenceClassification:
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    if family == "bert":
        return BertForSequenceClassification(BertConfig(vocab_size=9, **sizes))
    return RobertaForSequenceClassification(RobertaConfig(vocab_size=9, **sizes))


@pytest.mark.parametrize(("family", "dense"), [("bert", "bert.pooler.dense."), ("roberta", "classifier.dense.")])
def test_the_layer_of_the_mean_is_appended_once_and_no_other_is_settled(family: str, dense: str) -> None:
    hf, prefix = _tiny(family), f"{family}.encoder.layer."
    assert settled_names(hf) == {dense + "weight", dense + "bias"}
    for _ in range(2):
        assert "mean" in read_mean(hf, None)
        assert len(hf.base_model.encoder.layer) == hf.config.num_hidden_layers == 3
    appended = {name for name, _ in hf.named_parameters() if name.startswith(prefix + "2.")}
    assert len(appended) == 16
    assert settled_names(hf) == appended | {dense + "weight", dense + "bias"}


def test_a_task_without_classes_is_refused(place: Path) -> None:
    overrides = ["task.few=frozen", "data.columns.label=number", "task.kind=auto"]
    with refused(ConfigError, key="task.few", reason="exactly one class"):
        textune.train(place / "config.toml", run=place / "refused", overrides=overrides)
    assert not (place / "refused").exists()
