"""`textune test`: what the machine answers, and that a step of two processes is that of one, bit for bit."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.cli import runner
from kits.errors import refused
from kits.ranking import textune_ranks
from safetensors.torch import load_file, save_file

from textune.chaos import machine
from textune.chaos.machine import Answer, MachineProof, prove_machine
from textune.errors import RunError
from textune.model import KernelError


@pytest.fixture(autouse=True)
def undelayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Kept:
    """Runs processes as the tests do, in a moment, and keeps the runs for other tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[int, list[str]]] = []

    def __call__(self, words: Sequence[str], processes: int, log: Path, environment: Mapping[str, str]) -> int:
        self.asked.append((processes, list(words)))
        assert "RANK" not in environment
        [rows] = [word.partition("=")[2] for word in words if word.startswith("train.batch_size=")]
        kept = self.folder / f"{log.stem}-{rows}"
        if not kept.exists():
            ended = textune_ranks(processes, words, log.with_name(f"{log.stem}-ranks"))
            log.write_text("".join(ended.said), encoding="utf-8")
            if any(ended.codes):
                return max(ended.codes)
            shutil.copytree(log.with_suffix(""), kept)
        shutil.copytree(kept, log.with_suffix(""), dirs_exist_ok=True)
        return 0


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


def test_two_processes_train_a_step_to_the_same_bits_as_one(kept: Kept, tmp_path: Path) -> None:
    told: list[Answer] = []
    proof = prove_machine(folder=tmp_path, say=told.append, run=kept)
    assert proof is not None and proof.ok, proof
    assert [answer.name for answer in told] == ["devices", "compilers", "launcher", "training"]
    assert told == proof.answers
    assert told[-1].said == "2 processes (ddp, fp32) train a step to the same bits as one"
    assert [processes for processes, _ in kept.asked[-2:]] == [2, 1]
    assert not list(tmp_path.iterdir()), "it cleans up"
    alone, together = (
        load_file(kept.folder / f"{name}-2" / "best" / "model.safetensors") for name in ("alone", "together")
    )
    started = load_file(Path(machine.__file__).parents[1] / "presets" / "tiny" / "model" / "model.safetensors")
    moved = [name for name in started if not alone[f"bert.{name}"].equal(started[name].float())]
    assert len(moved) > len(started) // 2, "a step that changes nothing proves nothing"
    assert alone.keys() == together.keys()


def test_a_step_that_ends_otherwise_is_named(kept: Kept, tmp_path: Path) -> None:
    def spoiled(words: Sequence[str], processes: int, log: Path, environment: Mapping[str, str]) -> int:
        code = kept(words, processes, log, environment)
        if processes == 1:
            path = log.with_suffix("") / "best" / "model.safetensors"
            weights = load_file(path)
            weights["classifier.weight"][0, 0] += 1e-7
            save_file(weights, path, metadata={"format": "pt"})
        return code

    proof = prove_machine(folder=tmp_path, run=spoiled)
    assert proof is not None and not proof.ok
    assert proof.answers[-1].said.startswith(
        "2 processes (ddp, fp32) do not train as one: the best model: the tensor classifier.weight differs in 1 of"
    )


@pytest.mark.slow
def test_more_processes_come_close(kept: Kept, tmp_path: Path) -> None:
    """Sums of three numbers depend on their order."""
    proof = prove_machine(processes=3, folder=tmp_path, run=kept)
    assert proof is not None and proof.ok
    assert "after a step of 3 processes (ddp, fp32) no weight is further than" in proof.answers[-1].said


def test_a_launcher_that_fails_is_said_with_its_last_words(tmp_path: Path) -> None:
    def failing(words: Sequence[str], processes: int, log: Path, environment: Mapping[str, str]) -> int:
        log.write_text("something\nError: rank 1 of 2 could not meet the others.\n", encoding="utf-8")
        return 75 if processes > 1 else 2

    proof = prove_machine(folder=tmp_path, run=failing)
    assert proof is not None and not proof.ok
    assert proof.answers[-1] == Answer(
        "launcher", False, "torchrun: exit code 75. Error: rank 1 of 2 could not meet the others."
    )


@pytest.mark.parametrize("said", ["Error: no room.", "Error on rank 1: no room."], ids=["all", "one rank"])
def test_the_last_words_are_those_of_the_error(said: str, tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(f"{said}\ntextune: rank 1 stopped with exit code 2.\n", encoding="utf-8")
    assert machine._last_words(tmp_path / "run") == said


def test_a_gpu_that_does_not_compute_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old GPU")
    monkeypatch.setattr(torch.Tensor, "to", refuse)
    answer = machine._devices()
    assert not answer.ok and "\n" not in answer.said
    assert answer.said.startswith("GPU 0 does not compute: CUDA error: no kernel image is available")


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with refused(RunError, key="--folder", reason="it is a file"):
        prove_machine(folder=tmp_path / "taken")


def test_kernels_that_cannot_be_loaded_are_wrong_where_the_processor_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> None:
        raise KernelError("avx2.so does not match its hash", hint="Install textune again.")

    monkeypatch.setattr(machine, "load_library", damaged)
    monkeypatch.setattr(machine.processor, "levels", lambda: ("avx2",))
    assert not machine._compilers().ok
    monkeypatch.setattr(machine.processor, "levels", lambda: ())
    assert machine._compilers().ok, "PyTorch's own operators compute"


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)], ids=["ready", "not ready"])
def test_the_verb_prints_each_answer_and_a_verdict(
    ok: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def proved(**options: Any) -> MachineProof:
        assert options["processes"] == 2
        options["say"](Answer("devices", ok, "two threads"))
        return MachineProof([Answer("devices", ok, "two threads")])

    monkeypatch.setattr("textune.chaos.prove_machine", proved)
    call = runner(capsys, monkeypatch, tmp_path)
    done = call("test")
    assert done.code == code
    assert done.out.splitlines() == [
        f"{'ok' if ok else 'WRONG':<6}devices: two threads",
        f"This machine is {'' if ok else 'not '}ready to train.",
    ]
    assert json.loads(call("test", "--json").out)["ok"] is ok


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "-m")])
def test_the_command_itself_and_under_accelerate(launcher: tuple[str, ...], tmp_path: Path) -> None:
    if launcher:
        pytest.importorskip("accelerate")
    environment = {**os.environ, "PYTHONPATH": str(Path(machine.__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, "textune", "test", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 processes (ddp, fp32) train a step to the same bits as one" in done.stdout
    assert done.stdout.count("This machine is ready to train.") == 1
    assert not list(tmp_path.iterdir())
