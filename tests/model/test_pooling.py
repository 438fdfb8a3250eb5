"""Windows of a text, packed in any number of parts and pooled, beside all of them in one padded batch of plain
transformers: loss and every gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.errors import refused
from kits.further import FURTHER
from kits.models import (
    COLORS,
    PACKED,
    Built,
    assert_same_gradients,
    build,
    close,
    gradients,
    known,
    plain_inputs,
    random_rows,
    require_kernels,
    without_dropout,
)
from transformers import AutoModelForSequenceClassification

from textune.batches.batch import WindowedBatch, collate_windows
from textune.batches.store import TokenStore
from textune.errors import ModelError
from textune.model.heads import unsplit_head
from textune.model.pooling import WindowPooling

COUNTS = (1, 4, 2, 1, 3)
"""Windows of each example."""
FAMILIES = known("bert", "roberta", "distilbert", "albert", "deberta-v2", "modernbert", "mpnet", "gpt2", "llama")
MANY, FEW, ONE_BY_ONE = 10_000, 40, 16
"""Tokens computed at once: all in one part, several windows in each, nearly every window by itself."""


def windows_of(built: Built) -> TokenStore:
    """Examples with so many windows, all but the last ones of the same length."""
    generator = np.random.default_rng(3)
    lengths = [length for count in COUNTS for length in [16] * (count - 1) + [int(generator.integers(3, 16))]]
    rows = random_rows(built, lengths)
    return TokenStore(
        {"ids": np.concatenate(rows).astype(np.int32)},
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        raw_lengths=np.array(lengths, dtype=np.int32),
        example=np.repeat(np.arange(len(COUNTS)), COUNTS),
    )


def batch_of(built: Built, store: TokenStore, examples: list[int], max_tokens: int) -> WindowedBatch:
    return collate_windows(store, np.array(examples), pad_id=built.model.pad_id, max_tokens=max_tokens, group_cost=8)


def built_with(family: str, folder: Path, pooling: Any) -> Built:
    """A model in training mode without dropout, whose learned attention is no longer the mean."""
    built = build(family, folder)
    without_dropout(built.model)
    learned = built.model.pool_windows(pooling)
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    built.model.train()
    return built


def plain_loss(built: Built, plain: Any, query: torch.Tensor | None, kind: str) -> torch.Tensor:
    """The same written out: every window in one padded batch, one vector for each example, the model's own head."""
    store = windows_of(built)
    rows = [store.ids[store.offsets[i] : store.offsets[i + 1]].tolist() for i in range(len(store))]
    inputs = plain_inputs(built, rows)
    hidden_RLH = plain.base_model(**inputs)[0]
    ends_R = torch.tensor([len(row) for row in rows]) - 1
    left = built.tokenizer.padding_side == "left"
    reads_last = built.family in {"gpt2", "llama"}
    places_R = ends_R if reads_last and not left else torch.zeros_like(ends_R)
    if reads_last and left:
        places_R = torch.full_like(ends_R, hidden_RLH.shape[1] - 1)
    vectors_RH = hidden_RLH[torch.arange(len(rows)), places_R]
    pooled = []
    for vectors_WH in vectors_RH.split(COUNTS):
        if kind == "mean":
            pooled.append(vectors_WH.mean(0))
        elif kind == "max":
            pooled.append(vectors_WH.max(0).values)
        else:
            assert query is not None
            weights_W = torch.softmax(vectors_WH @ query / vectors_WH.shape[1] ** 0.5, 0)
            pooled.append(weights_W @ vectors_WH)
    return loss_of(plain_head(built.family, plain, torch.stack(pooled)))


def plain_head(family: str, plain: Any, vectors_BH: torch.Tensor) -> torch.Tensor:
    """The head of plain transformers on one vector for each example, as a sequence of length 1."""
    sequence_B1H = vectors_BH.unsqueeze(1)
    heads = {
        "bert": lambda: plain.classifier(plain.bert.pooler(sequence_B1H)),
        "roberta": lambda: plain.classifier(sequence_B1H),
        "mpnet": lambda: plain.classifier(sequence_B1H),
        "distilbert": lambda: plain.classifier(plain.pre_classifier(vectors_BH).relu()),
        "albert": lambda: plain.classifier(torch.tanh(plain.albert.pooler(vectors_BH))),
        "deberta-v2": lambda: plain.classifier(plain.pooler(sequence_B1H)),
        "modernbert": lambda: plain.classifier(plain.head(vectors_BH)),
    }
    logits: torch.Tensor = heads.get(family, lambda: plain.score(vectors_BH))()
    return logits


