"""TrainingArguments as lines of ours: every field of the installed version is known, and names of earlier ones."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from textune.adapters.foreign import as_tree
from textune.adapters.trainer import FIELDS, OLDER, Arguments, read_arguments
from textune.adapters.trainer.batch import batch_line
from textune.batches import Plan
from textune.config import Duration, load_tree
from textune.errors import ConfigError
from textune.evaluation.metrics import METRICS
from textune.training.rules import UPDATE_RULES


def read(given: Mapping[str, object] | None = None, **how: object) -> Arguments:
    return read_arguments(given or {}, where=lambda key: f"args.json, {key}", **how)  # type: ignore[arg-type]


def lines_of(given: Mapping[str, object], **how: object) -> dict[str, object]:
    return {line.key: line.value for line in read(given, **how).lines}


def test_every_field_of_the_installed_version_is_known_with_its_default() -> None:
    from transformers import TrainingArguments

    for field in dataclasses.fields(TrainingArguments):
        assert field.name in FIELDS, f"{field.name} is new: say what becomes of it"
        if field.default is not dataclasses.MISSING:
            assert FIELDS[field.name].default == field.default, field.name
    assert set(FIELDS) == {field.name for field in dataclasses.fields(TrainingArguments)}
    assert not set(OLDER) & set(FIELDS)
    assert {older.name for older in OLDER.values()} - {""} <= set(FIELDS)


def test_defaults_are_those_of_trainer_and_say_so() -> None:
    found = read()
    tree = as_tree(found.lines) | {"data": {"train": {"files": ["a.csv"]}}, "model": {"pretrained": "x"}}
    loaded = load_tree(tree, origin="x", base=Path())
    train = loaded.experiment.train
    assert (str(train.duration), train.batch_size, train.seed, train.precision) == ("3 epochs", 8, 42, "fp32")
    assert (train.optimizer.lr, train.optimizer.weight_decay, train.optimizer.kind) == (5e-5, 0.0, "adamw")
    assert (str(train.schedule.warmup), train.schedule.kind) == ("0 steps", "linear")
    assert (str(train.log_every), str(train.checkpoint.every), train.checkpoint.keep) == (
        "500 steps",
        "500 steps",
        "all",
    )
    assert all(
        "default of TrainingArguments" in line.origin or "8 x" in line.origin or "as Trainer" in line.origin
        for line in found.lines
    )
    assert found.left_out == () and found.notes == ()
    assert found.values["num_train_epochs"] == 3.0


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"max_steps": "50", "num_train_epochs": 2}, "train.duration", "50 steps"),
        ({"num_train_epochs": 0.5}, "train.duration", "0.5 epochs"),
        ({"warmup_ratio": 0.1}, "train.schedule.warmup", "10 %"),
        ({"warmup_ratio": 0.1, "max_steps": 25}, "train.schedule.warmup", "3 steps"),
        ({"warmup_ratio": 1.0}, "train.schedule.warmup", "100 %"),
        ({"warmup_steps": 1.0}, "train.schedule.warmup", "1 step"),
        ({"warmup_steps": "0.0", "warmup_ratio": 0.1}, "train.schedule.warmup", "10 %"),
        ({"warmup_steps": 0.0333333333333}, "train.schedule.warmup", "3.33333333333 %"),
        ({"num_train_epochs": 0.6666666666666666}, "train.duration", "0.6666666666666666 epochs"),
        ({"save_steps": -1}, "train.checkpoint.every", "never"),
        ({"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 4}}}, "train.batch_size", 32),
        (
            {
                "eval_strategy": "epoch",
                "load_best_model_at_end": True,
                "metric_for_best_model": "brier",
                "greater_is_better": False,
            },
            "evaluate.metric",
            "brier",
        ),
        ({"warmup_steps": 7, "warmup_ratio": 0.1}, "train.schedule.warmup", "7 steps"),
        ({"warmup_steps": 7, "lr_scheduler_type": "constant"}, "train.schedule.warmup", "0 steps"),
        ({"lr_scheduler_type": "polynomial"}, "train.schedule.lr_end", 1e-7),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": '{"power": 2.0}'},
            "train.schedule.power",
            2.0,
        ),
        ({"lr_scheduler_type": "cosine_with_restarts"}, "train.schedule.num_cycles", 1),
        ({"group_by_length": True}, "train.order", "bucket"),
        ({"optim": "sgd"}, "train.optimizer.momentum", 0.0),
        ({"optim": "sgd", "optim_args": "momentum=0.9"}, "train.optimizer.momentum", 0.9),
        ({"optim": "adafactor"}, "train.optimizer.kind", "adafactor"),
        ({"adafactor": True}, "train.optimizer.kind", "adafactor"),
        ({"evaluation_strategy": "epoch"}, "train.evaluate_every", "1 epoch"),
        ({"eval_strategy": "steps", "logging_steps": 20}, "train.evaluate_every", "20 steps"),
        ({"max_steps": 9}, "train.evaluate_every", "9 steps"),
        ({"eval_strategy": "epoch", "load_best_model_at_end": True}, "evaluate.metric", "loss"),
        ({"eval_strategy": "epoch"}, "evaluate.keep", "last"),
        ({"eval_strategy": "epoch", "load_best_model_at_end": True}, "evaluate.keep", "best"),
        ({"metric_for_best_model": "eval_f1"}, "evaluate.metric", "f1"),
        ({"save_strategy": "best"}, "train.checkpoint.keep_best", 1),
        ({"save_total_limit": 2}, "train.checkpoint.keep", 2),
        ({"save_steps": 0.5, "max_steps": 9}, "train.checkpoint.every", "5 steps"),
        ({"bf16": True}, "train.precision", "bf16"),
        ({"gradient_checkpointing": "true"}, "train.gradient_checkpointing", True),
        ({"no_cuda": True}, "train.device", "cpu"),
        ({"torch_compile": False}, "model.compile", "off"),
        ({"full_determinism": True}, "train.deterministic", True),
        ({"label_smoothing_factor": 0.1}, "task.label_smoothing", 0.1),
        ({"max_grad_norm": None}, "train.max_grad_norm", 0.0),
        ({"fsdp": "full_shard auto_wrap offload"}, "train.distributed.cpu_offload", True),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "train.distributed.stage", 2),
        (
            {"report_to": ["wandb"], "project": "p"},
            "track",
            ({"kind": "accelerate", "name": "wandb", "project": "p"},),
        ),
        ({"logging_strategy": "epoch"}, "train.log_every", "1 epoch"),
    ],
    ids=str,
)
def test_an_argument_becomes_a_line(given: Mapping[str, object], key: str, value: object) -> None:
    assert lines_of(given)[key] == value


def test_rows_of_a_step_are_said_with_all_four_numbers() -> None:
    given = {"per_gpu_train_batch_size": 4, "gradient_accumulation_steps": 3}
    line = next(line for line in read(given, processes=2).lines if line.key == "train.batch_size")
    assert line.value == 24
    assert line.origin == "per_gpu_train_batch_size 4 x gradient_accumulation_steps 3 x 2 processes = 24 rows"
    assert batch_line(4, 1, 1).value == 4
    split = read({**given, "accelerator_config": {"split_batches": True}}, processes=2)
    assert {line.key: line.value for line in split.lines}["train.batch_size"] == 12


def test_an_older_name_is_said_as_it_was_written() -> None:
    found = read({"group_by_length": True, "optim": "adamw_hf"})
    origin = next(line.origin for line in found.lines if line.key == "train.order")
    assert origin == "group_by_length = true (args.json, group_by_length)"
    assert any("epsilon" in note and "before" in note for note in found.notes)


def test_what_changes_nothing_is_left_out_with_its_reason() -> None:
    found = read({"dataloader_num_workers": 4, "use_ipex": True, "num_train_epochs": 2, "max_steps": 3})
    assert {one.key for one in found.left_out} == {"dataloader_num_workers", "use_ipex", "num_train_epochs"}
    assert all(one.reason for one in found.left_out)


def test_without_validation_rows_nothing_is_evaluated() -> None:
    found = read({"eval_steps": 5}, has_validation=False)
    assert not any(line.key.startswith(("train.evaluate", "evaluate")) for line in found.lines)
    assert [one.key for one in found.left_out] == ["eval_steps"]


def test_defaults_of_another_system_come_before_those_of_trainer() -> None:
    found = read(defaults={"learning_rate": 2e-5})
    line = next(line for line in found.lines if line.key == "train.optimizer.lr")
    assert (line.value, line.origin) == (2e-5, "learning_rate = 2e-05 (its default)")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"learnin_rate": 1}, ["Unknown key learnin_rate (args.json, learnin_rate)", "Did you mean learning_rate?"]),
        ({"seed": "x"}, ['seed = "x"', "integer"]),
        ({"eval_strategy": "daily"}, ["eval_strategy", "'epoch'"]),
        ({"dataloader_drop_last": True}, ["dataloader_drop_last", "every row is trained on"]),
        ({"neftune_noise_alpha": 5.0}, ["neftune_noise_alpha"]),
        ({"optim": "galore_adamw"}, ["galore_adamw", "adamw_torch"]),
        ({"lr_scheduler_type": "greedy"}, ["greedy", "linear"]),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"power": 2}}, ["power"]),
        ({"fp16": True, "bf16": True}, ["bf16", "fp16"]),
        ({"load_best_model_at_end": True}, ["load_best_model_at_end", "eval_strategy"]),
        ({"eval_strategy": "epoch", "metric_for_best_model": "f1", "greater_is_better": False}, ["greater_is_better"]),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}, "auto_find_batch_size": True}, ["auto_find_batch_size"]),
        ({"deepspeed": {"zero_optimization": {"stage": "x"}}}, ["zero_optimization.stage", "none of 0, 1, 2 and 3"]),
        ({"deepspeed": {"zero_optimization": 3}}, ["zero_optimization = 3 is no table"]),
        ({"accelerator_config": {"gradient_accumulation_kwargs": 3}}, ["gradient_accumulation_kwargs is no table"]),
        ({"deepspeed": "absent.json"}, ["absent.json", "cannot be read"]),
        ({"report_to": "neptune"}, ["neptune", "wandb"]),
        ({"sharded_ddp": "simple"}, ["sharded_ddp", "fsdp"]),
        ({"data_seed": 3}, ["data_seed", "seed"]),
        ({"learning_rate": True}, ["learning_rate", "a number was expected"]),
        ({"warmup_steps": "nan"}, ["warmup_steps", "finite"]),
        ({"save_steps": float("inf")}, ["save_steps", "finite"]),
        ({"warmup_ratio": 1.5}, ["warmup_ratio", "at most 1"]),
        ({"accelerator_config": {"split_batch": True}}, ["Did you mean split_batches?"]),
        ({"num_train_epochs": 0}, ["num_train_epochs"]),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_in_its_own_words(given: Mapping[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(given)
    assert [word for word in words if word not in str(caught.value)] == []


def test_shares_of_a_run_are_rounded_as_trainer_rounds_them() -> None:
    from transformers import TrainingArguments

    total = 1000
    trainer = TrainingArguments(output_dir="x", use_cpu=True)
    for thousandths in range(1, 1000):
        trainer.warmup_steps = thousandths / 1000
        warmup = Duration.parse(lines_of({"warmup_steps": trainer.warmup_steps})["train.schedule.warmup"])
        assert warmup.steps(total, total, rounding="up") == trainer.get_warmup_steps(total), thousandths


@pytest.mark.parametrize("accumulation", [1, 3])
def test_steps_of_an_epoch_and_of_a_run_are_those_of_trainer(accumulation: int) -> None:
    torch = pytest.importorskip("torch")
    from transformers import Trainer, TrainingArguments

    for rows in (1, 23, 24, 25):
        for epochs in (0.3, 1.0, 2 / 3, 2.5):
            given = {
                "num_train_epochs": epochs,
                "gradient_accumulation_steps": accumulation,
                "per_device_train_batch_size": 4,
            }
            arguments = TrainingArguments(output_dir="x", use_cpu=True, **given)
            trainer = Trainer(torch.nn.Linear(1, 1), arguments, train_dataset=[{"x": 0}] * rows)
            _, per_epoch, *_, total = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
            section = load_tree(
                as_tree(read(given).lines) | {"data": {"train": {"files": ["a.csv"]}}, "model": {"pretrained": "x"}},
                origin="x",
                base=Path(),
            ).experiment.train
            plan = Plan.of(section, rows)
            assert (plan.steps_per_epoch, plan.total_steps) == (per_epoch, total), (rows, epochs)


def test_the_direction_of_a_metric_is_that_of_its_own() -> None:
    for name, metric in METRICS.items():
        given = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": name}
        lines_of({**given, "greater_is_better": metric.higher_is_better})
        with pytest.raises(ConfigError, match="greater_is_better"):
            lines_of({**given, "greater_is_better": not metric.higher_is_better})
    given["metric_for_best_model"] = "mse"
    assert any("Trainer keeps the one with the greatest" in note for note in read(given).notes)


def test_every_optimizer_and_schedule_of_the_installed_version_is_mapped_or_refused() -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    for name in OptimizerNames:
        try:
            kind = lines_of({"optim": name.value, "lr_scheduler_type": "constant"})["train.optimizer.kind"]
        except ConfigError as error:
            assert "optim" in str(error) and error.hint
        else:
            assert kind in UPDATE_RULES
    for schedule in SchedulerType:
        try:
            lines_of({"lr_scheduler_type": schedule.value})
        except ConfigError as error:
            assert schedule.value in str(error) and "Write" in str(error)
