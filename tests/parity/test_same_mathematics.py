"""The same arguments, the same losses: what adapters make of TrainingArguments, beside transformers.Trainer itself.

Tiny data in their order, no dropout, fp32: 50 steps, each loss within 1e-5.
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kits import plaintrainer
from kits.plaintrainer import (
    CALLER,
    KINDS,
    MAX_LENGTH,
    NAMES,
    ORDER,
    bare_losses,
    classifier,
    encode,
    rows_of,
    trainer_losses,
)
from kits.ranks import torchrun
from kits.recipes import converted
from kits.runs import write_jsonl
from kits.trainingwizard import write_specs

import textune
from textune.adapters import (
    as_toml,
    convert_finetune,
    convert_training_wizard,
    load_foreign,
    read_finetune,
    read_huggingface,
)
from textune.adapters.foreign import Foreign, Line
from textune.adapters.huggingface.scripts import Script
from textune.adapters.trainer import read_arguments

Door = Callable[[Path, Path, Mapping[str, Any]], Foreign]
"""From (a folder with models, one for the system's files, what it is told) to the configuration that it becomes."""

STEPS, TOLERANCE = 50, 1e-5
USUAL: dict[str, Any] = {"max_steps": STEPS, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "seed": 1}
"""A rate at which tiny weights move: after 50 steps the losses of a wrong schedule are far away."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and rows for each kind of answers."""
    folder = tmp_path_factory.mktemp("same")
    for kind in KINDS:
        classifier(folder / kind, kind)
        write_jsonl(folder / f"{kind}.jsonl", rows_of(kind))
    return folder


def as_ours(place: Path, run: Path, kind: str, processes: int = 1, **arguments: Any) -> Foreign:
    """The configuration that these arguments become, as adapters read them."""
    given = CALLER | ORDER | arguments | {"output_dir": str(run)}
    found = read_arguments(given, where=lambda key: f"--{key}", processes=processes, has_validation=False)
    lines = [
        Line("data.train.files", str(place / f"{kind}.jsonl"), "--train_file"),
        Line("data.validation.kind", "none", "no --validation_file"),
        Line("task.kind", kind, "the labels"),
        Line("model.pretrained", str(place / kind), "--model_name_or_path"),
        Line("tokens.max_length", MAX_LENGTH, "--max_seq_length"),
        Line("tokens.cache", str(place / "cache"), "the tests"),
        Line("evaluate.bootstrap", 0, "the tests"),
    ]
    return Foreign("transformers.Trainer", ("a test",), (*lines, *found.lines), found.left_out, found.notes)


def our_losses(place: Path, run: Path, kind: str, **arguments: Any) -> list[float]:
    """The loss of every step of a run of the same arguments."""
    losses: list[float] = []
    loaded = load_foreign(as_ours(place, run, kind, **arguments))
    textune.train(loaded.experiment, run=run, after_step=lambda result: losses.append(float(result.loss)))
    return losses


def assert_same(place: Path, folder: Path, kind: str = "multiclass", **arguments: Any) -> None:
    given = USUAL | arguments
    theirs = trainer_losses(place / kind, rows_of(kind), kind, folder / "theirs", **given)
    ours = our_losses(place, folder / "ours", kind, **given)
    assert len(theirs) == given["max_steps"]
    assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=TOLERANCE)


SCHEDULES: Mapping[str, Mapping[str, Any]] = {
    "linear": {"warmup_steps": 7},
    "cosine": {"warmup_steps": 0.1},
    "cosine_with_restarts": {"lr_scheduler_kwargs": {"num_cycles": 3}},
    "polynomial": {"warmup_steps": 0.07, "lr_scheduler_kwargs": {"power": 2.0}},
    "constant": {},
    "constant_with_warmup": {"warmup_steps": 11},
    "inverse_sqrt": {"warmup_steps": 5},
}


