"""The user's DeepSpeed file beside textune's configuration: one owner for each value, and a sentence for each
contradiction."""

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from textune.config.schema import TrainSection
from textune.config.sharing import DataParallel, DeepSpeed
from textune.config.updaterules import AdamW, LinearSchedule
from textune.errors import ConfigError
from textune.training.schedule import SCHEDULES
from textune.training.sharing.zero import keys as zerokeys
from textune.training.sharing.zero.plan import LARGEST_BUCKET, ZeroPlan, plan_zero, read_json

LINEAR = {"type": "WarmupDecayLR"}
NEEDED = {"polynomial": {"power": 2.0}, "cosine_with_restarts": {"num_cycles": 3}}
"""What a schedule does not do without."""


def plan(tmp_path: Path, theirs: Any = None, *, precision: str = "fp32", world: int = 2, **keys: Any) -> ZeroPlan:
    """The plan for a file with `theirs`; stage and offload come from `keys`, the rest of them are keys of `train`."""
    zero: dict[str, Any] = {name: keys.pop(name) for name in ("stage", "cpu_offload") if name in keys}
    if theirs is not None:
        (tmp_path / "ds.json").write_text(theirs if isinstance(theirs, str) else json.dumps(theirs))
        zero["config"] = str(tmp_path / "ds.json")
    per_epoch, numbers = keys.pop("steps_per_epoch", None), keys.pop("num_trained", 1000)
    chosen = {"batch_size": 32, "precision": precision, "duration": "100 steps", "distributed": DeepSpeed(**zero)}
    section = TypeAdapter(TrainSection).validate_python(
        chosen | {"schedule": LinearSchedule(warmup="10 steps")} | keys
    )  # type: ignore[arg-type]
    return plan_zero(section, world=world, precision=precision, num_trained=numbers, steps_per_epoch=per_epoch)


def merged(tmp_path: Path, theirs: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """The merged configuration for a file that names the stage and `theirs`."""
    theirs = {"zero_optimization": {"stage": keys.get("stage", 2)}} | theirs
    return plan(tmp_path, theirs, **keys).config


# --- without a file --------------------------------------------------------------------------------------------------


@pytest.mark.parity("AZ-19")
def test_every_key_of_ours_reaches_deepspeed(tmp_path: Path) -> None:
    config = plan(tmp_path, world=4, max_grad_norm=0.5).config
    assert config == {
        "train_batch_size": 4,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.5,
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 1000},
        "zero_force_ds_cpu_optimizer": False,
    }
    assert plan(tmp_path, num_trained=10**10).config["zero_optimization"]["reduce_bucket_size"] == LARGEST_BUCKET
    cpu = {"device": "cpu"}
    for stage in (1, 2, 3):
        sharding = plan(tmp_path, stage=stage, cpu_offload=True).config["zero_optimization"]
        assert sharding["stage"] == stage and sharding["offload_optimizer"] == cpu
        assert sharding.get("offload_param") == (cpu if stage == 3 else None)


# --- agreement -------------------------------------------------------------------------------------------------------

AGREEING: list[dict[str, Any]] = [
    {"train_batch_size": 32},
    {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto"},
    {"train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4},
    {"train_micro_batch_size_per_gpu": 8},
    {"gradient_accumulation_steps": 16},
    {"gradient_clipping": 1.0},
    {"gradient_clipping": 1},
    {"optimizer": {"type": "AdamW", "params": {"lr": 5e-5, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}}},
    {
        "optimizer": {
            "type": "Adam",
            "params": {"lr": "auto", "torch_adam": True, "adam_w_mode": True, "max_grad_norm": 1.0},
        }
    },
    {"optimizer": "auto", "scheduler": "auto"},
    {"scheduler": LINEAR | {"params": {"warmup_min_lr": 0, "warmup_max_lr": 5e-5, "warmup_num_steps": 10}}},
    {"scheduler": LINEAR | {"params": {"total_num_steps": 100, "warmup_type": "linear", "last_batch_iteration": -1}}},
    {"fp16": {"enabled": False, "hysteresis": 2, "loss_scale": 128}},
    {"fp16": {"enabled": "auto", "loss_scale_window": 1000, "hysteresis": 2}, "bf16": {"enabled": "auto"}},
    {"torch_autocast": {"enabled": False}},
    {"amp": {"enabled": False}, "autotuning": {"enabled": False}, "elasticity": {"enabled": False}, "nebula": {}},
    {"data_types": {"grad_accum_dtype": "fp32"}},
    {"zero_force_ds_cpu_optimizer": False, "dataloader_drop_last": False, "sparse_gradients": False},
    {"zero_optimization": {"stage": "auto", "cpu_offload": False}},
    {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "none"}, "offload_param": {"device": "none"}}},
]


