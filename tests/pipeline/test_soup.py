"""train.soup: several runs from the same weights, joined into one model that is no worse where it was chosen."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.errors import refused
from kits.runs import Listener
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import textune
from textune.batches.plan import Plan
from textune.config.load import load_config
from textune.config.schema import TrainSection
from textune.errors import ConfigError, RunError
from textune.model.averaging import average_models
from textune.run import read_manifest
from textune.training.loop import StepResult

SHORT = {"train.duration": "1 epochs", "train.optimizer.lr": 3e-3, "data.test": {"kind": "none"}}
SOUP = SHORT | {"train.soup.seeds": 3}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "best" / "model.safetensors")


def accuracy(run: Path) -> float:
    return float(json.loads((run / "report.json").read_text())["metrics"]["accuracy"])


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def joined(home: Path) -> Iterator[tuple[Path, Any, Listener]]:
    listener = Listener()
    run = home / "runs" / "soup"
    result = textune.train(home / "config.toml", run=run, overrides=SOUP, tracker=listener)
    yield run, result, listener


def told(run: Path) -> dict[str, Any]:
    found = json.loads((run / "soup.json").read_text())
    assert isinstance(found, dict)
    return found


def test_the_first_member_is_the_run_without_a_soup_bit_for_bit(
    home: Path, joined: tuple[Path, Any, Listener]
) -> None:
    alone = home / "runs" / "without-soup"
    textune.train(home / "config.toml", run=alone, overrides=SHORT)
    assert alike(weights(alone), weights(joined[0] / "members" / "seed-0"))
    assert not alike(weights(alone), weights(joined[0] / "members" / "seed-1"))


def test_members_begin_with_the_same_weights_and_see_rows_in_another_order() -> None:
    one, other = TrainSection(seed=3), TrainSection(seed=3, order_seed=4)
    assert (other.seed, other.drawing_seed) == (one.seed, 4)
    assert Plan.of(other, 50).seed == Plan.of(TrainSection(seed=4), 50).seed


def test_the_model_is_what_a_loop_by_hand_makes_of_the_members(joined: tuple[Path, Any, Listener]) -> None:
    """The greedy rule and the mean, written out, on the accuracies that `evaluate` gives of plain folders."""
    run, result, _ = joined
    members = {one["name"]: run / "members" / one["name"] for one in told(run)["members"]}
    ranked = sorted(members, key=lambda name: -accuracy(members[name]))
    chosen, best = ranked[:1], accuracy(members[ranked[0]])
    for name in ranked[1:]:
        together = run.parent / f"by-hand-{name}"
        mean = mean_of([weights(members[one]) for one in (*chosen, name)])
        if (value := accuracy_of(members[ranked[0]], mean, together)) >= best:
            chosen, best = [*chosen, name], value
    assert [one["name"] for one in told(run)["members"] if one["chosen"]] == sorted(chosen)
    assert alike(weights(run), mean_of([weights(members[name]) for name in chosen]))
    assert told(run)["value"] == best == result.reports["validation"].metrics["accuracy"]
    assert best >= max(map(accuracy, members.values()))


def mean_of(members: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    means = {}
    for name, first in members[0].items():
        stacked = torch.stack([member[name].double() for member in members])
        means[name] = (stacked.sum(0) / len(members)).to(first.dtype)
    return means


def accuracy_of(like: Path, state: dict[str, torch.Tensor], folder: Path) -> float:
    """Of a model with this state, by plain transformers, on the validation rows that a run keeps as its probe."""
    model = AutoModelForSequenceClassification.from_pretrained(like / "best")
    model.load_state_dict(state, strict=False)
    tokenizer = AutoTokenizer.from_pretrained(like / "best")
    rows = [json.loads(line) for line in (like / "best" / "probe.jsonl").read_text().splitlines()]
    assert len(rows) == 40, "all validation rows"
    with torch.no_grad():
        texts = [row["columns"]["text"] for row in rows]
        answers = model(**tokenizer(texts, return_tensors="pt", padding=True, truncation=True)).logits.argmax(-1)
    return sum(int(answer) == row["targets"]["label"] for answer, row in zip(answers, rows, strict=True)) / len(rows)


def test_the_run_folder_is_that_of_any_run(joined: tuple[Path, Any, Listener], home: Path) -> None:
    run, result, listener = joined
    assert result.steps == result.best_step == sum(one["steps"] for one in told(run)["members"]) == 3 * 10
    assert [said for said in listener.notices if said.startswith("soup (greedy): the model is ")]
    assert len(listener.finished) == len(listener.started) == 1
    assert listener.words["soup"].startswith("3 runs")
    texts = ["the film is great", "a dull movie", "fine and bad"]
    model = AutoModelForSequenceClassification.from_pretrained(run / "best")
    tokenizer = AutoTokenizer.from_pretrained(run / "best")
    with torch.no_grad():
        plain = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits.softmax(-1)
    ours = torch.tensor([list(one.scores.values()) for one in textune.load(run).predict(texts)])
    assert torch.allclose(ours, plain, atol=1e-5)
    assert (run / "report.html").is_file() and not list((run / "checkpoints").iterdir())
    again = textune.train(home / "config.toml", run=run, overrides=SOUP, resume="latest")
    assert again.complete_before and again.reports["validation"].metrics == result.reports["validation"].metrics


def test_a_run_that_is_stopped_in_a_member_goes_on_with_the_same_command(
    home: Path, joined: tuple[Path, Any, Listener]
) -> None:
    run = home / "runs" / "soup-stopped"
    seen: list[int] = []

    def stop(result: StepResult) -> None:
        seen.append(result.step)
        if len(seen) == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        textune.train(home / "config.toml", run=run, overrides=SOUP, after_step=stop)
    assert {path.name for path in run.iterdir()} == {"lock", "members"}
    done: list[int] = []
    textune.train(home / "config.toml", run=run, overrides=SOUP, after_step=lambda result: done.append(result.step))
    assert len(done) < 3 * 10, "what was complete is not done again"
    assert told(run) == told(joined[0]) and alike(weights(run), weights(joined[0]))


def test_a_run_that_failed_while_it_joined_goes_on_with_resume(
    home: Path, joined: tuple[Path, Any, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_members_of(joined[0], home / "runs" / "soup-failed")
    with monkeypatch.context() as patch:
        patch.setattr("textune.run.joining.average_models", broken)
        with pytest.raises(RunError, match="no space"):
            textune.train(home / "config.toml", run=run, overrides=SOUP)
    assert json.loads((run / "manifest.json").read_text())["status"] == "failed"
    assert not list((run / "checkpoints").iterdir()) and not (run / "best").exists()
    done: list[int] = []
    result = textune.train(
        home / "config.toml",
        run=run,
        overrides=SOUP,
        resume="latest",
        after_step=lambda result: done.append(result.step),
    )
    assert not done and result.steps == 30 and alike(weights(run), weights(joined[0]))


def with_members_of(other: Path, run: Path) -> Path:
    """A run folder as it is when all its members are complete."""
    run.mkdir()
    (run / "members").symlink_to(other / "members")
    (run / "lock").touch()
    return run


def broken(*_: object, **__: object) -> None:
    raise RunError("no space")


def test_members_that_learned_from_other_rows_are_not_joined(
    home: Path, joined: tuple[Path, Any, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_members_of(joined[0], home / "runs" / "other-rows")
    learned = read_manifest(joined[0]).model_copy(update={"data": {"train": "other", "validation": "other"}})
    monkeypatch.setattr("textune.run.joining.read_manifest", lambda _: learned)
    with refused(RunError, key="data.train", reason="changed since it was trained"):
        textune.train(home / "config.toml", run=run, overrides=SOUP)
    assert not (run / "best").exists()


def test_of_a_uniform_soup_all_members_count_or_the_best_one_alone(
    home: Path, joined: tuple[Path, Any, Listener]
) -> None:
    run, members = with_members_of(joined[0], home / "runs" / "uniform"), joined[0] / "members"
    textune.train(home / "config.toml", run=run, overrides=SOUP | {"train.soup.kind": "uniform"})
    chosen = [one["name"] for one in told(run)["members"] if one["chosen"]]
    assert len(chosen) in (1, 3) and told(run)["kind"] == "uniform"
    assert alike(weights(run), mean_of([weights(members / name) for name in chosen]))
    assert accuracy(run) >= max(accuracy(member) for member in members.iterdir())


def test_a_mean_needs_the_same_weights(tmp_path: Path, joined: tuple[Path, Any, Listener], home: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with refused(textune.TextuneError, place="backbone", reason="weights of other names"):
        average_models([joined[0] / "best", home / "backbone"], target)


def test_a_development_run_and_a_dry_run_train_no_members(home: Path) -> None:
    run = home / "runs" / "not-there"
    assert textune.train(home / "config.toml", run=run, overrides=SOUP, dry_run=True).facts.soup_seeds == 3
    textune.train(home / "config.toml", run=run, overrides=SOUP, fast_dev_run=True)
    assert not run.exists()


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"model.lora.r": 4}, "train.soup"),
        ({"task.kind": "conditional_lm"}, "train.soup"),
        ({"data.validation": {"kind": "none"}}, "train.soup"),
        ({"train.order_seed": 2**32 - 2}, "train.order_seed"),
        ({"train.soup.seeds": 0}, "train.soup.seeds"),
        ({"task.kind": "binary", "task.few": "auto"}, "train.soup"),
    ],
    ids=["adapters", "language model", "no validation rows", "largest seed", "no seed", "few labels"],
)
def test_what_a_soup_cannot_go_with_is_refused_before_anything_is_written(
    home: Path, changed: dict[str, object], key: str
) -> None:
    run = home / "runs" / "soup-refused"
    with refused(ConfigError, key=key):
        textune.train(home / "config.toml", run=run, overrides=SOUP | changed)
    assert not run.exists()


def test_a_soup_starts_from_no_checkpoint_and_is_no_other_one(home: Path, joined: tuple[Path, Any, Listener]) -> None:
    with refused(RunError, key="resume"):
        textune.train(home / "config.toml", run=home / "runs" / "new", overrides=SOUP, resume=str(joined[0]))
    with refused(RunError, reason="train.soup.kind was"):
        other = SOUP | {"train.soup.kind": "uniform"}
        textune.train(home / "config.toml", run=joined[0], overrides=other, resume="latest")


def test_the_preset_best_is_a_soup_and_the_others_make_a_single_run_of_it() -> None:
    assert load_config("preset:best").experiment.train.joining is not None
    for other in ("fast", "balanced"):
        train = load_config("preset:best", {"extends": f"preset:{other}"}).experiment.train
        assert train.joining is None and train.early_stopping.patience == 0
        assert train.optimizer == load_config(f"preset:{other}").experiment.train.optimizer