def daily(names: Iterable[str], *some: str) -> list[Any]:
    """The names; all but some are proofs for now and then."""
    return [name if name in some else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parity("AZ-09", "TW-14")
@pytest.mark.parametrize("name", daily(SCHEDULES, "cosine"))
def test_each_schedule(place: Path, tmp_path: Path, name: str) -> None:
    assert_same(place, tmp_path, lr_scheduler_type=name, **SCHEDULES[name])


@pytest.mark.parity("AZ-11", "accumulation", "clipping")
@pytest.mark.parametrize("kind", daily(KINDS, "multiclass"))
def test_each_kind_of_answers_with_accumulation_and_decay(place: Path, tmp_path: Path, kind: str) -> None:
    """Trainer's loss and gradients are k times too large where a batch is accumulated over k; that is mended there."""
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    assert_same(place, tmp_path, kind, weight_decay=0.1, max_grad_norm=0.5, **sizes)


@pytest.mark.parity("TW-07", "label-smoothing")
def test_label_smoothing(place: Path, tmp_path: Path) -> None:
    assert_same(place, tmp_path, label_smoothing_factor=0.15)


OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "adamw_torch": {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-5},
    "adafactor": {},
    "sgd": {"learning_rate": 0.05, "optim_args": "momentum=0.9"},
}


@pytest.mark.parity("AZ-10", "optimizers")
@pytest.mark.parametrize("name", daily(OPTIMIZERS, "adamw_torch"))
def test_each_optimizer(place: Path, tmp_path: Path, name: str) -> None:
    assert_same(place, tmp_path, optim=name, weight_decay=0.05, **OPTIMIZERS[name])


@pytest.mark.parity("AZ-11", "max-steps")
def test_epochs_whose_last_batch_is_smaller(place: Path, tmp_path: Path) -> None:
    """80 rows in batches of 12: the last of each epoch has 8, and the seventh epoch is the last one."""
    assert_same(place, tmp_path, per_device_train_batch_size=12, max_steps=49, num_train_epochs=7)


@pytest.mark.slow
@pytest.mark.parity("multi-gpu")
def test_two_processes(place: Path, tmp_path: Path) -> None:
    """Two of them with 4 rows each, accumulated twice, make the steps of 16 rows: Trainer's two beside our two."""
    given = USUAL | {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "weight_decay": 0.1}
    rows = place / "multiclass.jsonl"
    script = Path(plaintrainer.__file__)
    words = [
        place / "multiclass",
        rows,
        "multiclass",
        tmp_path / "theirs",
        json.dumps(given | {"ddp_backend": "gloo"}),
    ]
    done = torchrun(2, script, *words, home=tmp_path, path=script.parents[1])
    assert done.code == 0, done.err
    shares = [json.loads((tmp_path / "theirs" / f"losses-{rank}.json").read_text()) for rank in (0, 1)]
    theirs = [(first + second) / 2 for first, second in zip(*shares, strict=True)]
    config = tmp_path / "config.toml"
    foreign = as_ours(place, tmp_path / "ours", "multiclass", processes=2, **given)
    config.write_text(as_toml(foreign), encoding="utf-8")
    words = ["train", config, "--run-folder", tmp_path / "ours", "train.log_every=1 step"]
    done = torchrun(2, "-m", "textune", *words, home=tmp_path)
    assert done.code == 0, done.err
    lines = map(json.loads, (tmp_path / "ours" / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    ours = [line["loss"] for line in lines if line["kind"] == "step"]
    assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=TOLERANCE)


@pytest.mark.parity("HF-12")
def test_the_bare_loop(place: Path, tmp_path: Path) -> None:
    """As run_glue_no_trainer computes, but that the optimizer steps at the end of each group of batches: there it
    steps after the first batch of a group."""
    given = {"weight_decay": 0.1, "lr_scheduler_type": "cosine", "max_grad_norm": 0.0}
    sizes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    ours = our_losses(place, tmp_path / "ours", "multiclass", **(USUAL | given | sizes))
    theirs = bare_losses(
        place / "multiclass",
        rows_of("multiclass"),
        batch_size=4,
        steps=STEPS,
        lr=USUAL["learning_rate"],
        schedule="cosine",
        weight_decay=0.1,
        accumulation=2,
    )
    assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=TOLERANCE)


# --- through the doors of the systems --------------------------------------------------------------------------------


def losses_of(foreign: Foreign, run: Path, **other: Any) -> list[float]:
    """The loss of every step of what a system's files or words became, with `other` values by our dotted keys."""
    lines = {line.key: line for line in foreign.lines} | {key: Line(key, other[key], "the tests") for key in other}
    losses: list[float] = []
    loaded = load_foreign(replace(foreign, lines=tuple(lines.values())))
    textune.train(loaded.experiment, run=run, after_step=lambda result: losses.append(float(result.loss)))
    return losses