@pytest.mark.parametrize("theirs", AGREEING, ids=json.dumps)
def test_values_that_agree_leave_the_plan_as_it_is(tmp_path: Path, theirs: dict[str, Any]) -> None:
    config = merged(tmp_path, theirs)
    for name, value in plan(tmp_path).config.items():
        if name == "zero_optimization":
            assert value.items() <= config[name].items()
        else:
            assert config[name] == value
    assert config.keys() == plan(tmp_path).config.keys()


def test_what_only_the_file_speaks_of_is_passed_on(tmp_path: Path) -> None:
    theirs = {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "reduce_bucket_size": 1e6,
            "stage3_prefetch_bucket_size": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
            "offload_param": {"device": "cpu", "pin_memory": True, "buffer_size": "auto"},
            "cpu_offload": True,
        },
        "wall_clock_breakdown": True,
        "comms_logger": {"enabled": True, "prof_ops": ["all_reduce"]},
        "aio": {"block_size": "auto", "queue_depth": 8},
        "steps_per_print": "auto",
    }
    config = plan(tmp_path, theirs, stage=3, cpu_offload=True).config
    assert config["zero_optimization"] == {
        "stage": 3,
        "overlap_comm": True,
        "reduce_bucket_size": 1e6,
        "stage3_gather_16bit_weights_on_model_save": True,
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "cpu", "pin_memory": True},
    }
    assert config["wall_clock_breakdown"] is True
    assert config["comms_logger"] == {"enabled": True, "prof_ops": ["all_reduce"]}
    assert config["aio"] == {"queue_depth": 8}
    assert "steps_per_print" not in config


# --- contradiction ---------------------------------------------------------------------------------------------------

