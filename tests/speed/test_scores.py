"""The scores of docs/results.md: the floor that has no encoder, how learning rates are chosen, and that the page is
made of the files of the runs."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from kits.batches import store_of
from numpy.testing import assert_allclose
from scipy.sparse import csr_matrix

from bench.rows import write_json
from bench.scores import rates
from bench.scores import table as results_table
from bench.scores.__main__ import main
from bench.sides.examples import read_example
from bench.sides.static import counts, means, predicted
from bench.worker import Json
from textune.batches.store import TokenStore
from textune.config.load import load_config

ROOT = Path(__file__).parents[2]
CLS, SEP = 0, 1
CONFIGS = sorted((ROOT / "bench" / "scores" / "sst2").glob("*.toml"))


def a_store(*, types: list[int] | None) -> TokenStore:
    """Two rows: CLS 2 3 3 SEP, and CLS 4 SEP."""
    ids = np.array([CLS, 2, 3, 3, SEP, CLS, 4, SEP])
    return store_of([5, 3], ids, None if types is None else np.array(types))


def table(store: TokenStore, *, second: bool) -> list[list[float]]:
    made = counts(store, np.array([1, 0]), 5, [CLS, SEP], second=second)
    rows: list[list[float]] = made.toarray().tolist()
    return rows


def test_tokens_are_counted_in_the_order_of_the_rows_without_special_ones() -> None:
    assert table(a_store(types=None), second=False) == [[0, 0, 0, 0, 1], [0, 0, 1, 2, 0]]
    assert table(a_store(types=None), second=True) == [[0] * 5] * 2


def test_the_texts_of_a_pair_are_counted_apart() -> None:
    store = a_store(types=[0, 0, 1, 1, 1, 0, 0, 0])
    assert table(store, second=False) == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]
    assert table(store, second=True) == [[0, 0, 0, 0, 0], [0, 0, 0, 2, 0]]


def test_a_row_is_the_mean_of_its_token_embeddings() -> None:
    embedding_VH = np.array([[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    found = means(csr_matrix([[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]]), embedding_VH)
    assert_allclose(found, [[0.25, 1.5], [0.0, 0.0]])


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel", "regression"])
def test_the_linear_model_scores_in_the_form_of_the_problem(problem: str) -> None:
    generator = np.random.default_rng(0)
    targets_by = {
        "binary": np.arange(60) % 2,
        "multiclass": np.arange(60) % 3,
        "multilabel": np.stack([np.arange(60) % 2, np.arange(60) % 3 == 0], axis=1).astype(np.float32),
        "regression": generator.normal(size=60),
    }
    targets = targets_by[problem]
    features_NF = generator.normal(size=(60, 4)) + targets.reshape(60, -1)[:, :1] * 5
    found = predicted(problem, features_NF, targets, features_NF)
    assert (
        found.shape == {"binary": (60, 2), "multiclass": (60, 3), "multilabel": (60, 2), "regression": (60,)}[problem]
    )
    if problem == "binary":
        assert (found.argmax(axis=1) == targets).all()


def test_the_shipped_page_of_scores_is_made_of_the_shipped_runs() -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_table.page()


def test_a_mistake_in_the_command_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "none.toml"), "--data-folder", str(tmp_path)])
    assert "none.toml" in capsys.readouterr().err


# --- few trained numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_page_states_of_a_config_what_textune_reads_of_it(path: Path) -> None:
    example, experiment = read_example(path), load_config(path).experiment
    assert path.stem.partition("-")[0] in results_table.BACKBONES and path.stem.partition("-")[2] in results_table.WAYS
    assert example["train"]["optimizer"]["lr"] == experiment.train.optimizer.lr
    assert example["train"]["batch_size"] == experiment.train.batch_size
    assert ("lora" in example["model"]) == (experiment.model.lora is not None)
    assert experiment.model.lora is None or experiment.model.lora.r == 8


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rates that trained, each with the score 100 x rate; 0.5 fails."""
    asked: list[float] = []

    def result(rate: float, options: argparse.Namespace) -> Json:
        asked.append(rate)
        if rate == 0.5:
            raise rates.WorkerError("it diverged")
        facts: Json = {"versions": {}, "machine": "a processor", "threads": 1}
        return {"metric": "accuracy", "last": {"accuracy": 100 * rate}, **facts}

    monkeypatch.setattr(rates, "_result", result)
    return asked