SAME: dict[str, Any] = {
    **USUAL,
    "weight_decay": 0.1,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 4,
}
"""What every system is told."""
IN_ORDER = {"train.order": "sequential", "evaluate.bootstrap": 0, "train.device": "cpu"}
CASES: Mapping[str, Mapping[str, Any]] = {
    "accumulation": SAME,
    "smoothing": USUAL | {"label_smoothing_factor": 0.15},
    "clipping": USUAL | {"max_grad_norm": 0.5},
    **{
        name: USUAL | {"lr_scheduler_type": name, "warmup_steps": 7}
        for name in ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant_with_warmup")
    },
    "constant": USUAL | {"lr_scheduler_type": "constant"},
}
"""What the systems whose loop is Trainer's are told in turn."""


@pytest.fixture(scope="module")
def theirs(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[float]]:
    """The losses of Trainer in a case."""
    rows = rows_of("multiclass")

    @functools.cache
    def losses(case: str) -> list[float]:
        folder = tmp_path_factory.mktemp("theirs")
        return trainer_losses(place / "multiclass", rows, "multiclass", folder, **CASES[case])

    return losses


def by_flags(script: Script) -> Door:
    """By the flags of a script, on a file of one's own."""

    def door(place: Path, folder: Path, told: Mapping[str, Any]) -> Foreign:
        rows = write_jsonl(folder / "rows.json", rows_of("multiclass"))
        given = {**told, **CALLER, **ORDER, "output_dir": folder / "run", "max_seq_length": MAX_LENGTH}
        given |= {"train_file": rows, "model_name_or_path": place / "multiclass", "do_train": True}
        if script == "run_classification":
            given |= {"text_column_names": "text", "label_column_name": "label"}
        words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        return read_huggingface(script, words).foreign

    return door


def by_inputs(place: Path, folder: Path, told: Mapping[str, Any]) -> Foreign:
    """By AzureML's inputs, on rows that are encoded already; its own order is a random one."""
    model = folder / "selected" / "tiny"
    shutil.copytree(place / "multiclass", model)
    (model.parent / "model_selector_args.json").write_text(json.dumps({"model_name": "tiny", "model_type": "bert"}))
    rows = rows_of("multiclass")
    encoded = [one | {"text": row["text"]} for one, row in zip(encode(model, rows, "multiclass"), rows, strict=True)]
    write_jsonl(folder / "train.jsonl", encoded)
    (folder / "class_names.json").write_text(json.dumps({"class_names": list(NAMES)}))
    about = {"encoded_train_data_fname": "train.jsonl", "sentence1_key": "text", "model_type": "bert"}
    (folder / "preprocess_args.json").write_text(
        json.dumps(about | {"label_key": "label", "max_seq_length": MAX_LENGTH})
    )
    folders = {"preprocess_output": str(folder), "model_selector_output": str(model.parent)}
    return convert_finetune(read_finetune(folders | dict(told)))


def by_specs(place: Path, folder: Path, told: Mapping[str, Any]) -> Foreign:
    """By training-wizard's file; its labels are whole numbers, and name the outputs of the model."""
    shutil.copytree(place / "multiclass", folder / "backbone")
    about = json.loads((folder / "backbone" / "config.json").read_text(encoding="utf-8"))
    about |= {"id2label": {str(number): str(number) for number in range(3)}, "label2id": {str(n): n for n in range(3)}}
    (folder / "backbone" / "config.json").write_text(json.dumps(about), encoding="utf-8")
    rows = [{"text": row["text"], "labels": NAMES.index(row["label"])} for row in rows_of("multiclass")]
    write_jsonl(folder / "rows.jsonl", rows)
    arguments = {**told, **ORDER, "eval_strategy": "no", "load_best_model_at_end": False, "save_strategy": "no"}
    smoothing = arguments.pop("label_smoothing_factor", 0.0)  # its module computes the loss and has a key of its own
    changes = {
        "validation": None,
        "wizard_module": {
            "transformer_spec.from_pretrained_kwargs.num_labels": 3,
            "label_smoothing": smoothing,
        },
        "dataset_spec": {"data_files": "rows.jsonl", "loader": None, "load_dataset_kwargs": None},
        "training_args_spec": {**arguments, "use_cpu": True, "num_train_epochs": None},
    }
    return convert_training_wizard(write_specs(folder, changes))