CONTRADICTING: list[tuple[dict[str, Any], str]] = [
    ({"train_batch_size": 256}, "train_batch_size = 256 in ds.json contradicts train.batch_size = 32 of this config"),
    ({"train_batch_size": True}, "train_batch_size = true in ds.json"),
    ({"train_batch_size": "32"}, 'train_batch_size = "32" in ds.json'),
    (
        {"train_micro_batch_size_per_gpu": 8, "gradient_accumulation_steps": 16},
        "gradient_accumulation_steps = 16 in ds.json: with 2 ranks this gives 256 rows per step, which contradicts"
        " train.batch_size = 32 of this config",
    ),
    (
        {"train_micro_batch_size_per_gpu": 5},
        "this gives a multiple of 10 rows per step, which contradicts train.batch_size = 32",
    ),
    ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps = 0 in ds.json: whole numbers above zero"),
    ({"gradient_clipping": 0.5}, "gradient_clipping = 0.5 in ds.json contradicts train.max_grad_norm = 1.0"),
    ({"optimizer": {"type": "Lamb"}}, 'optimizer.type = "Lamb" in ds.json contradicts train.optimizer.kind = "adamw"'),
    (
        {"optimizer": {"params": {"lr": 1e-4}}},
        "optimizer.params.lr = 0.0001 in ds.json contradicts train.optimizer.lr = 5e-05",
    ),
    ({"optimizer": {"params": {"betas": [0.9, 0.98]}}}, "contradicts train.optimizer.beta1 and beta2 = [0.9, 0.999]"),
    ({"optimizer": {"params": {"betas": 0.9}}}, "optimizer.params.betas = 0.9 in ds.json contradicts"),
    (
        {"optimizer": {"params": {"eps": 1e-6}}},
        "optimizer.params.eps = 1e-06 in ds.json contradicts train.optimizer.eps = 1e-08",
    ),
    ({"optimizer": {"params": {"weight_decay": 0}}}, "contradicts train.optimizer.weight_decay = 0.01"),
    ({"optimizer": {"params": {"max_grad_norm": 2}}}, "contradicts train.max_grad_norm = 1.0"),
    (
        {"optimizer": {"params": {"adam_w_mode": False}}},
        "optimizer.params.adam_w_mode = false in ds.json must be true",
    ),
    (
        {"scheduler": {"type": "WarmupCosineLR"}},
        'scheduler.type = "WarmupCosineLR" in ds.json contradicts train.schedule.kind',
    ),
    (
        {"scheduler": {"params": {"warmup_max_lr": 1e-4}}},
        "warmup_max_lr = 0.0001 in ds.json contradicts train.optimizer.lr",
    ),
    (
        {"scheduler": {"params": {"warmup_num_steps": 6000}}},
        'contradicts train.schedule.warmup = "10 steps" of this config',
    ),
    (
        {"scheduler": {"params": {"total_num_steps": 99}}},
        'total_num_steps = 99 in ds.json contradicts train.duration = "100 steps"',
    ),
    (
        {"scheduler": {"params": {"warmup_min_lr": 1e-6}}},
        "scheduler.params.warmup_min_lr = 1e-06 in ds.json must be 0",
    ),
    ({"scheduler": {"params": {"warmup_type": "log"}}}, 'warmup_type = "log" in ds.json must be "linear" or left out'),
    (
        {"fp16": {"enabled": True}},
        'fp16.enabled = true in ds.json contradicts train.precision = "fp32" of this config',
    ),
    ({"bf16": {"enabled": True}}, 'bf16.enabled = true in ds.json contradicts train.precision = "fp32"'),
    ({"bfloat16": {"enabled": True}}, "bfloat16.enabled = true in ds.json contradicts"),
    (
        {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}},
        "torch_autocast.enabled = true in ds.json contradicts",
    ),
    ({"fp16": {"enabled": "yes"}}, 'fp16.enabled = "yes" in ds.json contradicts'),
    ({"data_types": {"grad_accum_dtype": "bf16"}}, 'data_types.grad_accum_dtype = "bf16" in ds.json must be "fp32"'),
    (
        {"zero_optimization": {"stage": 3}},
        "zero_optimization.stage = 3 in ds.json contradicts train.distributed.stage = 2",
    ),
    (
        {"zero_optimization": {}},
        "zero_optimization.stage is missing in ds.json (train.distributed.stage = 2 of this config)",
    ),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
        'offload_optimizer.device = "cpu" in ds.json contradicts train.distributed.cpu_offload = false',
    ),
    ({"zero_optimization": {"stage": 2, "cpu_offload": True}}, "cpu_offload = true in ds.json contradicts"),
    (
        {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}},
        'offload_optimizer.device = "nvme" in ds.json contradicts',
    ),
    (
        {"zero_optimization": {"stage": 2, "zenflow": {"topk_ratio": 0.1}}},
        "zenflow in ds.json is not supported: its updates",
    ),
    ({"autotuning": {"enabled": True}}, "autotuning in ds.json is not supported"),
    ({"sparse_gradients": True}, "sparse_gradients in ds.json is not supported"),
    ({"tensor_parallel": {"autotp_size": 2}}, "tensor_parallel in ds.json is not supported"),
    ({"zero_force_ds_cpu_optimizer": True}, "zero_force_ds_cpu_optimizer = true in ds.json must be false"),
    ({"managed_gradient_accumulation": False}, "managed_gradient_accumulation = false in ds.json must be true"),
]


