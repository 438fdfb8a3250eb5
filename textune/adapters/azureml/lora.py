"""`model.lora` of the component's inputs, and which layers it adapts in each family of models."""

from __future__ import annotations

from collections.abc import Iterator

from textune.adapters.azureml.folders import Preprocessed, Selected, read_object
from textune.adapters.azureml.inputs import Inputs
from textune.adapters.foreign import LeftOut, Line

TARGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("bert", "roberta", "camembert", "xlm-roberta", "electra"), ("query", "value")),
    "distilbert": ("q_lin", "v_lin"),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
    "gpt2": ("c_attn",),
    **dict.fromkeys(("bart", "mbart", "llama", "mistral", "mixtral", "qwen2"), ("q_proj", "v_proj")),
    **dict.fromkeys(("t5", "mt5"), ("q", "v")),
    **dict.fromkeys(("falcon", "gpt_neox", "RefinedWeb", "RefinedWebModel"), ("query_key_value",)),
}
"""Last parts of the names of adapted layers, by `model_type`: those of the component's own code, and of peft for the
families that it leaves to peft."""


def lora_lines(inputs: Inputs, model_type: str, selected: Selected, notes: list[str]) -> Iterator[Line]:
    """The section `model.lora`; nothing without `apply_lora`."""
    if not inputs.on("apply_lora"):
        return
    yield Line("model.lora.r", inputs["lora_r"], inputs.origin("lora_r"))
    yield Line("model.lora.alpha", inputs["lora_alpha"], inputs.origin("lora_alpha"))
    yield Line("model.lora.dropout", inputs["lora_dropout"], inputs.origin("lora_dropout"))
    yield _targets(model_type, selected, notes)
    merge = "end" if inputs.on("merge_lora_weights") else "command"
    yield Line("model.lora.merge", merge, inputs.origin("merge_lora_weights"))
    if merge == "command":
        notes.append(
            'merge_lora_weights = "false": pytorch_model_folder holds the adapters and the name of the backbone, and'
            " the MLflow model has them added. There they are added in any case."
        )


def _targets(model_type: str, selected: Selected, notes: list[str]) -> Line:
    own = selected.config.get("lora_target_modules")
    if own:
        names = (own,) if isinstance(own, str) else tuple(map(str, own))
        return Line("model.lora.targets", names, "lora_target_modules of finetune_config.json")
    if model_type in TARGETS:
        return Line("model.lora.targets", TARGETS[model_type], f"as there for {model_type}")
    notes.append(f"LoRA adapts every linear layer: which layers it adapts there in {model_type} is not known.")
    return Line("model.lora.targets", ("all-linear",), f"{model_type} has no layers of its own there")


def lora_left_out(inputs: Inputs) -> Iterator[LeftOut]:
    """Inputs about LoRA where there is none."""
    if not inputs.on("apply_lora"):
        for name in ("merge_lora_weights", "lora_alpha", "lora_r", "lora_dropout"):
            if name in inputs.given:
                yield LeftOut(name, "apply_lora is false")


def model_type_of(preprocessed: Preprocessed, selected: Selected) -> str:
    """The family of the model, such as `bert`; "an unknown family" where no file says it."""
    for args in (preprocessed.args, selected.args):
        if isinstance(args.get("model_type"), str):
            return str(args["model_type"])
    config = selected.path / selected.model / "config.json"
    known = read_object(config, "model_selector_output").get("model_type") if config.is_file() else None
    return str(known or "an unknown family")