DOORS: Mapping[str, Door] = {
    "run_glue": by_flags("run_glue"),
    "run_classification": by_flags("run_classification"),
    "azureml": by_inputs,
    "training-wizard": by_specs,
}


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("system", "case"),
    # AzureML's component has no input for smoothing.
    [pair for pair in itertools.product(DOORS, CASES) if pair != ("azureml", "smoothing")],
)
def test_each_system_by_its_own_words(
    place: Path,
    tmp_path: Path,
    theirs: Callable[[str], list[float]],
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    case: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    foreign = DOORS[system](place, tmp_path, CASES[case])
    ours = losses_of(foreign, tmp_path / "run", **IN_ORDER)
    assert len(ours) == STEPS
    assert ours == pytest.approx(theirs(case), abs=TOLERANCE, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial", "constant_with_warmup"])
def test_run_glue_no_trainer_by_its_flags(place: Path, tmp_path: Path, schedule: str) -> None:
    """Beside the bare loop, but that the optimizer steps at the end of each group of batches."""
    rows = write_jsonl(tmp_path / "rows.json", rows_of("multiclass"))
    given = {"train_file": rows, "validation_file": rows, "model_name_or_path": place / "multiclass"}
    given |= {"max_length": MAX_LENGTH, "output_dir": tmp_path / "run", "learning_rate": 1e-3, "weight_decay": 0.1}
    given |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_train_steps": STEPS}
    given |= {"lr_scheduler_type": schedule, "num_warmup_steps": 6, "seed": 1}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    foreign = read_huggingface("run_glue_no_trainer", words).foreign
    sizes = {"batch_size": 4, "steps": STEPS, "accumulation": 2, "weight_decay": 0.1, "warmup_steps": 6}
    plain = bare_losses(place / "multiclass", rows_of("multiclass"), lr=1e-3, schedule=schedule, **sizes)
    ours = losses_of(foreign, tmp_path / "run", **IN_ORDER)
    assert ours == pytest.approx(plain, abs=TOLERANCE, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_torchrecipes_by_its_words(place: Path, tmp_path: Path, accumulation: int) -> None:
    """Beside a bare loop: its loader does not shuffle, its rate is constant, and nothing is clipped.

    `module.optim.weight_decay=0`, since PyTorch's optimizer decays biases and norms, too, which a note says; the tiny
    BERT stands for XLM-R.
    """
    rows = write_jsonl(tmp_path / "rows.jsonl", rows_of("multiclass"))
    words = [
        *("datamodule/dataset=files_dataset", "module/model=xlmrbase_classifier_tiny"),
        *(f"datamodule.dataset.{part}={rows}" for part in ("train", "validation", "test")),
        *("datamodule.columns=[text,label]", f"transform.label_transform.label_names=[{','.join(NAMES)}]"),
        *("transform.num_labels=3", "module.model.head.num_classes=3", "module.num_classes=3"),
        *("module.optim.lr=1e-3", "+module.optim.weight_decay=0.0", "datamodule.batch_size=4"),
        *(f"trainer.accumulate_grad_batches={accumulation}", f"trainer.max_steps={STEPS}", "trainer.max_epochs=-1"),
    ]
    foreign = converted("train_app", *words)
    kept = [line for line in foreign.lines if not line.key.startswith(("model.", "tokens."))]
    other = {"model.pretrained": str(place / "multiclass"), "tokens.max_length": MAX_LENGTH, "evaluate.bootstrap": 0}
    ours = losses_of(replace(foreign, lines=tuple(kept)), tmp_path / "run", **other)
    sizes = {"batch_size": 4, "steps": STEPS, "accumulation": accumulation}
    plain = bare_losses(place / "multiclass", rows_of("multiclass"), lr=1e-3, schedule="constant", **sizes)
    assert ours == pytest.approx(plain, abs=TOLERANCE, rel=TOLERANCE)