def test_a_rate_that_has_a_score_is_not_trained_again(tried: list[float], tmp_path: Path) -> None:
    config = ROOT / "bench" / "scores" / "sst2" / "minilm-lora.toml"
    words = [str(config), "--data-folder", str(tmp_path), "--out", str(tmp_path), "--rates"]
    assert rates.main([*words, "2e-3", "0.5"]) == 1
    assert rates.main([*words, "2e-3", "1e-3"]) == 0
    assert tried == [2e-3, 0.5, 1e-3]
    found = json.loads((tmp_path / "minilm-lora.json").read_text(encoding="utf-8"))
    assert found["scores"] == {"0.001": 0.1, "0.002": 0.2} and list(found["scores"]) == ["0.001", "0.002"]
    assert (found["held_out"], found["seed"]) == (1000, 0)


def test_scores_on_other_rows_do_not_stand_beside_each_other(
    tried: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ROOT / "bench" / "scores" / "sst2" / "minilm-lora.toml"
    words = [str(config), "--data-folder", str(tmp_path), "--out", str(tmp_path), "--rates", "1e-3"]
    assert rates.main(words) == 0
    with pytest.raises(SystemExit, match="2"):
        rates.main([*words, "2e-3", "--held-out", "50"])
    assert "1000 rows, not on 50" in capsys.readouterr().err and tried == [1e-3]


def a_run(seed: int, accuracy: float, *, trained: int, lr: float) -> Json:
    example = {"train": {"batch_size": 16, "optimizer": {"lr": lr}}}
    known: Json = {"seed": seed, "last": {"accuracy": accuracy}, "rows": {"train": 5000, "validation": 872}}
    known |= {"date": "2026-11-30", "machine": "a processor", "threads": 1, "precision": "fp32"}
    known["versions"] = {"torch": "2.13", "transformers": "5.23"}
    return {**known, "parameters_trained": trained, "peak_memory_mb": 700.4 + seed, "example": example}


def test_few_trained_numbers_stand_beside_training_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    ways = {"full": (0.90, 14_000_000, 1e-4), "lora": (0.88, 300_000, 2e-3)}
    for way, (accuracy, trained, lr) in ways.items():
        for seed in (0, 1):
            run = a_run(seed, accuracy + seed / 100, trained=trained, lr=lr)
            write_json(tmp_path / "textune" / f"minilm-{way}-{seed}.json", run)
    write_json(tmp_path / "rates" / "minilm-lora.json", {"held_out": 1000, "scores": {"0.001": 0.8, "0.002": 0.85}})
    name = "| MiniLM-L6 |"
    less = "-0.020 (spread 0.010)"
    found = results_table._few_numbers().splitlines()[2:]
    assert found[-1].endswith("2026-11-30, a processor, threads: 1, fp32, torch 2.13, transformers 5.23.")
    assert found[:2] == [
        f"{name} everything | 14,000,000 | 5,000, 16 | 0.0001 | 0.905 (0.900, 0.910) | - | 701 |",
        f"{name} LoRA | 300,000 | 5,000, 16 | 0.002 | 0.885 (0.880, 0.890) | {less} | 701 |",
    ]
    assert results_table._rates().splitlines()[2:] == [f"{name} LoRA | 0.001: 0.800, 0.002: 0.850 (1,000 rows) |"]


def test_columns_before_the_text_stand_beside_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    assert results_table._columns() == ""
    for way, accuracy in (("plain", 0.80), ("source", 0.83)):
        for seed in (0, 1):
            run = a_run(seed, accuracy + seed / 100, trained=1, lr=1e-4)
            lift = {"column": "source", "lift": 0.01 * (seed + 1), "interval": [-0.02, 0.03]}
            run["reports"] = {"validation": {"lifts": [lift]}}
            write_json(tmp_path / "textune" / f"reviews-{way}-{seed}.json", run)
    found = results_table._columns().splitlines()
    assert "| nothing | 0.805 (0.800, 0.810) | - | - |" in found
    assert "| `source` | 0.835 (0.830, 0.840) | +0.030 (spread 0.010) | +0.015 |" in found
    assert "The lift of each seed: +0.010 in -0.020 to +0.030, +0.020 in -0.020 to +0.030." in found
    assert "Where and when: seeds 0, 1, 2026-11-30, a processor, threads: 1, fp32." in found


@pytest.mark.parametrize("name", ["reviews-plain", "reviews-source"])
def test_the_configs_of_reviews_differ_in_the_column_alone(name: str) -> None:
    folder = ROOT / "bench" / "scores" / "reviews"
    found = load_config(folder / f"{name}.toml").resolved
    plain = load_config(folder / "reviews-plain.toml").resolved
    assert (found["data"]["metadata"] is None) == (name == "reviews-plain")  # type: ignore[index, call-overload]
    found["data"]["metadata"] = None  # type: ignore[index, call-overload]
    assert found == plain
