"""Loading a backbone: what comes out, what is new, and one sentence for everything that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from kits.backbones import FAMILIES, tiny_backbone
from kits.models import COLORS, PACKED, build, known, lay_out, random_rows
from tokenizers import AddedToken
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, TextClassificationPipeline

from textune.config.schema import ModelSection
from textune.data.labels.map import REGRESSION, LabelMap
from textune.errors import ConfigError, ModelError, TextuneError
from textune.model import pretrained, reading
from textune.model.loading import load_model
from textune.model.pretrained import checkpoint_labels
from textune.model.tokenizer import load_tokenizer

BINARY = LabelMap("binary", ("no", "yes"))
TAGS = LabelMap("multilabel", ("a", "b", "c"))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return tiny_backbone("bert", tmp_path / "bert")


def load(folder: Path, *, labels: LabelMap = COLORS, num_logits: int = 3, seed: int = 1, **section: Any) -> Any:
    model_section = ModelSection(pretrained=str(folder), **section)
    model = load_model(
        model_section, load_tokenizer(model_section), label_maps={"label": labels}, num_logits=num_logits, seed=seed
    )
    model.freeze()
    return model


def refused(kind: type[TextuneError], *parts: str, **call: Any) -> None:
    """Loading stops with one sentence that holds `parts`."""
    with pytest.raises(kind) as caught:
        load(**call)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


# --- what comes out --------------------------------------------------------------------------------------------------


def test_weights_are_those_of_the_checkpoint_and_the_head_starts_new(bert: Path) -> None:
    model = load(bert)
    assert model.notes == ("The classification head is new and will be trained.",)
    saved = safetensors.torch.load_file(bert / "model.safetensors")
    state = model.hf.bert.state_dict()
    assert saved.keys() == state.keys()
    assert all(torch.equal(saved[name], state[name]) for name in saved)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_half_precision_checkpoint_is_read_as_fp32_and_saved_as_fp32(bert: Path, tmp_path: Path) -> None:
    weights = safetensors.torch.load_file(bert / "model.safetensors")
    safetensors.torch.save_file(
        {k: v.bfloat16() for k, v in weights.items()}, bert / "model.safetensors", {"format": "pt"}
    )
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    model = load(bert)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "float32"


def test_weights_that_are_not_used_are_named(tmp_path: Path) -> None:
    model = load(tiny_backbone("roberta", tmp_path))
    assert model.notes[1] == "pooler.dense.bias, pooler.dense.weight of the checkpoint are not used"


def test_a_pooler_that_a_language_model_lacks_starts_new(bert: Path) -> None:
    weights = safetensors.torch.load_file(bert / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    safetensors.torch.save_file(kept, bert / "model.safetensors", {"format": "pt"})
    assert "bert.pooler.dense.bias" in load(bert).notes[0]


def test_the_head_depends_on_the_seed_alone(bert: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = load(bert, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(load(bert, seed=3).hf.classifier.weight, first.hf.classifier.weight)
    assert not torch.equal(load(bert, seed=4).hf.classifier.weight, first.hf.classifier.weight)


@pytest.mark.parametrize(
    ("labels", "num_logits", "problem_type", "names"),
    [
        (BINARY, 2, "single_label_classification", ["no", "yes"]),
        (BINARY, 1, "multi_label_classification", ["yes"]),
        (COLORS, 3, "single_label_classification", ["red", "green", "blue"]),
        (TAGS, 3, "multi_label_classification", ["a", "b", "c"]),
        (REGRESSION, 1, "regression", ["score"]),
    ],
)
@pytest.mark.parity("HF-08", "AZ-03")
def test_the_saved_configuration_says_what_the_outputs_mean(
    labels: LabelMap, num_logits: int, problem_type: str, names: list[str], bert: Path, tmp_path: Path
) -> None:
    model = load(bert, labels=labels, num_logits=num_logits).eval()
    rows = [[2, 5, 3], [2, 5, 6, 3]]
    tokenizer = load_tokenizer(ModelSection(pretrained=str(bert)))
    folder = tmp_path / "saved"
    folder.mkdir()
    model.save(folder)
    tokenizer.save_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    assert config.problem_type == problem_type
    assert [config.id2label[i] for i in range(config.num_labels)] == names
    assert config.label2id == {name: i for i, name in enumerate(names)}
    plain = AutoModelForSequenceClassification.from_pretrained(folder)
    assert plain(torch.tensor(rows[:1])).logits.shape == (1, num_logits)
    assert (folder / "model.safetensors").is_file() and not list(folder.glob("*.bin"))


def test_one_logit_becomes_the_probability_of_the_second_label_in_a_pipeline(bert: Path, tmp_path: Path) -> None:
    model = load(bert, labels=BINARY, num_logits=1).eval()
    model.save(tmp_path)
    tokenizer = load_tokenizer(ModelSection(pretrained=str(bert)))
    pipeline = TextClassificationPipeline(
        model=AutoModelForSequenceClassification.from_pretrained(tmp_path), tokenizer=tokenizer
    )
    (answer,) = pipeline("a good film")
    ids = tokenizer("a good film")["input_ids"]
    built = type("Built", (), {"model": model})()
    logit = model(lay_out(built, [ids]))
    assert answer["label"] == "yes"
    assert answer["score"] == pytest.approx(torch.sigmoid(logit).item(), abs=1e-6)


def test_a_saved_model_is_loaded_again_without_notes(bert: Path, tmp_path: Path) -> None:
    model = load(bert)
    model.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bert / name, tmp_path)
    again = load(tmp_path, seed=9)
    assert again.notes == ()
    theirs = again.hf.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.hf.state_dict().items())
    assert model.layout == "packed" and model.hf.config._attn_implementation == "textune_packed"


def test_a_folder_with_several_weight_files_is_read(bert: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        bert, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1}
    )
    (bert / "model.safetensors").unlink()
    model.save_pretrained(bert, max_shard_size="20KB")
    assert (bert / "model.safetensors.index.json").is_file()
    assert load(bert, labels=BINARY, num_logits=2).notes == ()


def test_transformers_stays_as_it_was(bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    load(bert)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


# --- layout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "gpt2", "deberta-v2", "bart"])
def test_the_layout_follows_the_family_and_says_why(family: str, tmp_path: Path) -> None:
    model = load(tiny_backbone(family, tmp_path))
    assert model.layout == ("packed" if family in PACKED else "padded")
    assert family in model.reason
    assert load(tmp_path, attention="padded").layout == "padded"


def test_packed_cannot_be_forced_on_a_family_without_it(tmp_path: Path) -> None:
    folder = tiny_backbone("xlnet", tmp_path)
    refused(
        ModelError,
        "model.attention",
        "xlnet computes its own kind of attention",
        "modernbert",
        folder=folder,
        attention="packed",
    )


def test_chunked_feed_forward_runs_padded(tmp_path: Path) -> None:
    folder = tiny_backbone("bert", tmp_path)
    model = load(folder, config={"chunk_size_feed_forward": 4})
    assert model.layout == "padded" and "chunk_size_feed_forward" in model.reason


@pytest.mark.parametrize(
    ("family", "positions"),
    [
        ("bert", 512),
        ("roberta", 512),
        ("mpnet", 512),
        ("gpt2", 512),
        ("bart", 512),
        ("distilbert", 512),
        ("t5", None),
        ("xlnet", None),
        ("deberta-v2", None),
    ],
)
def test_max_positions_is_what_the_backbone_can_take(family: str, positions: int | None, tmp_path: Path) -> None:
    built = build(family, tmp_path)
    assert built.model.max_positions == positions
    if positions is not None:
        with torch.no_grad():
            built.model(lay_out(built, random_rows(built, (positions,))))
            with pytest.raises((IndexError, RuntimeError)):
                built.model(lay_out(built, random_rows(built, (positions + 1,))))


# --- configuration ---------------------------------------------------------------------------------------------------


def test_configuration_keys_are_changed_and_saved(bert: Path, tmp_path: Path) -> None:
    model = load(bert, config={"hidden_dropout_prob": 0.33})
    assert model.hf.bert.embeddings.dropout.p == 0.33
    model.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hidden_dropout_prob"] == 0.33


def test_an_attribute_that_a_family_calls_otherwise_is_understood(tmp_path: Path) -> None:
    folder = tiny_backbone("gpt2", tmp_path)
    model = load(folder, config={"num_hidden_layers": 1})
    assert len(model.hf.transformer.h) == 1
    assert model.notes[1].startswith("h.1.attn.c_attn.weight, ") and "and 7 more of the checkpoint" in model.notes[1]


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        (
            {"hiden_dropout_prob": 0.1},
            ["model.config.hiden_dropout_prob", "Did you mean model.config.hidden_dropout_prob?"],
        ),
        ({"zzzzzz": 1}, ["model.config.zzzzzz", "no such key"]),
        ({"num_labels": 7}, ["model.config.num_labels", "the data determines it"]),
        ({"id2label": {}}, ["model.config.id2label", "the data determines it"]),
        ({"hidden_dropout_prob": "much"}, ["model.config.hidden_dropout_prob", "'much'"]),
    ],
)
def test_configuration_keys_that_cannot_be(config: dict[str, Any], parts: list[str], bert: Path) -> None:
    refused(ConfigError, *parts, folder=bert, config=config)


def test_more_layers_than_the_checkpoint_has(bert: Path) -> None:
    refused(
        ModelError,
        "lacks 16 weights",
        "bert.encoder.layer.2",
        "model.config",
        folder=bert,
        config={"num_hidden_layers": 3},
    )


def test_another_width_than_the_checkpoint_has(bert: Path) -> None:
    call = {"folder": bert, "config": {"intermediate_size": 128}}
    refused(ModelError, "bert.encoder.layer.0.intermediate.dense.bias is (64,)", "(128,)", "model.config", **call)
    refused(ModelError, "Only a head can start anew", ignore_mismatched_sizes=True, **call)


# --- heads of another size -------------------------------------------------------------------------------------------


def fine_tuned(bert: Path, labels: dict[int, str]) -> None:
    label2id = {name: index for index, name in labels.items()}
    model = AutoModelForSequenceClassification.from_pretrained(
        bert, id2label=labels, label2id=label2id, ignore_mismatched_sizes=True
    )
    model.save_pretrained(bert)


@pytest.mark.parity("AZ-15", "HF-20")
def test_a_head_of_another_size(bert: Path) -> None:
    fine_tuned(bert, {0: "LABEL_0", 1: "LABEL_1"})  # with names, what stays and what is new is known
    parts = ["classifier.bias", "is (2,)", "must be (3,)", "model.ignore_mismatched_sizes = true"]
    refused(ModelError, *parts, folder=bert)
    model = load(bert, ignore_mismatched_sizes=True)
    assert model.notes == ("The classification head is new and will be trained.",)
    assert model.hf.classifier.weight.shape == (3, 32)
    assert torch.equal(load(bert, ignore_mismatched_sizes=True).hf.classifier.weight, model.hf.classifier.weight)


def test_labels_of_a_fine_tuned_checkpoint(bert: Path) -> None:
    section = ModelSection(pretrained=str(bert))
    assert checkpoint_labels(section) is None
    fine_tuned(bert, {0: "LABEL_0", 1: "LABEL_1"})
    assert checkpoint_labels(section) is None
    fine_tuned(bert, {0: "pos", 1: "neg", 2: "mixed"})
    assert checkpoint_labels(section) == ("pos", "neg", "mixed")


# --- freezing --------------------------------------------------------------------------------------------------------


def trained(model: Any) -> set[str]:
    return {name for name, p in model.hf.named_parameters() if p.requires_grad}


@pytest.mark.parity("TR-06")
def test_a_frozen_backbone_leaves_the_head(bert: Path) -> None:
    assert trained(load(bert, freeze=["backbone"])) == {"classifier.weight", "classifier.bias"}


def test_what_starts_new_is_never_frozen_with_the_backbone(bert: Path) -> None:
    weights = safetensors.torch.load_file(bert / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    safetensors.torch.save_file(kept, bert / "model.safetensors", {"format": "pt"})
    new = {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert trained(load(bert, freeze=["backbone"])) == new


@pytest.mark.every_day(8)
@pytest.mark.parametrize("family", known(*FAMILIES))
def test_frozen_embeddings(family: str, tmp_path: Path) -> None:
    model = load(tiny_backbone(family, tmp_path), freeze=["embeddings"])
    still = {name for name, p in model.hf.named_parameters() if not p.requires_grad}
    assert any(p is model.hf.get_input_embeddings().weight for n, p in model.hf.named_parameters() if n in still)
    assert not any(
        word in name for name in still for word in ("encoder.layer", "attn", "relative", "classif", "score", "h.0")
    )
    assert trained(model)


def test_patterns_of_parameter_names(bert: Path) -> None:
    model = load(bert, freeze=["*.layer.0.*", "embeddings"])
    still = {name for name, p in model.hf.named_parameters() if not p.requires_grad}
    assert len([name for name in still if ".layer.0." in name]) == 16
    assert all(".layer.0." in name or "embeddings" in name for name in still)
    assert "bert.embeddings.LayerNorm.weight" in still


def test_what_is_frozen_can_be_given_back(bert: Path) -> None:
    every = {name for name, _ in load(bert).hf.named_parameters()}
    top = {name for name in every if ".layer.1." in name}
    head = {"classifier.weight", "classifier.bias"}
    assert trained(load(bert, freeze=["backbone"], unfreeze=["*.layer.1.*"])) == head | top
    assert trained(load(bert, freeze=["backbone"], unfreeze=["backbone"])) == every
    norms = {name for name in every if "embeddings.LayerNorm" in name}
    found = trained(load(bert, freeze=["embeddings", "*.layer.0.*"], unfreeze=["*embeddings.LayerNorm*"]))
    assert norms < found and not any(".layer.0." in name or "word_embeddings" in name for name in found)


@pytest.mark.parametrize(
    ("unfreeze", "freeze", "parts"),
    [
        ("layer.1", ["backbone"], ['"layer.1" matches no parameter', "bert.encoder.layer.1"]),
        ("*.layr.1.*", ["backbone"], ['"*.layr.1.*" matches no parameter', "bert.encoder.layer.1"]),
        ("*.layer.11.*", ["backbone"], ['"*.layer.11.*" matches no parameter', "bert.encoder.layer.1"]),
        ("embedings", ["backbone"], ['Did you mean "embeddings"?']),
        ("*.layer.1.*", [], ["matches nothing that model.freeze takes"]),
        ("*.layer.1.*", ["embeddings"], ["matches nothing that model.freeze takes"]),
    ],
)
def test_giving_back_that_cannot_be(unfreeze: str, freeze: list[str], parts: list[str], bert: Path) -> None:
    refused(ConfigError, "model.unfreeze", *parts, folder=bert, freeze=freeze, unfreeze=[unfreeze])


@pytest.mark.parametrize(
    ("freeze", "parts"),
    [
        (["layer.0"], ['"layer.0" matches no parameter', "bert.encoder.layer.0"]),
        (["backbon"], ['"backbon"', 'Did you mean "backbone"?']),
        (["*"], ["leaves nothing to train"]),
        (["backbone", "classifier.*"], ["leaves nothing to train"]),
    ],
)
def test_freezing_that_cannot_be(freeze: list[str], parts: list[str], bert: Path) -> None:
    refused(ConfigError, "model.freeze", *parts, folder=bert, freeze=freeze)


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    refused(
        ModelError,
        f"there is no folder {tmp_path}/modles/bert",
        f"Set model.pretrained to where it is. {tmp_path} holds models",
        folder=tmp_path / "modles" / "bert",
    )


def test_a_file_instead_of_a_folder(bert: Path) -> None:
    refused(ModelError, "config.json is a file", folder=bert / "config.json")


def test_nothing_set() -> None:
    with pytest.raises(ConfigError, match=r"model\.pretrained is not set"):
        load_tokenizer(ModelSection())


def test_a_hub_name_without_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "hub_answers", lambda: False)
    section = ModelSection(pretrained="nobody/such-model")
    for call in (lambda: load_tokenizer(section), lambda: checkpoint_labels(section)):
        with pytest.raises(ModelError) as caught:
            call()
        message = str(caught.value)
        assert "there is no folder nobody/such-model, and no hub model of that name could be fetched" in message
        assert "cannot be reached" in message and "\n" not in message


def test_the_hub_is_asked_only_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error
    import urllib.request

    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(OSError("no route"))

    def not_found(*_: Any, **__: Any) -> None:
        raise urllib.error.HTTPError("u", 404, "not found", None, None)  # type: ignore[arg-type]

    assert not pretrained.hub_answers(), "the tests run offline"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    assert not pretrained.hub_answers()
    monkeypatch.setattr(urllib.request, "urlopen", not_found)
    assert pretrained.hub_answers()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{broken", "not a valid JSON"),
        ("{}", "model_type"),
        ('{"model_type": "nonesuch"}', "nonesuch"),
        ("[1]", "cannot be read"),
    ],
)
def test_a_broken_configuration(content: str, part: str, bert: Path) -> None:
    (bert / "config.json").write_text(content)
    refused(ModelError, "config.json", part, folder=bert)


def test_a_configuration_with_a_wrong_type(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))
    refused(ModelError, "config.json that cannot be read", "hidden_size", folder=bert)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_named(bert: Path, name: str) -> None:
    (bert / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")
    refused(ModelError, f"{name} is a Git LFS pointer, not the file itself", "git lfs pull", folder=bert)


def test_no_configuration(bert: Path) -> None:
    (bert / "config.json").unlink()
    refused(ModelError, "has no config.json", "It holds model.safetensors", folder=bert)
    (bert / "textune.json").write_text("{}")
    refused(ModelError, "an export in one file", "textune export RUN --to hf", folder=bert)


def test_a_model_that_does_not_read_text(bert: Path) -> None:
    (bert / "config.json").write_text('{"model_type": "vit"}')
    refused(ModelError, "no sequence classifier for vit", folder=bert)


def test_code_in_the_folder_is_not_run(bert: Path) -> None:
    (bert / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}')
    (bert / "mine.py").write_text("raise SystemExit('this must not run')")
    refused(ModelError, "its own Python code", "model.trust_remote_code = true", folder=bert)


def test_no_weights(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    refused(ModelError, "has no weights (model.safetensors)", "It holds config.json", folder=bert)


def test_pickled_weights_are_refused(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    refused(ModelError, "only as a pickle (pytorch_model.bin)", "only safetensors", folder=bert)


@pytest.mark.parametrize("kept", [0, 7, 1000, -10])
def test_corrupt_weights(kept: int, bert: Path) -> None:
    content = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(content[:kept])
    refused(ModelError, str(bert), "weights that cannot be read", folder=bert)


def test_a_missing_shard(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "model-00001-of-00002.safetensors"}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(ModelError, "model-00001-of-00002.safetensors", folder=bert)


def test_weights_of_another_family(tmp_path: Path, bert: Path) -> None:
    shutil.copy(tiny_backbone("gpt2", tmp_path / "gpt2") / "model.safetensors", bert)
    refused(ModelError, "lacks", "of a bert backbone", "complete checkpoint", folder=bert)


# --- tokenizers ------------------------------------------------------------------------------------------------------


def test_no_tokenizer(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    refused(ModelError, "has no tokenizer", "model.tokenizer", folder=bert)


def test_a_tokenizer_of_its_own_folder(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert / name).rename(tmp_path / "words" / name)
    assert load(bert, tokenizer=str(tmp_path / "words")).pad_id == 0
    refused(ModelError, "model.tokenizer: there is no folder", folder=bert, tokenizer=str(tmp_path / "word"))


@pytest.mark.parametrize(
    "content", ["{broken", "{}", '{"version": "1.0"}', '{"version": "1.0", "model": {"type": "Magic"}}']
)
def test_a_broken_tokenizer(content: str, bert: Path) -> None:
    (bert / "tokenizer.json").write_text(content)
    refused(ModelError, "tokenizer", str(bert), folder=bert)


def test_an_empty_vocabulary(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    (bert / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    refused(ModelError, "no vocabulary", folder=bert)


def test_a_slow_tokenizer(tmp_path: Path) -> None:
    folder = tiny_backbone("bert", tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    (folder / "vocab.txt").write_text("a\n")
    refused(ModelError, "only a slow tokenizer (CanineTokenizer)", "model.tokenizer", folder=folder)


@pytest.mark.parametrize(("family", "pad"), [("gpt2", "<|endoftext|>"), ("llama", "</s>"), ("bert", "[PAD]")])
@pytest.mark.parity("TW-06")
def test_a_pad_token_in_any_case(family: str, pad: str, tmp_path: Path) -> None:
    built = build(family, tmp_path / "backbone")
    assert built.tokenizer.pad_token == pad
    built.model.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["pad_token_id"] == built.tokenizer.pad_token_id
    assert built.model.pad_id == built.tokenizer.pad_token_id


def test_the_unknown_token_pads_where_there_is_no_eos(tmp_path: Path) -> None:
    folder = tiny_backbone("llama", tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))
    assert load_tokenizer(ModelSection(pretrained=str(folder))).pad_token == "<unk>"
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None, "unk_token": None}))
    refused(ModelError, "no pad, eos or unknown token", folder=folder)


def test_a_tokenizer_that_is_larger_than_the_embeddings(bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    rows = len(tokenizer)
    tokenizer.add_tokens(["superb"])
    tokenizer.save_pretrained(bert)
    refused(
        ModelError, f"{rows + 1} token ids", '"superb" is', f"only {rows} embeddings", "model.tokenizer", folder=bert
    )


def test_special_tokens_without_an_embedding_count_as_unknown(bert: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bert)
    tokenizer.add_tokens([AddedToken("<image>", special=True)], special_tokens=True)
    tokenizer.save_pretrained(bert)
    model = load(bert).eval()
    assert "<image> have no embedding; in a text they count as [UNK]" in model.notes
    built = type("Built", (), {"model": model})()
    ids = tokenizer("a <image> film")["input_ids"]
    assert max(ids) == len(tokenizer) - 1
    unknown = [tokenizer.unk_token_id if index == max(ids) else index for index in ids]
    with torch.no_grad():
        assert torch.equal(model(lay_out(built, [ids])), model(lay_out(built, [unknown])))


def test_weights_are_copied_as_they_are() -> None:
    """Tied ones stay tied; a transposed view, and empty tensors of two types, stay what they are."""
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.arange(9.0).reshape(3, 3))
    module.tied = torch.nn.Parameter(module.weight.data)
    module.turned = torch.nn.Parameter(module.weight.data.T)
    module.register_buffer("numbers", torch.empty(0))
    module.register_buffer("ids", torch.empty(0, dtype=torch.int64))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    source = module.weight.data_ptr()
    reading._own(module)
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, before[name]), name
    assert module.weight.data_ptr() == module.tied.data_ptr() != source
