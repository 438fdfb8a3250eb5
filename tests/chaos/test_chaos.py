"""Runs that are killed go on and end as if nobody had killed them (R1); and what `textune chaos` says."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kits.kills import Forked
from kits.languageruns import write_language_home
from kits.runs import reviews, write_csv

import textune
from textune.chaos.chaos import chaos
from textune.chaos.result import ChaosResult, Kill
from textune.cli import commands
from textune.errors import ConfigError, Preempted, RunError

SMALL = (
    "data.test.kind=none",
    "train.duration=3 epochs",
    "train.log_every=2 steps",
    "train.evaluate_every=4 steps",
    "train.early_stopping.patience=20",
    "train.checkpoint.every=2 steps",
    "train.checkpoint.keep=2",
    "model.compile=off",
)


@pytest.fixture(scope="module")
def reference(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("uninterrupted") / "run"
    textune.train(home / "config.toml", run=run, overrides=SMALL)
    return run


def killed(home: Path, folder: Path, *, kills: int, overrides: tuple[str, ...] = SMALL, **options: Any) -> ChaosResult:
    return chaos(home / "config.toml", kills=kills, folder=folder, overrides=overrides, start=Forked, **options)


def test_twenty_kills_change_nothing(home: Path, tmp_path: Path, reference: Path) -> None:
    said: list[str] = []
    result = killed(home, tmp_path / "chaos", kills=20, reference=reference, say=said.append)
    assert result.difference == ""
    assert [kill.number for kill in result.kills] == list(range(1, 21))
    assert result.during["writing"] >= 2 and result.during["start-up"] >= 1
    assert any(kill.resumes_from > 0 for kill in result.kills)
    assert all(kill.torn for kill in result.kills if kill.phase == "writing")
    assert len(said) == 1 + 20 + result.runs
    # Only what was said is left, and the token cache.
    assert {path.suffix for path in (tmp_path / "chaos").iterdir()} == {".log", ""}
    assert [path.name for path in (tmp_path / "chaos").iterdir() if path.is_dir()] == ["tokens"]


ADAPTERS = ("model.lora.r=4", "model.lora.dropout=0.1", "train.checkpoint.every=1 step")
"""A checkpoint then holds the adapters and the head alone: the rest is read from the backbone at every start."""


@pytest.mark.slow
def test_kills_of_a_run_with_adapters_change_nothing(home: Path, tmp_path: Path) -> None:
    result = killed(home, tmp_path / "chaos", kills=4, overrides=(*SMALL, *ADAPTERS))
    assert result.difference == "" and len(result.kills) == 4


@pytest.mark.slow
def test_fifty_kills_of_a_run_with_adapters_change_nothing(home: Path, tmp_path: Path) -> None:
    words = (*SMALL, "train.duration=6 epochs", *ADAPTERS)
    result = killed(home, tmp_path / "chaos", kills=50, overrides=words)
    assert result.difference == "" and len(result.kills) == 50


DOCUMENTS = (
    "train.duration=12 steps",
    "train.checkpoint.every=2 steps",
    "train.evaluate_every=5 steps",
    "metadata.sampling.kind=uniform",
    "metadata.sampling.curriculum=[[0.8, 0.0]]",
    "model.compile=off",
)
"""A run of a language model, which reads its documents as a stream."""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 50])
def test_kills_of_a_language_model_change_nothing(tmp_path: Path, kills: int) -> None:
    place = write_language_home(tmp_path / "home")
    result = chaos(place / "stream.toml", kills=kills, folder=tmp_path / "chaos", overrides=DOCUMENTS, start=Forked)
    assert result.difference == "" and len(result.kills) == kills


def three_sets(folder: Path) -> tuple[str, ...]:
    """Settings of a run with three evaluation sets, of which another than the validation rows chooses the best
    model."""
    news = write_csv(folder / "news.csv", reviews(40, seed=5))
    return (
        f"data.evaluations.news.files={news}",
        "evaluate.train=true",
        "evaluate.best_by=news",
        'evaluate.metric=["f1", "accuracy"]',
        "evaluate.max_tokens=100",
        "train.evaluate_at=[1, 5]",
        "train.checkpoint.at_steps=[5]",
    )


@pytest.mark.slow
def test_kills_among_three_evaluation_sets_change_nothing(home: Path, tmp_path: Path) -> None:
    words = (*SMALL, *three_sets(tmp_path), "train.evaluate_every=2 steps", "train.checkpoint.every=1 step")
    result = killed(home, tmp_path / "chaos", kills=4, overrides=words)
    assert result.difference == "" and len(result.kills) == 4


@pytest.mark.slow
def test_fifty_kills_among_three_evaluation_sets_change_nothing(home: Path, tmp_path: Path) -> None:
    words = (*SMALL, *three_sets(tmp_path), "train.duration=6 epochs", "train.checkpoint.every=1 step")
    result = killed(home, tmp_path / "chaos", kills=50, overrides=words)
    assert result.difference == "" and len(result.kills) == 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.checkpoint.every=1 step", "train.checkpoint.keep=1", "train.checkpoint.background=false"),
        ("train.checkpoint.every=3 steps", "train.checkpoint.keep_best=1", "train.checkpoint.at_steps=[5]"),
        ("train.checkpoint.every=7 steps", "train.order=bucket", "train.max_tokens=120"),
    ],
)
def test_two_hundred_kills_change_nothing(home: Path, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    words = (*SMALL, "train.duration=6 epochs", *overrides)
    result = killed(home, tmp_path / "chaos", kills=50, overrides=words, seed=len(overrides))
    assert result.difference == "" and len(result.kills) == 50
    assert result.during["writing"] >= 8 and set(result.during) >= {"start-up", "training", "reporting"}


@pytest.mark.slow
def test_the_verb_kills_real_processes_and_says_what_it_found(home: Path, tmp_path: Path, reference: Path) -> None:
    words = ["chaos", str(home / "config.toml"), "--kills", "1", "--run", str(tmp_path / "chaos"), "--json"]
    done = CliRunner().invoke(commands, [*words, "--reference", str(reference), *SMALL])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["equal"] and result["difference"] == "" and len(result["kills"]) == 1
    assert result["reference"] == str(reference)


@pytest.mark.parametrize(("difference", "code"), [("", 0), ("after kill 1 of run-1 its end is another.", 1)])
def test_the_verdict_is_a_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, difference: str, code: int
) -> None:
    kill = Kill(1, "run-1", 2.5, "writing", "while it wrote step-8.writing", 4, ("step-8.writing",))

    def judged(config: str, **options: Any) -> ChaosResult:
        options["say"](f"kill 1: {kill.sentence()}")
        return ChaosResult(Path("reference"), [kill], 1, difference)

    monkeypatch.setattr("textune.chaos.chaos", judged)
    done = CliRunner().invoke(commands, ["chaos", "config.toml"])
    assert done.exit_code == code
    (told,), (verdict,) = done.stderr.splitlines(), done.stdout.splitlines()
    assert told == (
        "kill 1: run-1, 2.50 s after its start, while it wrote step-8.writing; resumes from step 4;"
        " torn and skipped: step-8.writing"
    )
    if difference:
        assert verdict == f"Not the same: {difference}"
    else:
        assert verdict.startswith("1 kill (1 during writing) in 1 run:") and verdict.endswith("the uninterrupted run.")


def test_an_end_that_is_not_the_same_is_named_and_kept(home: Path, tmp_path: Path, reference: Path) -> None:
    other = shutil.copytree(reference, tmp_path / "other")
    lines = (other / "metrics.jsonl").read_text().splitlines()
    step = next(number for number, line in enumerate(lines) if '"lr": ' in line and number > 3)
    changed = [line.replace('"lr": ', '"lr": 1') if number == step else line for number, line in enumerate(lines)]
    (other / "metrics.jsonl").write_text("\n".join(changed) + "\n")
    result = killed(home, tmp_path / "chaos", kills=1, reference=other)
    assert "of metrics.jsonl" in result.difference and ": lr is " in result.difference
    assert "run-1" in result.difference and (tmp_path / "chaos" / "run-1" / "manifest.json").is_file()
    assert json.loads(json.dumps(result.to_dict()))["equal"] is False


def test_a_run_that_cannot_go_on_is_named_with_what_it_said(home: Path, tmp_path: Path, reference: Path) -> None:
    broken = tmp_path / "broken.toml"
    text = (home / "config.toml").read_text().replace('"reviews.csv"', f'"{home / "reviews.csv"}"')
    broken.write_text(text.replace('"backbone"', f'"{tmp_path / "backbone"}"'))
    shutil.copytree(home / "backbone", tmp_path / "backbone")

    class Breaking(Forked):
        """Takes the backbone away once the first process is dead."""

        def kill(self) -> None:
            super().kill()
            shutil.rmtree(tmp_path / "backbone", ignore_errors=True)

    result = chaos(broken, kills=3, folder=tmp_path / "chaos", overrides=SMALL, start=Breaking, reference=reference)
    assert "could not resume" in result.difference and "backbone" in result.difference
    assert str(tmp_path / "chaos" / "run-1.log") in result.difference


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("train.checkpoint.every=never", ConfigError, 'train.checkpoint.every = "never"'),
        ("train.checkpoint.save_only_model=true", ConfigError, "no run can resume from its checkpoints"),
        ("train.checkpoint.every=50 steps", RunError, "saves nothing before its end"),
        ("train.seed=7", RunError, "train.seed was 0 and is 7"),
        ("train.evaluate_every=5 steps", RunError, 'train.evaluate_every was "4 steps" and is "5 steps"'),
    ],
)
def test_what_chaos_cannot_prove_is_refused(
    home: Path, tmp_path: Path, reference: Path, override: str, error: type[Exception], message: str
) -> None:
    other = reference
    if override.startswith("train.checkpoint.every=50"):
        other = shutil.copytree(reference, tmp_path / "other")
        text, table = (other / "config.toml").read_text(), "[train.checkpoint]\nevery = "
        (other / "config.toml").write_text(text.replace(f'{table}"2 steps"', f'{table}"50 steps"'))
    with pytest.raises(error, match=message.replace("(", r"\(")) as raised:
        killed(home, tmp_path / "chaos", kills=1, overrides=(*SMALL, override), reference=other)
    assert raised.value.hint  # type: ignore[attr-defined]


def test_a_reference_that_is_not_complete_and_an_occupied_folder_are_refused(
    home: Path, tmp_path: Path, reference: Path
) -> None:
    other = shutil.copytree(reference, tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"status": "failed"}))
    with pytest.raises(RunError, match="is not complete: failed"):
        killed(home, tmp_path / "chaos", kills=1, reference=other)
    with pytest.raises(RunError, match="nothing is ever overwritten"):
        killed(home, other, kills=1, reference=reference)


@pytest.mark.slow
def test_a_run_that_ends_before_it_is_killed_is_said_to_be_too_short(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Path
) -> None:
    monkeypatch.setattr(importlib.import_module("textune.chaos.chaos"), "MAX_MISSES", 1)

    class Unkillable(Forked):
        """Comes to its end whatever happens."""

        def kill(self) -> None:
            self._process.join()

    with pytest.raises(RunError, match="too short to be killed so often"):
        chaos(
            home / "config.toml",
            kills=1,
            folder=tmp_path / "chaos",
            overrides=SMALL,
            start=Unkillable,
            reference=reference,
        )


@pytest.mark.every_day(2)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1"])
@pytest.mark.parametrize("stage", ["reference", "run-1"])
def test_a_signal_ends_the_process_at_work_and_leaves_nothing_in_the_way(
    home: Path, tmp_path: Path, reference: Path, name: str, stage: str
) -> None:
    number, started = signal.Signals[name], []
    handler = signal.getsignal(number)

    class Signalled(Forked):
        """This process gets a signal as soon as the run has begun."""

        def __init__(self, words: Sequence[str], log: Path) -> None:
            super().__init__(words, log)
            self._run = Path(words[words.index("--run") + 1])
            started.append(self)

        def poll(self) -> int | None:
            if (self._run / "manifest.json").exists():
                os.kill(os.getpid(), number)
            return super().poll()

    given = reference if stage == "run-1" else None
    # where there is a choice, a run that cannot end before this process has looked at it
    words = SMALL if given else (*SMALL, "train.duration=300 epochs")
    with pytest.raises(KeyboardInterrupt if name == "SIGINT" else Preempted, match=r"0 kills had happened") as stopped:
        chaos(
            home / "config.toml", kills=1, folder=tmp_path / "chaos", overrides=words, start=Signalled, reference=given
        )
    assert getattr(stopped.value, "exit_code", 130) == 128 + number
    assert [process.wait() for process in started] == [-signal.SIGKILL]
    assert list(tmp_path.iterdir()) == [] and signal.getsignal(number) is handler


def test_an_uninterrupted_run_that_is_complete_is_kept_where_a_signal_comes_later(home: Path, tmp_path: Path) -> None:
    class Signalled(Forked):
        def __init__(self, words: Sequence[str], log: Path) -> None:
            super().__init__(words, log)
            if "run-1" in str(log):
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted, match=f"--reference {tmp_path / 'chaos' / 'reference'} spares its training"):
        chaos(home / "config.toml", kills=1, folder=tmp_path / "chaos", overrides=SMALL, start=Signalled)
    assert [path.name for path in (tmp_path / "chaos").iterdir()] == ["reference"]


def test_an_uninterrupted_run_that_fails_is_not_in_the_way_of_the_next(home: Path, tmp_path: Path) -> None:
    words = (*SMALL, f"model.pretrained={tmp_path / 'nowhere'}")
    with pytest.raises(RunError, match=r"the uninterrupted run failed: .*nowhere"):
        killed(home, tmp_path / "chaos", kills=1, overrides=words)
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_proof_left_is_not_in_the_way(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "config-chaos" / "run-1").mkdir(parents=True)
    result = chaos(home / "config.toml", kills=1, overrides=SMALL, start=Forked, reference=reference)
    assert result.difference == ""
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["config-chaos", "config-chaos-2"]