@pytest.mark.parametrize(
    ("theirs", "sentence"), CONTRADICTING, ids=[json.dumps(theirs) for theirs, _ in CONTRADICTING]
)
@pytest.mark.parity("AZ-19")
def test_a_contradiction_names_key_values_and_places(tmp_path: Path, theirs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        merged(tmp_path, theirs)
    assert sentence in raised.value.message
    assert '"auto" in ds.json' in raised.value.hint


def test_all_contradictions_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        merged(tmp_path, {"train_batch_size": 256, "gradient_clipping": 2.0, "fp16": {"enabled": True}})
    assert raised.value.message.count(" contradicts ") == 3


def test_offloading_and_its_absence_must_agree(tmp_path: Path) -> None:
    none = {"zero_optimization": {"stage": 3, "offload_param": {"device": "none"}}}
    with pytest.raises(
        ConfigError, match=r'offload_param\.device = "none" in ds\.json contradicts .*cpu_offload = true'
    ):
        plan(tmp_path, none, stage=3, cpu_offload=True)
    # Below stage 3 the weights stay where they are.
    plan(tmp_path, {"zero_optimization": {"stage": 2, "offload_param": {"device": "none"}}}, cpu_offload=True)


def test_steps_of_a_scheduler_are_compared_with_epochs_too(tmp_path: Path) -> None:
    theirs = {"scheduler": LINEAR | {"params": {"total_num_steps": 300, "warmup_num_steps": 10}}}
    keys: dict[str, Any] = {"duration": "3 epochs", "schedule": LinearSchedule(warmup="0.1 epochs")}  # type: ignore[arg-type]
    merged(tmp_path, theirs, steps_per_epoch=100, **keys)
    with pytest.raises(ConfigError, match=r'total_num_steps = 300 .* train\.duration = "3 epochs \(360 steps\)"'):
        merged(tmp_path, theirs, steps_per_epoch=120, **keys)
    merged(tmp_path, theirs, **keys)  # how long an epoch is, is not known yet


@pytest.mark.parametrize("kind", SCHEDULES)
def test_each_schedule_has_its_scheduler(tmp_path: Path, kind: str) -> None:
    schedule = {"kind": kind, "warmup": "10 steps"} | NEEDED.get(kind, {})
    for name in set(zerokeys.SCHEDULERS.values()):
        if zerokeys.SCHEDULERS.get(kind) == name:
            merged(tmp_path, {"scheduler": {"type": name}}, schedule=schedule)
        else:
            with pytest.raises(ConfigError, match=r"scheduler\.type"):
                merged(tmp_path, {"scheduler": {"type": name}}, schedule=schedule)


@pytest.mark.parametrize(
    ("precision", "theirs", "agrees"),
    [
        ("bf16", {"bf16": {"enabled": True}}, True),
        ("bf16", {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}, "bf16": {"enabled": False}}, True),
        ("bf16", {"bf16": {"enabled": False}, "fp16": {"enabled": False}}, False),
        ("bf16", {"fp16": {"enabled": True}}, False),
        ("fp16", {"fp16": {"enabled": True}}, True),
        ("fp16", {"fp16": {"enabled": True, "hysteresis": 2}}, False),
        ("fp16", {"fp16": {"enabled": True, "loss_scale": 128}}, False),
        ("fp16", {"fp16": {"enabled": True, "loss_scale_window": 0}}, False),
        ("fp16", {"fp16": {"enabled": True}, "bf16": {"enabled": True}}, False),
    ],
)
def test_precision_has_one_owner(tmp_path: Path, precision: str, theirs: dict[str, Any], agrees: bool) -> None:
    if agrees:
        assert not {"fp16", "bf16", "torch_autocast"} & merged(tmp_path, theirs, precision=precision).keys()
        return
    with pytest.raises(ConfigError):
        merged(tmp_path, theirs, precision=precision)


def test_the_loss_scale_takes_its_numbers_from_the_file(tmp_path: Path) -> None:
    fp16 = {"enabled": True, "loss_scale": 0, "initial_scale_power": 10, "loss_scale_window": 500, "min_loss_scale": 1}
    found = plan(tmp_path, {"zero_optimization": {"stage": 2}, "fp16": fp16}, precision="fp16")
    assert (found.initial_scale, found.scale_interval, found.min_scale) == (1024.0, 500, 1.0)
    assert plan(tmp_path, precision="fp16").initial_scale == 65536.0


# --- files of others -------------------------------------------------------------------------------------------------


def test_a_file_with_a_schedule_of_its_own_is_refused_whole(tmp_path: Path) -> None:
    """Accumulation and learning rate in two files: elsewhere the second one won without a word."""
    theirs = {
        "fp16": {"enabled": True, "loss_scale": 0, "initial_scale_power": 16},
        "optimizer": {"type": "AdamW", "params": {"lr": 5e-5, "weight_decay": 0.01}},
        "scheduler": {
            "type": "WarmupDecayLR",
            "params": {"warmup_max_lr": 1e-4, "warmup_num_steps": 6000, "total_num_steps": 100000},
        },
        "zero_optimization": {"stage": 1, "cpu_offload": True},
        "gradient_accumulation_steps": 16,
        "train_batch_size": 256,
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_clipping": "auto",
    }
    with pytest.raises(ConfigError) as raised:
        plan(tmp_path, theirs, stage=1, precision="bf16")
    for key in (
        "fp16.enabled",
        "warmup_max_lr",
        "warmup_num_steps",
        "total_num_steps",
        "cpu_offload",
        "train_batch_size",
    ):
        assert key in raised.value.message
    agreeing = {"optimizer": AdamW(lr=1e-4, weight_decay=0.01), "duration": "100000 steps", "batch_size": 256}
    theirs["optimizer"]["params"]["lr"] = 1e-4  # type: ignore[index]
    found = plan(
        tmp_path,
        theirs,
        stage=1,
        cpu_offload=True,
        precision="fp16",
        schedule=LinearSchedule(warmup="6000 steps"),  # type: ignore[arg-type]
        **agreeing,
    )
    assert found.config["zero_optimization"]["offload_optimizer"] == {"device": "cpu"}


