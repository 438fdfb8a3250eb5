"""`transformer_spec`: weights, tokenizer, low-rank adapters and weights of few bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from textune.adapters.foreign import LeftOut, Line
from textune.adapters.trainingwizard.given import Given, read_table
from textune.adapters.trainingwizard.keys import FEW_BITS, GPTQ, LORA
from textune.adapters.trainingwizard.modules import Module, saved_json
from textune.adapters.trainingwizard.sources import Remarks
from textune.config import Problem, parse_key

USUAL_POSITIONS = 512
"""Positions of most encoders, where nothing on this machine says how many a model has."""
_ENDLESS = 1_000_000
"""A `model_max_length` beyond this means that nobody knows."""
_MODEL_KEYS = {"revision": "revision", "trust_remote_code": "trust_remote_code"}
_ONLY_MODEL_KEYS = {**_MODEL_KEYS, "ignore_mismatched_sizes": "ignore_mismatched_sizes"}
_OF_THE_HUB = "it says where the library finds files and how it reads them, and changes no weight"
_UNUSED_FOR_WEIGHTS = {
    **dict.fromkeys(
        (
            *("cache_dir", "token", "use_auth_token", "local_files_only", "force_download", "resume_download"),
            *("low_cpu_mem_usage", "use_safetensors", "proxies", "weights_only", "return_dict", "max_memory"),
        ),
        _OF_THE_HUB,
    ),
    "attn_implementation": "textune computes attention by its own kernels, with the same result",
    "problem_type": "loss_type says it",
    "label2id": "id2label, or the labels themselves, say it",
    "id2label": "labels of several tasks are called by their numbers, and a number has none",
    "use_cache": "a classifier keeps no keys and values of earlier tokens",
}
_UNUSED_FOR_TOKENS = {
    **dict.fromkeys(("cache_dir", "token", "local_files_only", "force_download", "legacy", "from_slow"), _OF_THE_HUB),
    "use_fast": "the fast tokenizer is taken wherever there is one",
    "padding_side": "a row's result does not depend on its padding",
    "clean_up_tokenization_spaces": "no tokens become text again",
    "padding": "rows are padded to the longest of a batch, or not at all",
    "return_tensors": "as there, it is always the same",
    "return_attention_mask": "as a model needs it",
    "return_token_type_ids": "as a model needs it",
    "verbose": "it is about warnings",
    "model_max_length": "max_length says where texts are cut",
}
_TRUNCATIONS = (True, "longest_first", "only_first", "only_second")


def model_lines(module: Module, merge: Given, remarks: Remarks) -> Iterator[Line]:
    """The section `model`. `merge`: whether adapters are added to the weights at the end."""
    table = module.transformer
    yield Line("model.pretrained", table["pretrained_name"], table.origin("pretrained_name"))
    for name, one in module.of_model("from_pretrained_kwargs").items():
        if name in _ONLY_MODEL_KEYS:
            yield Line(f"model.{_ONLY_MODEL_KEYS[name]}", one.value, one.origin)
        elif name == "id2label" and module.name == "SequenceClassifierModule":
            continue  # data.labels.names
        elif name in _UNUSED_FOR_WEIGHTS:
            _leave_out(one, _UNUSED_FOR_WEIGHTS[name], remarks)
        elif name in ("quantization_config", "subfolder", "variant", "gguf_file", "adapter_kwargs"):
            hint = "Use quantization_spec." if name.startswith("quant") else "Name the folder in pretrained_name."
            remarks.problems.append(one.problem("this cannot be passed on.", hint))
        elif name not in ("num_labels", "torch_dtype", "dtype"):
            yield Line(f"model.config.{name}", one.value, one.origin)
    if table["tokenizer_special_tokens"]:
        given = table.given("tokenizer_special_tokens")
        hint = (
            "Add them once and save both: tokenizer.add_special_tokens(...),"
            " model.resize_token_embeddings(len(tokenizer)), save_pretrained; then name that folder."
        )
        remarks.problems.append(given.problem("a classifier is not given tokens while it is trained.", hint))
    yield from _lora_lines(module, merge, remarks)
    yield from _few_bits_lines(module, remarks)


def _leave_out(one: Given, reason: str, remarks: Remarks) -> None:
    remarks.left_out.append(LeftOut(one.key, reason))


def weights_type(module: Module) -> Given | None:
    """The type of the weights that `torch_dtype` asks for, where it is not fp32."""
    kwargs = module.of_model("from_pretrained_kwargs")
    given = kwargs.get("torch_dtype") or kwargs.get("dtype")
    return None if given is None or given.value in ("fp32", "float32") else given


def tokens_lines(module: Module, remarks: Remarks) -> Iterator[Line]:
    """The section `tokens`. Without `truncation`, a text that does not fit is refused: there it fails or is read."""
    given = {**module.of_model("tokenizer_init_kwargs"), **module.of_model("tokenizer_call_kwargs")}
    truncation, longest = given.pop("truncation", None), given.pop("max_length", None)
    side = given.pop("truncation_side", None)
    cuts = truncation is not None and truncation.value in _TRUNCATIONS
    if truncation is not None and not cuts and truncation.value not in (False, "do_not_truncate"):
        remarks.problems.append(truncation.problem("expected true, false, or one of the tokenizer's strategies."))
    if truncation is not None and truncation.value in ("only_first", "only_second"):
        remarks.notes.append(f"Of a pair the longer text is shortened first, whatever {truncation.said} says.")
    if longest is not None and (not isinstance(longest.value, int) or longest.value < 2):
        remarks.problems.append(longest.problem("this is no number of tokens."))
    elif longest is not None and cuts:
        yield Line("tokens.max_length", longest.value, longest.origin)
    else:
        yield Line("tokens.max_length", *_own_length(module))
    if not cuts:
        origin = "default of truncation" if truncation is None else truncation.origin
        yield Line("tokens.truncate", "error", f"{origin}: nothing is cut")
        remarks.notes.append("Texts are not cut, as truncation is not set: one that is too long for the model stops.")
    elif side is not None and side.value == "left":
        yield Line("tokens.truncate", "tail", side.origin)
    yield from _other_lines(given, remarks)


def _own_length(module: Module) -> tuple[int, str]:
    """The longest row of the tokenizer or the model, as far as it is known without loading either."""
    pretrained = module.transformer["pretrained_name"]
    for file, key in (("tokenizer_config.json", "model_max_length"), ("config.json", "max_position_embeddings")):
        length = saved_json(pretrained, file).get(key)
        if isinstance(length, int) and 2 <= length < _ENDLESS:
            return length, f"{key} of {pretrained}"
    return USUAL_POSITIONS, "default of max_length: as many tokens as most encoders read"


def _other_lines(given: Mapping[str, Given], remarks: Remarks) -> Iterator[Line]:
    """What else a tokenizer is made or called with."""
    for name, one in given.items():
        if name == "pad_to_multiple_of":
            yield Line("tokens.pad_multiple", one.value, one.origin)
        elif name == "add_special_tokens" and one.value is True:
            _leave_out(one, "as it is anyway", remarks)
        elif name in _UNUSED_FOR_TOKENS:
            _leave_out(one, _UNUSED_FOR_TOKENS[name], remarks)
        elif name in _MODEL_KEYS:
            _leave_out(one, f"model.{_MODEL_KEYS[name]} is for the tokenizer, too", remarks)
            if one.value not in (False, "main"):
                yield Line(f"model.{_MODEL_KEYS[name]}", one.value, one.origin)
        else:
            hint = "Save the tokenizer with it beside the model, and name that folder in pretrained_name."
            remarks.problems.append(one.problem("a tokenizer is taken as it is saved.", hint))


def _lora_lines(module: Module, merge: Given, remarks: Remarks) -> Iterator[Line]:
    """`model.lora`."""
    if module.transformer["lora_spec"] is None:
        if merge.value and not merge.is_default:
            remarks.left_out.append(LeftOut(merge.key, "there is no lora_spec"))
        return
    place = (*module.transformer.place, "lora_spec")
    tree = module.transformer["lora_spec"]
    table = read_table(module.table.file, place, tree, LORA, remarks.problems, open_ended=True)
    targets = table["target_modules"]
    if isinstance(targets, str) and targets != "all-linear" and not targets.replace("_", "").isalnum():
        hint = 'Write a list, such as target_modules = ["query", "value"].'
        remarks.problems.append(table.given("target_modules").problem("this is a regular expression.", hint))
    yield Line("model.lora.r", table["r"], table.origin("r"))
    yield Line("model.lora.alpha", float(table["lora_alpha"]), table.origin("lora_alpha"))
    yield Line("model.lora.dropout", table["lora_dropout"], table.origin("lora_dropout"))
    yield Line("model.lora.bias", table["bias"], table.origin("bias"))
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    yield Line("model.lora.targets", targets, table.origin("target_modules"))
    yield Line("model.lora.merge", "end" if merge.value else "command", merge.origin)
    options = dict(table.more)
    for name in ("task_type", "modules_to_save", "inference_mode"):
        if options.pop(name, None) is not None:
            _leave_out(table.given(name), "the head of a classifier is trained and saved as a whole anyway", remarks)
    if options:
        yield Line("model.lora.options", options, "lora_spec")
    if "task_type" not in table.more:
        remarks.notes.append(
            "The head is trained as a whole beside the adapters; there it stays as it was drawn, but for a low-rank"
            " update, since lora_spec has no task_type."
        )


def _few_bits_lines(module: Module, remarks: Remarks) -> Iterator[Line]:
    """`model.quantize`."""
    tree: Any = module.transformer["quantization_spec"]
    if tree is None:
        return
    place = parse_key(module.transformer.given("quantization_spec").key)
    file = module.table.file
    if isinstance(tree, Mapping) and "bits" in tree:
        table = read_table(file, place, tree, GPTQ, remarks.problems)
        for name in GPTQ:
            _leave_out(table.given(name), "the files of a GPTQ model say how its weights are kept", remarks)
        return
    table = read_table(file, place, tree, FEW_BITS, remarks.problems)
    if not table["load_in_4bit"]:
        _leave_out(table.given("load_in_4bit"), "weights are loaded as they are", remarks)
        return
    if module.transformer["lora_spec"] is None:
        message = f"{module.transformer.given('quantization_spec').key} ({file.place(place)}) without lora_spec:"
        message += " weights of 4 bits cannot be trained themselves."
        remarks.problems.append(Problem(place, message, "Add a table lora_spec, which may be empty."))
    compute = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}
    yield Line("model.quantize.bits", 4, table.origin("load_in_4bit"))
    yield Line("model.quantize.kind", table["bnb_4bit_quant_type"], table.origin("bnb_4bit_quant_type"))
    yield Line("model.quantize.double", table["bnb_4bit_use_double_quant"], table.origin("bnb_4bit_use_double_quant"))
    yield Line(
        "model.quantize.compute", compute[table["bnb_4bit_compute_dtype"]], table.origin("bnb_4bit_compute_dtype")
    )
