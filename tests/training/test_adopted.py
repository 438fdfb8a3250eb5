"""A run goes on from a checkpoint of transformers.Trainer, with its optimizer: the losses are those that Trainer goes
on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.cli import runner
from kits.plaintrainer import CALLER, MAX_LENGTH, ORDER, classifier, rows_of, trained
from kits.runs import set_status, write_jsonl
from transformers import AutoConfig, AutoModelForSequenceClassification, Trainer

import textune
from textune.errors import RunError
from textune.training.adopted import decayed_by_trainer, open_adopted

STEPS, SAVED = 10, 5
GIVEN: dict[str, Any] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "warmup_steps": 3,
    "lr_scheduler_type": "cosine",
    "seed": 1,
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A folder with rows and Trainer's run in it, which saved at step 5; the losses of its ten steps."""
    folder = tmp_path_factory.mktemp("adopted")
    classifier(folder / "model", "multiclass")
    write_jsonl(folder / "rows.json", rows_of("multiclass"))
    saving = {"save_strategy": "steps", "save_steps": SAVED}
    done = trained(folder / "model", rows_of("multiclass"), "multiclass", folder / "theirs", **GIVEN, **saving)
    return folder, done.losses


def words(folder: Path, run: Path, *more: str, **other: Any) -> list[str]:
    """The command of run_classification that goes on from the checkpoint."""
    given = GIVEN | CALLER | ORDER | {"do_train": True, "max_seq_length": MAX_LENGTH, "logging_strategy": "steps"}
    given |= {"model_name_or_path": folder / "model", "train_file": folder / "rows.json", "output_dir": run}
    given |= {"text_column_names": "text", "label_column_name": "label", "logging_steps": 1}
    given |= {"resume_from_checkpoint": folder / f"theirs/checkpoint-{SAVED}"} | other
    return [
        "run_classification.py",
        *(word for key, value in given.items() for word in (f"--{key}", str(value))),
        *more,
    ]


