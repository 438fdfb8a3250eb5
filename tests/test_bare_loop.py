"""The bare loop of the examples is short, and ends with the bits of `textune train`."""

import ast
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.rankscripts import run_ranks
from kits.runs import reviews, write_place
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.training.checkpoint import KEPT_IDS, newest

SCRIPT = Path(__file__).parents[1] / "examples" / "bare_loop.py"
MAX_LINES = 120
TEXTS = ["a fine film", "the worst movie", "a"]
CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.2
[model]
pretrained = "backbone"
[train]
duration = "3 epochs"
evaluate_every = "4 steps"
checkpoint.keep = "all"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_place(tmp_path_factory.mktemp("place"), CONFIG, reviews(120))
    textune.train(folder / "config.toml", run=folder / "house")
    return folder


def bare_loop(place: Path, folder: Path, *overrides: str) -> None:
    runpy.run_path(str(SCRIPT))["main"](str(place / "config.toml"), str(folder), *overrides)


def same_run(one: Path, other: Path) -> None:
    """The best model and everything in the last checkpoint, bit for bit."""
    for name in ("model.safetensors", "config.json", "tokenizer.json", "textune.json"):
        assert (one / "best" / name).read_bytes() == (other / "best" / name).read_bytes(), name
    ends = [newest(run / "checkpoints")[0] for run in (one, other)]
    assert ends[0] is not None and ends[1] is not None and ends[0].step == ends[1].step
    assert any("exp_avg" in name for name in ends[0].names)
    # Beside these, the house keeps what `textune export` needs, and both keep generators that nobody draws from.
    assert ends[0].names == ends[1].names - {KEPT_IDS}
    for name in ends[0].names:
        if not name.startswith("random/"):
            assert torch.equal(ends[0].read(name), ends[1].read(name)), name


@pytest.mark.parity("HF-12")
def test_the_script_is_short_and_one_loop_over_the_steps() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    loops = [node.iter for node in ast.walk(ast.parse(text)) if isinstance(node, ast.For | ast.While)]
    assert [ast.unparse(one.func) for one in loops if isinstance(one, ast.Call)] == ["steps"] and len(loops) == 1


@pytest.mark.parity("HF-12")
def test_it_ends_with_the_bits_of_textune_train(place: Path, capsys: Any) -> None:
    bare_loop(place, place / "bare")
    said = capsys.readouterr().out
    assert "step 18/18" in said and "accuracy" in said
    same_run(place / "bare", place / "house")
    ours, theirs = (textune.load(place / name) for name in ("bare", "house"))
    assert (ours.score(TEXTS) == theirs.score(TEXTS)).all()

    plain = AutoModelForSequenceClassification.from_pretrained(place / "bare" / "best").eval()
    inputs = AutoTokenizer.from_pretrained(place / "bare" / "best")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        scores = torch.softmax(plain(**inputs).logits.double(), dim=1)
    torch.testing.assert_close(scores, torch.from_numpy(ours.score(TEXTS)), atol=1e-6, rtol=1e-5)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("step", [6, 12])
@pytest.mark.parity("bare-resume")
def test_it_resumes_where_it_stopped(place: Path, tmp_path: Path, step: int) -> None:
    """As a process that was killed before it had written the next checkpoint."""
    bare_loop(place, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    bare_loop(place, tmp_path / "run")
    same_run(tmp_path / "run", place / "house")


def test_it_follows_what_chooses_the_best_model(place: Path, tmp_path: Path) -> None:
    overrides = (f"data.evaluations.more.files={place / 'rows.csv'}", "evaluate.best_by=more", "evaluate.metric=loss")
    overrides = (*overrides, "train.duration=9 steps", "train.evaluate_at=[3, 5]", "train.checkpoint.at_steps=[5]")
    bare_loop(place, tmp_path / "bare", *overrides)
    textune.train(place / "config.toml", run=tmp_path / "house", overrides=overrides)
    same_run(tmp_path / "bare", tmp_path / "house")
    steps = [{path.name for path in (tmp_path / run / "checkpoints").iterdir()} for run in ("bare", "house")]
    assert {"step-5", "step-9"} <= steps[0] & steps[1]  # the house puts off one that is due while another is written


def test_it_keeps_the_last_model_without_validation_rows(place: Path, tmp_path: Path) -> None:
    overrides = ("data.validation.kind=none", "train.duration=5 steps")
    bare_loop(place, tmp_path / "bare", *overrides)
    textune.train(place / "config.toml", run=tmp_path / "house", overrides=overrides)
    same_run(tmp_path / "bare", tmp_path / "house")


@pytest.mark.slow
def test_processes_share_it(place: Path, tmp_path: Path) -> None:
    """The same rows and steps as one process; sums of gradients differ in their last bits."""
    overrides = ("train.duration=8 steps", "model.config.hidden_dropout_prob=0.0", "train.evaluate_every=8 steps")
    overrides = (*overrides, "model.config.attention_probs_dropout_prob=0.0", "train.optimizer.eps=1e-4")
    said = run_ranks(SCRIPT, str(place / "config.toml"), str(tmp_path / "two"), *overrides, world=2)
    assert "step 8/8" in said[0] and said[1].count("step") == 0
    bare_loop(place, tmp_path / "one", *overrides)
    two, one = (textune.load(tmp_path / name).score(TEXTS) for name in ("two", "one"))
    torch.testing.assert_close(torch.from_numpy(two), torch.from_numpy(one), atol=1e-4, rtol=1e-4)
