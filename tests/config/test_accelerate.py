"""What `accelerate launch` says beside a configuration: every variable that it sets has a row, and both are named."""

import re
from pathlib import Path

import pytest

from textune.config import Experiment, Here, differences_to, load_tree, settings_of
from textune.config.accelerate import SETTINGS, STARTED, rule_for

accelerate = pytest.importorskip("accelerate")

ALL_OF_FSDP = (
    *("--use_fsdp", "--fsdp_version=2", "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP"),
    *("--fsdp_transformer_layer_cls_to_wrap=BertLayer", "--fsdp_backward_prefetch=BACKWARD_PRE"),
    *("--fsdp_state_dict_type=SHARDED_STATE_DICT", "--enable_cpu_affinity"),
    *("--use_parallelism_config", "--parallelism_config_cp_size=2", "--parallelism_config_sp_size=2"),
)
ALL_OF_DEEPSPEED = (
    *("--use_deepspeed", "--zero_stage=3", "--gradient_accumulation_steps=2", "--gradient_clipping=1.0"),
    *("--offload_optimizer_device=cpu", "--offload_param_device=nvme", "--zero3_init_flag=true"),
    *("--zero3_save_16bit_model=true", "--deepspeed_config_file=ds.json", "--deepspeed_moe_layer_cls_names=Block"),
)


def launched(*words: str) -> dict[str, str]:
    """The variables that accelerate's own launcher sets for these words, but for those of this process."""
    from accelerate.commands import launch
    from accelerate.utils import launch as making

    arguments = launch.launch_command_parser().parse_args(
        [*words, "--num_processes=2", "--num_machines=1", "--main_process_port=0", "train.py"]
    )
    # What its checks fill in where no file says it.
    arguments.mixed_precision = arguments.mixed_precision or "no"
    arguments.dynamo_backend = arguments.dynamo_backend or "no"
    arguments.use_cpu = arguments.cpu
    arguments.num_cpu_threads_per_process = 1
    arguments.deepspeed_fields_from_accelerate_config = ""
    with pytest.MonkeyPatch.context() as patch:
        for name in settings_of(dict.fromkeys(SETTINGS, "true")):
            patch.delenv(name, raising=False)
        if arguments.use_deepspeed:
            found = making.prepare_deepspeed_cmd_env(arguments)[1]
        elif arguments.use_fsdp or arguments.multi_gpu or arguments.use_megatron_lm:
            found = making.prepare_multi_gpu_env(arguments)
        else:
            found = making.prepare_simple_launcher_cmd_env(arguments)[1]
    return {name: value for name, value in found.items() if rule_for(name) or name.startswith("ACCELERATE_")}


def here(*, device: str = "cpu", precision: str = "fp32", model: object = None, **train: object) -> Here:
    tree = {"train": train, "model": {"pretrained": "x", **(model if isinstance(model, dict) else {})}}
    experiment: Experiment = load_tree(tree, origin="test", base=Path.cwd()).experiment
    return Here(experiment, device, precision)