def steps_of(run: Path) -> dict[int, float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    return runner(capsys, monkeypatch, tmp_path)


@pytest.mark.parity("HF-13")
def test_steps_six_to_ten_have_the_losses_of_trainer(
    theirs: tuple[Path, list[float]], tmp_path: Path, command: Any
) -> None:
    folder, losses = theirs
    answer = command(*words(folder, tmp_path / "run", "--unpickle", save_strategy="steps", save_steps=8))
    assert answer.code == 0, answer.err
    found = steps_of(tmp_path / "run")
    assert list(found) == [6, 7, 8, 9, 10]
    assert list(found.values()) == pytest.approx(losses[SAVED:], abs=1e-5, rel=1e-5)
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert "goes on after step 5" in log and "nothing in them was run" in log and "which counts" not in log
    # The checkpoint of step 8 is one of ours: it resumes without the other program's.
    shutil.rmtree(tmp_path / "run/checkpoints/step-10")
    assert textune.train(tmp_path / "run/config.toml", run=tmp_path / "run", resume="latest").steps == STEPS
    assert steps_of(tmp_path / "run") == found


def test_without_the_flag_it_says_what_is_not_carried(
    theirs: tuple[Path, list[float]], tmp_path: Path, command: Any
) -> None:
    folder, losses = theirs
    answer = command(*words(folder, tmp_path / "run"))
    assert answer.code == 0, answer.err
    found = steps_of(tmp_path / "run")
    assert list(found) == list(range(1, 11))
    assert list(found.values())[:SAVED] != pytest.approx(losses[SAVED:], abs=1e-5)
    assert "the moments of its optimizer, its step and its place in the schedule are not carried" in (
        (tmp_path / "run/config.toml").read_text(encoding="utf-8").replace("\n#     ", " ")
    )


def test_a_dry_run_says_what_would_be_taken_over(
    theirs: tuple[Path, list[float]], tmp_path: Path, command: Any
) -> None:
    answer = command(*words(theirs[0], tmp_path / "run", "--unpickle", "--dry-run", learning_rate=2e-3, max_steps=20))
    assert answer.code == 0, answer.err
    assert "it was to have 10 steps; this run has 20" in answer.err
    assert "its next learning rate was" in answer.err
    assert not (tmp_path / "run").exists()


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _changed(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        saved = torch.load(folder / name, weights_only=True)
        change(saved)
        torch.save(saved, folder / name)

    return act


def _one_fewer(optimizer: dict[str, Any]) -> None:
    optimizer["param_groups"][1]["params"].pop()


def _of_sgd(optimizer: dict[str, Any]) -> None:
    optimizer["state"] = {number: {"momentum_buffer": torch.zeros(1)} for number in optimizer["state"]}


def _of_another_shape(optimizer: dict[str, Any]) -> None:
    optimizer["state"][0]["exp_avg"] = torch.zeros(3, 5)


def _said(**values: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        about = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        (folder / "trainer_state.json").write_text(
            json.dumps(about | values).replace("Infinity", "1e400"), encoding="utf-8"
        )

    return act


def _of_weight(**values: Any) -> Callable[[Path], None]:
    """Other values of one weight; None for none."""

    def change(optimizer: dict[str, Any]) -> None:
        state = optimizer["state"][3] | values
        optimizer["state"][3] = {key: value for key, value in state.items() if value is not None}

    return _changed("optimizer.pt", change)


def _with_scaler(folder: Path) -> None:
    torch.save({"scale": "large"}, folder / "scaler.pt")


def _other_config(folder: Path) -> None:
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(about | {"num_hidden_layers": 1}), encoding="utf-8")


def _cut_off(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes((folder / "optimizer.pt").read_bytes()[:1000])


REFUSED: dict[str, tuple[Callable[[Path], None], dict[str, Any], list[str]]] = {
    "no optimizer": (_without("optimizer.pt"), {}, ["it has no optimizer.pt", "save_only_model"]),
    "no state": (_without("trainer_state.json"), {}, ["it has no trainer_state.json"]),
    "another number": (
        _changed("optimizer.pt", _one_fewer),
        {},
        ["groups of", "weights, and Trainer makes groups of"],
    ),
    "another rule there": (_changed("optimizer.pt", _of_sgd), {}, ["that of another optimizer", "momentum_buffer"]),
    "another rule here": (lambda folder: None, {"optim": "sgd"}, ['train.optimizer.kind = "sgd"', "AdamW"]),
    "another shape": (_changed("optimizer.pt", _of_another_shape), {}, ["exp_avg of", "[3, 5] there"]),
    "a step below": (_said(global_step=-3), {}, ["no global_step from 1 up, but -3"]),
    "no step": (_said(global_step=True), {}, ["no global_step from 1 up, but True"]),
    "endless": (_said(max_steps=float("inf")), {}, ["cannot be taken over", "OverflowError"]),
    "half a state": (_of_weight(exp_avg_sq=None), {}, ["it keeps no exp_avg_sq of bert."]),
    "a number for a moment": (_of_weight(exp_avg=torch.zeros(())), {}, ["exp_avg of bert.", "is [] there and ["]),
    "text for a step": (_of_weight(step="five"), {}, ["step of bert.", "is 'five', no tensor"]),
    "diverged": (_of_weight(exp_avg=torch.full((32, 32), torch.nan)), {}, ["not finite"]),
    "a loss scale": (_with_scaler, {}, ["scale of scaler.pt is 'large'"]),
    "another model": (_other_config, {}, ["groups of"]),
    "cut off": (_cut_off, {}, ["optimizer.pt cannot be read"]),
    "too far": (lambda folder: None, {"max_steps": 4}, ["it is of step 5, and this run has 4"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_gets_a_sentence(
    theirs: tuple[Path, list[float]], tmp_path: Path, command: Any, name: str
) -> None:
    change, other, said = REFUSED[name]
    shutil.copytree(theirs[0] / f"theirs/checkpoint-{SAVED}", tmp_path / "copy")
    change(tmp_path / "copy")
    answer = command(
        *words(theirs[0], tmp_path / "run", "--unpickle", resume_from_checkpoint=tmp_path / "copy", **other)
    )
    assert answer.code == 2
    assert [part for part in said if part not in answer.err] == []
    assert not (tmp_path / "run").exists()


def test_other_weights_than_the_folders_own_are_refused(theirs: tuple[Path, list[float]], tmp_path: Path) -> None:
    """A head whose labels have another order has its rows elsewhere, and their moments would be those of others."""
    config = {
        "data": {"train": {"files": str(theirs[0] / "rows.json")}, "validation": {"kind": "none"}},
        "model": {"pretrained": str(theirs[0] / f"theirs/checkpoint-{SAVED}")},
        "tokens": {"cache": str(tmp_path / "cache"), "max_length": MAX_LENGTH},
        "train": {"duration": "10 steps", "batch_size": 8},
    }
    turned = config | {"task": {"kind": "multiclass"}}
    turned["data"] = config["data"] | {"labels": {"names": ["good", "fine", "bad"]}}
    with pytest.raises(RunError, match=r"classifier.* is not what its model.safetensors holds"):
        textune.train(turned, run=tmp_path / "run", unpickle=theirs[0] / f"theirs/checkpoint-{SAVED}")


def test_weights_that_cannot_be_compared_are_refused(theirs: tuple[Path, list[float]], tmp_path: Path) -> None:
    pickled = shutil.copytree(theirs[0] / f"theirs/checkpoint-{SAVED}", tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    config = {
        "data": {"train": {"files": str(theirs[0] / "rows.json")}, "validation": {"kind": "none"}},
        "model": {"pretrained": str(theirs[0] / "model")},
        "tokens": {"cache": str(tmp_path / "cache"), "max_length": MAX_LENGTH},
        "train": {"duration": "10 steps", "batch_size": 8},
        "task": {"kind": "multiclass"},
    }
    with pytest.raises(RunError, match=r"it has no model.safetensors, .* cannot be told"):
        textune.train(config, run=tmp_path / "run", unpickle=pickled)


def test_weights_without_moments_and_other_batches_are_told(
    theirs: tuple[Path, list[float]], tmp_path: Path, command: Any
) -> None:
    copy = shutil.copytree(theirs[0] / f"theirs/checkpoint-{SAVED}", tmp_path / "copy")
    _changed("optimizer.pt", lambda saved: [saved["state"].pop(number) for number in range(7)])(copy)
    there = {"resume_from_checkpoint": copy, "per_device_train_batch_size": 4}
    answer = command(*words(theirs[0], tmp_path / "run", "--unpickle", "--dry-run", **there))
    assert answer.code == 0, answer.err
    assert "has no moments of 7 weights" in answer.err
    assert "it had done 0.5 epochs; as many steps are 0.25 epochs here" in answer.err
    answer = command(*words(theirs[0], tmp_path / "run", "--unpickle", "--dry-run"))
    assert answer.code == 0 and "no moments" not in answer.err and "epochs; as many" not in answer.err


def test_a_run_goes_on_from_one_checkpoint_alone(
    theirs: tuple[Path, list[float]], tmp_path: Path, command: Any
) -> None:
    assert command(*words(theirs[0], tmp_path / "run", save_strategy="steps", save_steps=4)).code == 0
    shutil.rmtree(tmp_path / "run/checkpoints/step-10")
    set_status(tmp_path / "run", "preempted")
    plain = words(theirs[0], tmp_path / "run", "--unpickle", "--dry-run", save_strategy="steps", save_steps=4)
    answer = command(*plain)
    assert answer.code == 0, answer.err
    assert "--unpickle takes over nothing of" in answer.err
    answer = command(*plain, "--resume", str(tmp_path / "run"))
    assert answer.code == 2 and "both name what the run goes on from" in answer.err


MARKS: list[str] = []


def mark(word: str) -> str:
    MARKS.append(word)
    return word


class Ran:
    """What an unpickled file may do: here it notes that it was run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return mark, ("run",)


def test_only_what_plain_reading_refuses_is_unpickled(theirs: tuple[Path, list[float]], tmp_path: Path) -> None:
    plain = open_adopted(theirs[0] / f"theirs/checkpoint-{SAVED}")
    assert (plain.step, plain.total_steps, plain.unpickled) == (SAVED, STEPS, ())
    shutil.copytree(plain.folder, tmp_path / "copy")
    _changed("optimizer.pt", lambda saved: saved.update(more=Ran()))(tmp_path / "copy")
    assert open_adopted(tmp_path / "copy").unpickled == ("optimizer.pt",)
    assert MARKS == ["run"]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "modernbert", "electra", "deberta-v2", "xlnet"])
def test_the_groups_are_those_of_trainer(family: str) -> None:
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family))
    assert decayed_by_trainer(model) == set(Trainer.get_decay_parameter_names(None, model))


def test_the_flag_needs_a_checkpoint_of_theirs(command: Any, tmp_path: Path) -> None:
    shared = ("run_glue.py", "--model_name_or_path", "x", "--task_name", "rte", "--do_train", "--unpickle")
    answer = command(*shared)
    assert answer.code == 2 and "--unpickle needs resume_from_checkpoint" in answer.err
    answer = command(*shared, "--resume_from_checkpoint", "runs/x")
    assert answer.code == 2 and "runs/x is not a checkpoint-N" in answer.err