def test_a_file_that_leaves_all_to_us_is_taken(tmp_path: Path) -> None:
    theirs = {
        "fp16": {"enabled": "auto", "auto_cast": False, "loss_scale": 0, "initial_scale_power": 16, "hysteresis": 2},
        "bf16": {"enabled": "auto"},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
        },
        "zero_optimization": {
            "stage": 3,
            "offload_optimizer": {"device": "cpu", "pin_memory": False},
            "offload_param": {"device": "cpu", "pin_memory": False},
            "overlap_comm": True,
            "contiguous_gradients": True,
            "sub_group_size": 1e9,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_max_live_parameters": 1e9,
            "stage3_max_reuse_distance": 1e9,
            "stage3_gather_16bit_weights_on_model_save": False,
        },
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "steps_per_print": 2000,
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "wall_clock_breakdown": False,
    }
    for precision in ("fp32", "bf16"):
        config = plan(tmp_path, theirs, stage=3, cpu_offload=True, precision=precision, num_trained=77).config
        assert config["zero_optimization"]["reduce_bucket_size"] == 77
        assert config["steps_per_print"] == 2000


@pytest.mark.parametrize(
    ("theirs", "sentence"),
    [
        (
            {"gradient_cliping": 1.0},
            'gradient_cliping, which DeepSpeed does not know. Did you mean "gradient_clipping"?',
        ),
        (
            {"zero_optimization": {"stagee": 2}},
            'zero_optimization.stagee, which DeepSpeed does not know. Did you mean "stage"?',
        ),
        (
            {"optimizer": {"params": {"learning_rate": 1}}},
            "optimizer.params.learning_rate, which DeepSpeed does not know",
        ),
        ({"zero_optimization": {"offload_param": {"devise": "cpu"}}}, 'Did you mean "device"?'),
        ({"quux": 1}, "quux, which DeepSpeed does not know. Remove it."),
        ({"zero_optimization": 2}, "zero_optimization = 2 in ds.json must be an object."),
        ({"fp16": True}, "fp16 = true in ds.json must be an object."),
        ('{"fp16": {}, "fp16": {}}', 'has the key "fp16" twice'),
        ("{", "line 1: not valid JSON"),
        ("[1]", "is not a JSON object"),
        ('{"gradient_clipping": NaN}', "has the value NaN, which is not a JSON number"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_file_that_is_none_is_a_sentence(tmp_path: Path, theirs: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        plan(tmp_path, theirs)
    assert sentence in str(raised.value)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"train\.distributed\.config = .*missing\.json cannot be read: it does not exist"
    ):
        read_json(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_json(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_json(tmp_path / "latin.json")


def test_only_a_section_of_deepspeed_has_a_plan() -> None:
    with pytest.raises(AssertionError):
        plan_zero(TrainSection(distributed=DataParallel()), world=1, precision="fp32", num_trained=1)


# --- DeepSpeed's own lists -------------------------------------------------------------------------------------------


def test_the_known_keys_are_those_of_the_installed_deepspeed() -> None:
    """A section with a key more or a key less than DeepSpeed reads is noticed with its next release."""
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )

    for section, model in {
        "zero_optimization": DeepSpeedZeroConfig,
        "zero_optimization.offload_optimizer": DeepSpeedZeroOffloadOptimizerConfig,
        "zero_optimization.offload_param": DeepSpeedZeroOffloadParamConfig,
        "fp16": DeepSpeedFP16Config,
        "bf16": DeepSpeedBF16Config,
    }.items():
        names = {field.alias or name for name, field in model.model_fields.items()}
        read_elsewhere = {"check_overflow"} if section == "bf16" else set()
        assert zerokeys.KNOWN[section] == names | read_elsewhere, section


def test_what_deepspeed_reads_at_the_top_is_known() -> None:
    """The keys in its source: `get_scalar_param(param_dict, KEY, ...)` and `param_dict.get(KEY)`."""
    pytest.importorskip("deepspeed")
    from deepspeed.runtime import config

    read = set()
    for node in ast.walk(ast.parse(inspect.getsource(config))):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "get_scalar_param" and ast.unparse(node.args[0]) in {"param_dict", "self._param_dict"}:
            read.add(node.args[1])
        elif called in {"param_dict.get", "self._param_dict.get"}:
            read.add(node.args[0])
    names = {key.value if isinstance(key, ast.Constant) else getattr(config, key.id, None) for key in read}
    assert {"train_batch_size", "gradient_clipping", "zero_optimization"} <= names
    assert names - {None} <= zerokeys.KNOWN[""]