def loss_of(logits_BC: torch.Tensor, examples: list[int] | None = None) -> torch.Tensor:
    """The sum of weighted losses, as a step takes it."""
    targets_B, weights_B = torch.arange(len(COUNTS)) % 3, torch.linspace(0.5, 2.0, len(COUNTS))
    chosen = torch.tensor(range(len(COUNTS)) if examples is None else examples)
    losses_B = torch.nn.functional.cross_entropy(logits_BC, targets_B[chosen], reduction="none")
    return (losses_B * weights_B[chosen]).sum()


def plain_copy(built: Built, folder: Path) -> Any:
    folder.mkdir()
    built.model.save(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    without_dropout(plain)
    return plain.train()


@pytest.mark.every_day(5)
@pytest.mark.parametrize("max_tokens", [MANY, FEW, ONE_BY_ONE])
@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
@pytest.mark.parametrize("family", FAMILIES)
def test_windows_are_those_of_one_padded_batch(tmp_path: Path, family: str, pooling: Any, max_tokens: int) -> None:
    built = built_with(family, tmp_path / "backbone", pooling)
    plain = plain_copy(built, tmp_path / "saved")
    batch = batch_of(built, windows_of(built), [0, 1, 2, 3, 4], max_tokens)
    assert (len(batch.parts) > 1) == (max_tokens != MANY)
    ours = loss_of(built.model(batch))
    query = getattr(built.model.pooling, "query", None)
    query = None if query is None else query.detach().clone().requires_grad_()
    theirs = plain_loss(built, plain, query, pooling)
    close(ours, theirs)
    found = gradients(built.model, ours)
    wanted = {f"hf.{name}": gradient for name, gradient in gradients(plain, theirs).items()}
    if query is not None:
        assert query.grad is not None and query.grad.norm() > 0
        wanted["pooling.query"] = query.grad
    assert_same_gradients(found, wanted)


@pytest.mark.parametrize("max_tokens", [MANY, FEW])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_compiled_kernels_compute_windows(tmp_path: Path, family: str, max_tokens: int) -> None:
    require_kernels()
    built = built_with(family, tmp_path, "attention")
    batch = batch_of(built, windows_of(built), [0, 1, 2, 3, 4], max_tokens)
    plain = loss_of(built.model(batch))
    wanted = gradients(built.model, plain)
    built.model.speed_up(torch.float32, training=True)
    assert built.model.accelerator.kernels is not None
    by_kernels = loss_of(built.model(batch))
    close(by_kernels, plain)
    assert_same_gradients(gradients(built.model, by_kernels), wanted)


@pytest.mark.parametrize("cut", [[[0, 1, 2, 3, 4]], [[0, 3], [2, 4], [1]], [[4], [3], [2], [1], [0]]])
def test_micro_batches_of_any_size_have_the_gradient_of_the_whole(tmp_path: Path, cut: list[list[int]]) -> None:
    built = built_with("bert", tmp_path / "backbone", "attention")
    store = windows_of(built)
    whole = gradients(built.model, loss_of(built.model(batch_of(built, store, [0, 1, 2, 3, 4], MANY))))
    built.model.zero_grad()
    for examples in cut:
        loss_of(built.model(batch_of(built, store, examples, 20)), examples).backward()
    assert_same_gradients({name: p.grad for name, p in built.model.named_parameters() if p.grad is not None}, whole)


@pytest.mark.parametrize("kernels", [False, True])
def test_parts_draw_the_same_dropout_when_they_are_computed_again(tmp_path: Path, kernels: bool) -> None:
    built = build("bert", tmp_path, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2)
    built.model.pool_windows("mean")
    built.model.train()
    if kernels:
        require_kernels()
        built.model.speed_up(torch.float32, training=True)
    batch = batch_of(built, windows_of(built), [1], 20)
    assert len(batch.parts) > 1

    def step(*, keeps: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(7)
        if not keeps:
            loss = built.model(batch).square().sum()
            return loss, gradients(built.model, loss)
        assert built.model.pooling is not None
        vectors = [built.model._vectors(part.ids_T, part) for part in batch.parts]
        pooled_BH = built.model.pooling(torch.cat(vectors), batch.places_R, batch.counts_B)
        loss = built.model.face.outputs(pooled_BH).square().sum()
        return loss, gradients(built.model, loss)

    again, kept = step(keeps=False), step(keeps=True)
    assert torch.equal(again[0], kept[0])
    assert all(torch.equal(again[1][name], gradient) for name, gradient in kept[1].items())


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_a_text_of_one_window_comes_out_as_without_windows(tmp_path: Path, pooling: Any) -> None:
    built = built_with("bert", tmp_path, pooling)
    store = windows_of(built)
    (short,) = batch_of(built, store, [0], MANY).parts
    assert torch.equal(built.model(batch_of(built, store, [0], MANY)), built.model(short))


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_a_text_alone_is_the_text_in_any_batch(tmp_path: Path, pooling: Any) -> None:
    built = built_with("bert", tmp_path, pooling)
    built.model.eval()
    store = windows_of(built)
    together = built.model(batch_of(built, store, [0, 1, 2, 3, 4], MANY))
    for example in range(len(COUNTS)):
        close(built.model(batch_of(built, store, [example], ONE_BY_ONE))[0], together[example])


def test_learned_attention_begins_as_the_mean() -> None:
    vectors_RH = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    places_R, counts_B = torch.tensor([5, 0, 1, 2, 4, 3]), torch.tensor([2, 4])
    mean, attention = (WindowPooling(kind, 8)(vectors_RH, places_R, counts_B) for kind in ("mean", "attention"))
    close(mean, attention)
    close(mean[0], (vectors_RH[5] + vectors_RH[0]) / 2)


def test_what_attention_has_learned_is_saved_and_read(tmp_path: Path) -> None:
    built = built_with("bert", tmp_path / "backbone", "attention")
    (tmp_path / "saved").mkdir()
    built.model.save(tmp_path / "saved")
    assert built.model.pooling is not None
    other = WindowPooling("attention", 32)
    other.read(tmp_path / "saved", required=True)
    assert torch.equal(other.query, built.model.pooling.query)
    with refused(ModelError, place="pooling.safetensors"):
        WindowPooling("attention", 16).read(tmp_path / "saved", required=True)
    with refused(ModelError, place="pooling.safetensors"):
        other.read(tmp_path, required=True)


@pytest.mark.parametrize(
    ("family", "section", "keys"),
    [
        ("bart", {}, {}),
        ("xlnet", {}, {}),
        ("bert", {"attention": "padded"}, {}),
        *[("eurobert", {}, {"classifier_pooling": "late"})] * bool(known("eurobert")),
    ],
)
def test_a_head_that_cannot_be_split_is_refused_by_name(
    tmp_path: Path, family: str, section: dict[str, Any], keys: dict[str, Any]
) -> None:
    built = build(family, tmp_path, labels=COLORS, section=section, **keys)
    with refused(ModelError, key="tokens.long", value="windows"):
        built.model.pool_windows("mean")


@pytest.mark.every_day(5)
@pytest.mark.parametrize("family", known(*PACKED, *FURTHER))
def test_every_family_that_runs_packed_pools_windows(tmp_path: Path, family: str) -> None:
    """In parts as at once, and a text of one window as without a pooling."""
    built = build(family, tmp_path)
    if built.model.layout != "packed" or unsplit_head(built.hf):
        with refused(ModelError, key="tokens.long", value="windows"):
            built.model.pool_windows("attention")
        return
    without_dropout(built.model)
    store = windows_of(built)
    one = batch_of(built, store, [0], MANY)
    wanted = built.model(one.parts[0])
    built.model.pool_windows("attention")
    built.model.train()
    assert torch.equal(built.model(one), wanted)
    losses = [loss_of(built.model(batch_of(built, store, [0, 1, 2, 3, 4], budget))) for budget in (MANY, FEW)]
    close(*losses)
    whole, parts = (gradients(built.model, loss) for loss in losses)
    assert whole["pooling.query"].norm() > 0
    assert_same_gradients(parts, whole)


def test_of_a_text_in_parts_only_one_part_is_held(tmp_path: Path) -> None:
    """Bytes that the forward pass keeps for the backward pass, parameters left out."""
    built = built_with("bert", tmp_path, "mean")
    store = windows_of(built)
    known_to_all = {parameter.untyped_storage().data_ptr() for parameter in built.model.parameters()}

    def held(max_tokens: int) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known_to_all:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits_BC = built.model(batch_of(built, store, [1], max_tokens))
        del logits_BC
        return sum(sizes.values())

    assert held(20) * 20 < held(MANY)