def test_every_variable_of_the_installed_accelerate_has_a_row() -> None:
    """A new version that sets or reads another one fails here."""
    folder = Path(accelerate.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")) if "test" not in path.name]
    named = {name for text in sources for name in re.findall(r"\"((?:ACCELERATE|FSDP)_[A-Z0-9_]*[A-Z0-9])\"", text)}
    for start, text in re.findall(
        r"prefix = \"([A-Z_]+_)\"(.*?)(?=\nclass |\ndef |\n    def |\Z)", "\n".join(sources), re.S
    ):
        named |= {start + end for end in re.findall(r"prefix \+ \"([A-Z0-9_]+)\"", text)}
    lists = {"FSDP_SHARDING_STRATEGY", "FSDP_AUTO_WRAP_POLICY", "FSDP_BACKWARD_PREFETCH", "FSDP_STATE_DICT_TYPE"}
    assert named >= lists | {"MEGATRON_LM_TP_DEGREE", "ACCELERATE_DYNAMO_MODE", "PARALLELISM_CONFIG_TP_SIZE"}
    files_of_its_own = {
        name for name in named if name in ("FSDP_MODEL_NAME", "FSDP_PYTORCH_VERSION", "FSDP2_PYTORCH_VERSION")
    }
    assert not {name for name in named - files_of_its_own if rule_for(name) is None}


@pytest.mark.parametrize("words", [(), ("--cpu",), ("--multi_gpu",)], ids=["alone", "cpu", "several"])
def test_the_defaults_of_its_launcher_contradict_nothing(words: tuple[str, ...]) -> None:
    found = launched(*words)
    assert found[STARTED] == "no"
    assert differences_to(found, here()) == ([], [])
    assert differences_to(found, here(precision="bf16", max_grad_norm=0.5, batch_size=7)) == ([], [])


def test_what_the_configuration_says_as_well_is_no_difference() -> None:
    found = launched("--use_fsdp", "--fsdp_offload_params=true", "--fsdp_activation_checkpointing=true")
    sharded = here(distributed={"kind": "fsdp", "cpu_offload": True}, gradient_checkpointing=True)
    assert differences_to(found, sharded) == ([], [])
    found = launched(*ALL_OF_DEEPSPEED[:2], "--gradient_clipping=1.0", "--offload_optimizer_device=cpu")
    staged = here(distributed={"kind": "deepspeed", "stage": 3, "cpu_offload": True})
    assert differences_to(found, staged) == ([], [])


@pytest.mark.parametrize(
    ("words", "own", "asked", "said"),
    [
        (("--mixed_precision=fp16",), {}, "mixed precision fp16", 'train.precision = "auto" computes in fp32'),
        (("--cpu",), {"device": "cuda"}, "the processor", 'train.device = "auto" computes on a GPU'),
        (
            ("--dynamo_backend=inductor",),
            {"model": {"compile": "off"}},
            "the compiler inductor",
            'model.compile = "off"',
        ),
        (("--dynamo_backend=cudagraphs",), {}, "the compiler cudagraphs", 'model.compile = "auto" compiles with'),
        (("--use_fsdp",), {}, "fsdp", 'train.distributed.kind = "ddp"'),
        (
            ("--use_fsdp", "--fsdp_offload_params=true"),
            {"distributed": {"kind": "fsdp"}},
            "weights in host memory",
            "train.distributed.cpu_offload = false",
        ),
        (
            ("--use_fsdp", "--fsdp_sharding_strategy=3"),
            {"distributed": {"kind": "fsdp"}},
            "the sharding strategy NO_SHARD",
            'train.distributed.kind = "fsdp" shards',
        ),
        (
            ("--use_fsdp", "--fsdp_activation_checkpointing=true"),
            {"distributed": {"kind": "fsdp"}},
            "activation checkpointing",
            "train.gradient_checkpointing = false",
        ),
        (("--use_deepspeed",), {}, "deepspeed", 'train.distributed.kind = "ddp"'),
        (
            ("--use_deepspeed", "--zero_stage=3"),
            {"distributed": {"kind": "deepspeed"}},
            "ZeRO stage 3",
            "train.distributed.stage = 2",
        ),
        (
            ("--use_deepspeed", "--offload_optimizer_device=nvme"),
            {"distributed": {"kind": "deepspeed", "cpu_offload": True}},
            "optimizer state on NVMe",
            "train.distributed.cpu_offload = true, and textune keeps nothing there",
        ),
        (
            ("--use_deepspeed", "--deepspeed_config_file=ds.json"),
            {"distributed": {"kind": "deepspeed"}},
            "the DeepSpeed file ds.json",
            "train.distributed.config is not set",
        ),
        (
            ("--use_deepspeed", "--gradient_accumulation_steps=4"),
            {"distributed": {"kind": "deepspeed"}},
            "4 steps of gradient accumulation",
            "train.batch_size = 32 rows",
        ),
        (
            ("--use_deepspeed", "--gradient_clipping=0.5"),
            {"distributed": {"kind": "deepspeed"}},
            "gradient clipping at 0.5",
            "train.max_grad_norm = 1",
        ),
        (("--use_megatron_lm",), {}, "Megatron-LM", 'train.distributed.kind = "ddp" does not have it'),
        (
            ("--use_fsdp", "--use_parallelism_config", "--parallelism_config_tp_size=2"),
            {"distributed": {"kind": "fsdp"}},
            "tensor parallelism",
            'train.distributed.kind = "fsdp" does not have it',
        ),
    ],
    ids=lambda value: value[-1].strip("-") if isinstance(value, tuple) else "",
)
def test_a_setting_that_differs_is_named_with_the_value_here(
    words: tuple[str, ...], own: dict[str, object], asked: str, said: str
) -> None:
    [found], notices = differences_to(launched(*words), here(**own))  # type: ignore[arg-type]
    assert found.asked == asked and said in found.here and found.do
    assert not notices


def test_what_changes_speed_alone_is_said_and_not_refused() -> None:
    words = ("--use_fsdp", "--fsdp_reshard_after_forward=false", "--enable_cpu_affinity", "--dynamo_mode=max-autotune")
    refused, said = differences_to(launched(*words), here(distributed={"kind": "fsdp"}))
    assert not refused
    assert [text.partition(", but ")[0] for text in said] == [
        "accelerate asks for processes that are bound to processors",
        "accelerate asks for the compiler's mode max-autotune",
        "accelerate asks for fsdp_reshard_after_forward: false",
    ]


def test_an_unknown_setting_is_said_and_one_of_a_switch_that_is_off_is_not() -> None:
    environment = {STARTED: "no", "ACCELERATE_NEW_THING": "7", "FSDP_SHARDING_STRATEGY": "NO_SHARD"}
    refused, [said] = differences_to(environment, here())
    assert not refused and "ACCELERATE_NEW_THING = 7" in said


def test_a_setting_that_the_configuration_was_made_of_is_not_compared_again() -> None:
    found = launched("--use_deepspeed", "--gradient_accumulation_steps=4")
    own = here(distributed={"kind": "deepspeed"})
    assert differences_to(found, own, {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS"}) == ([], [])


@pytest.mark.parametrize(
    ("environment", "devices", "asked"),
    [
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0"}, 2, None),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "RANK": "0"}, 2, "4 processes on this machine"),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "RANK": "0"}, "auto", None),
        ({}, 2, "1 process on this machine"),
        ({"OMPI_COMM_WORLD_SIZE": "3"}, "auto", "3 processes through mpirun"),
    ],
    ids=["equal", "more", "auto", "alone", "mpirun"],
)
def test_the_processes_that_it_started_are_those_of_the_configuration(
    environment: dict[str, str], devices: object, asked: str | None
) -> None:
    refused, _ = differences_to({STARTED: "no", **environment}, here(distributed={"devices": devices}))
    assert [found.asked for found in refused] == [asked] * (asked is not None)
    assert differences_to(environment, here(distributed={"devices": devices})) == ([], []), "torchrun may start any"


@pytest.mark.parametrize("words", [ALL_OF_FSDP, ALL_OF_DEEPSPEED, ("--use_megatron_lm",)], ids=["fsdp", "zero", "lm"])
def test_its_launcher_sets_nothing_that_is_unknown(words: tuple[str, ...]) -> None:
    _, said = differences_to(launched(*words), here())
    assert not [text for text in said if "does not know" in text]
