"""Compact against full vocabulary: the same weights after training, the same saved folder, and when it stays full."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.batches import loader_of, rows_of
from kits.flash import on_gpu
from kits.models import ALL, COLORS, Built, build, lay_out, random_rows
from kits.patience import every_day
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from textune.batches.store import TokenStore
from textune.batches.tokens import TextEncoder
from textune.config.schema import TokensSection, TrainSection
from textune.config.taskkinds import MulticlassTask
from textune.config.updaterules import AdamW, AdamW8bit, ConstantSchedule, LinearSchedule, Lion, ScheduleFree, Sgd
from textune.errors import ConfigError
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.vocabulary import CompactEmbedding, occurring_ids
from textune.tasks.task import build_task
from textune.training.learner import Learner, learner_alone
from textune.training.loop import steps
from textune.training.rules import UPDATE_RULES, cutting_obstacle
from textune.training.updates import build_optimizer

WORDS = ["the", "film", "good", "bad", "very", "plot", "boring"]

DROPOUTS = {
    "distilbert": ["dropout", "attention_dropout", "seq_classif_dropout"],
    "modernbert": ["attention_dropout", "mlp_dropout", "embedding_dropout", "classifier_dropout"],
    "llama": ["attention_dropout"],
    "gemma3": ["attention_dropout"],
    "t5": ["dropout_rate"],
    "bart": ["dropout", "attention_dropout", "activation_dropout"],
}


def still(family: str, folder: Path) -> Built:
    """A tiny model without dropout."""
    names = DROPOUTS.get(family, ["hidden_dropout_prob", "attention_probs_dropout_prob"])
    return build(family, folder, section={"config": dict.fromkeys(names, 0.0)})


def encode(built: Built) -> TokenStore:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(1, 12))) for _ in range(40)]
    return TextEncoder(built.tokenizer, TokensSection(max_length=24)).encode(texts)


def compact(built: Built, ids: np.ndarray | None = None) -> None:
    ids = encode(built).ids if ids is None else ids
    built.model.compact_vocabulary([ids], mode="on")


def train(built: Built, num_steps: int, **keys: Any) -> Learner:
    store = encode(built)
    keys = {"schedule": LinearSchedule(warmup="5 steps"), **keys}  # type: ignore[arg-type]
    section = TrainSection(batch_size=8, **keys)
    rows = rows_of(store, np.arange(len(store)) % 3)
    loader = loader_of(rows, section, layout=built.model.layout, pad_id=built.model.pad_id)
    device = Device(built.hf.device, "fp32")
    task = build_task(MulticlassTask(), {"label": COLORS})
    learner = learner_alone(built.model, section, device)
    results = list(steps(learner, task, loader, section, total_steps=num_steps, warmup_steps=5))
    assert len(results) == num_steps
    built.model.eval()
    return learner


def saved(built: Built, folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir()
    built.model.save(folder)
    return load_file(folder / "model.safetensors")


def table(built: Built, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The word embedding among the saved tensors: the only one with a row for each token id."""
    (found,) = [tensor for tensor in tensors.values() if tensor.shape[:1] == (built.hf.config.vocab_size,)]
    return found


def occurs(built: Built) -> torch.Tensor:
    """bool [V]: ids in the training texts, and the pad token, which T5's decoder starts with."""
    occurring = torch.zeros(built.hf.config.vocab_size, dtype=torch.bool)
    occurring[built.model.pad_id] = True
    occurring[torch.from_numpy(np.unique(encode(built).ids)).long()] = True
    return occurring


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    "family", every_day(["bert", "xlm-roberta", "distilbert", "modernbert", "llama", "deberta-v2"], ("bert", "llama"))
)
def test_fifty_steps_give_the_weights_of_the_full_table(family: str, tmp_path: Path) -> None:
    """With weight decay, clipping and micro-batches; eps keeps AdamW from magnifying rounding errors of the clipped
    norm."""
    keys = {"optimizer": AdamW(lr=1e-3, eps=1e-4, weight_decay=0.1), "max_grad_norm": 0.5, "max_tokens": 60}
    full, ours = still(family, tmp_path / "a"), still(family, tmp_path / "b")
    start = table(full, saved(full, tmp_path / "start"))
    compact(ours)
    for built in (full, ours):
        train(built, 50, **keys)
    theirs, tensors = saved(full, tmp_path / "full"), saved(ours, tmp_path / "compact")

    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        name: tensor.shape for name, tensor in theirs.items()
    }
    for name, tensor in theirs.items():
        assert (tensors[name] - tensor).abs().max() <= 1e-6, name
    left_out = ~occurs(full) & (start.abs().amax(1) > 0.1)
    assert left_out.sum() > len(start) / 2
    assert ((table(full, theirs) - start).abs().amax(1)[left_out] > 1e-4).all()  # the decay is no rounding error

    plain, reference = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name) for name in ("compact", "full")
    )
    ids = torch.tensor(random_rows(full, (9, 9)))  # of any tokens
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, reference(ids).logits, atol=1e-5, rtol=1e-5)


RULES = [
    Sgd(lr=0.05, weight_decay=0.1, momentum=0.9),
    Sgd(lr=0.05, weight_decay=0.1, momentum=0.5, nesterov=True),
    Lion(lr=1e-4, weight_decay=2.0),
    ScheduleFree(lr=1e-3, eps=1e-4, weight_decay=0.1),
]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind} {rule.lr:g}")
def test_it_is_exact_under_every_rule_that_needs_no_whole_weights(rule: Any, tmp_path: Path) -> None:
    """Also of the weights that a rule publishes; unclipped, since Lion's sign turns with the last bit of the norm."""
    assert cutting_obstacle(rule) == ""
    full, ours = still("bert", tmp_path / "a"), still("bert", tmp_path / "b")
    start = table(full, saved(full, tmp_path / "start"))
    compact(ours)
    schedule = ConstantSchedule(warmup="5 steps")  # type: ignore[arg-type]
    first, second = (train(built, 50, optimizer=rule, max_grad_norm=0, schedule=schedule) for built in (full, ours))
    with first.published(), second.published():
        theirs, tensors = saved(full, tmp_path / "full"), saved(ours, tmp_path / "compact")
    for name, tensor in theirs.items():
        assert (tensors[name] - tensor).abs().max() <= 2e-6, name
    left_out = ~occurs(full) & (start.abs().amax(1) > 0.1)
    assert ((table(full, theirs) - start).abs().amax(1)[left_out] > 1e-4).all()  # the decay is no rounding error


def test_the_rules_that_it_is_exact_under_are_all_compared() -> None:
    exact = {kind for kind, rule in UPDATE_RULES.items() if not rule.whole}
    assert exact == {rule.kind for rule in RULES} | {AdamW().kind}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "deberta-v2", "gemma3", "t5", "bart"])
def test_without_decay_and_clipping_every_number_is_the_same(family: str, tmp_path: Path) -> None:
    """Among them a table with a scale (gemma3), and tables that encoder and decoder share (t5, bart)."""
    keys = {"optimizer": AdamW(lr=1e-3, weight_decay=0), "max_grad_norm": 0.0}
    full, ours = still(family, tmp_path / "a"), still(family, tmp_path / "b")
    start = table(full, saved(full, tmp_path / "start"))
    compact(ours)
    for built in (full, ours):
        train(built, 10, **keys)
    tensors = saved(ours, tmp_path / "compact")
    for name, tensor in saved(full, tmp_path / "full").items():
        assert torch.equal(tensors[name], tensor), name
    changed = (table(ours, tensors) != start).any(1)
    assert not changed[~occurs(ours)].any() and changed[occurs(ours)].any()


@on_gpu
def test_a_gpu_gives_the_weights_of_the_full_table(tmp_path: Path) -> None:
    full, ours = still("bert", tmp_path / "a"), still("bert", tmp_path / "b")
    compact(ours)
    for built in (full, ours):
        built.model.to("cuda")
        train(built, 50, optimizer=AdamW(lr=1e-3, eps=1e-4, weight_decay=0.1), max_grad_norm=0.5)
    tensors = saved(ours, tmp_path / "compact")
    for name, tensor in saved(full, tmp_path / "full").items():
        assert (tensors[name] - tensor).abs().max() <= 1e-6, name


@pytest.mark.every_day(1)
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_a_long_constant_decay_is_followed(tmp_path: Path, weight_decay: float) -> None:
    """500 steps of the optimizer itself, without gradient; two rounding errors a step are what may differ."""
    full, ours = still("bert", tmp_path / "a"), still("bert", tmp_path / "b")
    start = table(full, saved(full, tmp_path / "start"))
    compact(ours)
    for built in (full, ours):
        optimizer = build_optimizer(built.model, AdamW(lr=4e-3, weight_decay=weight_decay))
        for parameter in built.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for _ in range(500):
            optimizer.step()
    theirs = table(full, saved(full, tmp_path / "full"))
    mended = table(ours, saved(ours, tmp_path / "compact"))
    left_out = ~occurs(full)
    if weight_decay:
        assert ((mended - theirs).abs() <= 1e-5 * start.abs() + 1e-30)[left_out].all()
        assert ((start - theirs).abs() >= 0.09 * start.abs())[left_out].all()
    else:
        assert torch.equal(mended, start) and torch.equal(theirs, start)


def test_a_step_that_a_scaler_skips_decays_nothing(tmp_path: Path) -> None:
    ours = still("bert", tmp_path / "backbone")
    start = table(ours, saved(ours, tmp_path / "start"))
    compact(ours)
    optimizer = build_optimizer(ours.model, AdamW(lr=1e-2, weight_decay=0.1))
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(())).item()  # a scaler starts at its first use
    for parameter in ours.model.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    assert torch.equal(table(ours, saved(ours, tmp_path / "after")), start)


@pytest.mark.every_day(8)
@pytest.mark.parametrize("family", ALL)
def test_nothing_but_the_embedding_notices(family: str, tmp_path: Path) -> None:
    """Heads and positions compare full ids: logits are the same bits, also with special tokens inside a text."""
    built = build(family, tmp_path)
    rows = random_rows(built, (3, 6, 6, 9))
    pad, eos = built.tokenizer.pad_token_id, built.tokenizer.eos_token_id
    rows[1][1:3] = [pad, pad if eos is None else eos]
    batch = lay_out(built, rows, (1, 3) if built.model.layout == "packed" else None)
    count, total = sum(p.numel() for p in built.model.parameters()), built.model.num_parameters
    assert total == count
    with torch.no_grad():
        before = built.model(batch)
        compact(built, np.array([index for row in rows for index in row], dtype=np.int32))
        assert torch.equal(built.model(batch), before)
    assert built.model.num_parameters == total
    assert sum(p.numel() for p in built.model.parameters()) < count


def test_the_row_of_the_pad_token_gets_no_gradient(tmp_path: Path) -> None:
    full, ours = still("bert", tmp_path / "a"), still("bert", tmp_path / "b")
    pad = 150  # far behind, so that it has another place among the kept rows
    for built in (full, ours):
        built.hf.get_input_embeddings().padding_idx = pad
    compact(ours)
    ids = torch.tensor([[pad, *encode(full).ids[:5].tolist(), pad]])
    reference, embedding = (built.hf.get_input_embeddings() for built in (full, ours))
    reference(ids).sum().backward()
    embedding(ids).sum().backward()
    gradient = embedding.rows.weight.grad
    assert embedding.place_V[pad] != pad
    assert torch.equal(gradient[embedding.place_V[ids]], reference.weight.grad[ids])
    assert not gradient[embedding.place_V[pad]].any() and gradient.any()


def test_ids_that_a_backbone_adds_by_itself_are_kept(tmp_path: Path) -> None:
    built = still("t5", tmp_path)
    built.hf.config.decoder_start_token_id = 60
    built.hf.config.eos_token_id = [1, 61]
    batch = lay_out(built, random_rows(built, (4, 6)))
    compact(built, batch.ids_T.numpy())
    embedding = built.hf.get_input_embeddings()
    assert (embedding.place_V[[60, 61]] < embedding.rows.num_embeddings).all()
    built.hf.config.eos_token_id = 1
    assert torch.isfinite(built.model(batch)).all()


def test_a_text_of_other_tokens_is_refused_until_the_model_is_saved(tmp_path: Path) -> None:
    built = still("bert", tmp_path)
    compact(built)
    other = int(torch.nonzero(~occurs(built))[-1])
    batch = lay_out(built, [[5, 6, other]])
    with torch.no_grad(), pytest.raises(RuntimeError, match="for other texts, use the saved model"):
        built.model(batch)
    built.model.train()
    with pytest.raises(IndexError):
        built.model(batch)
    with pytest.raises(AttributeError):
        built.hf.get_input_embeddings().weight  # noqa: B018 - rows by full ids would be wrong ones


def test_ids_beyond_the_table_still_count_as_unknown(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    num_ids, unknown = built.hf.config.vocab_size, built.tokenizer.unk_token_id
    model = TextModel(built.hf, pad_id=built.model.pad_id, unknown_id=unknown).eval()
    spelt, meant = (lay_out(built, [[10, index, 12]]) for index in (num_ids + 3, unknown))
    with torch.no_grad():
        before = model(meant)
        fact = model.compact_vocabulary([np.array([10, num_ids + 3, 12])], mode="on")
        assert f"of {num_ids} token embeddings" in fact
        assert torch.equal(model(spelt), before) and torch.equal(model(meant), before)


def test_a_live_state_moves_to_another_process(tmp_path: Path) -> None:
    """What a resumed run needs lies in the state of the model: no decay is counted anywhere else."""
    first, second = still("bert", tmp_path / "a"), still("bert", tmp_path / "b")
    for built in (first, second):
        compact(built)
    train(first, 7, optimizer=AdamW(lr=1e-2, weight_decay=0.1))
    second.hf.load_state_dict(first.hf.state_dict())
    theirs, ours = saved(first, tmp_path / "first"), saved(second, tmp_path / "second")
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_saving_twice_is_saving_once(tmp_path: Path) -> None:
    built = still("bert", tmp_path / "backbone")
    compact(built)
    train(built, 3, optimizer=AdamW(lr=1e-2, weight_decay=0.1))
    first, second = saved(built, tmp_path / "first"), saved(built, tmp_path / "second")
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
    assert not built.model.training and isinstance(built.hf.get_input_embeddings(), CompactEmbedding)


# --- when the table stays full ---------------------------------------------------------------------------------------


def freeze(hf: Any) -> None:
    hf.get_input_embeddings().weight.requires_grad_(False)


def tie(hf: Any) -> None:
    hf.classifier = nn.Linear(32, hf.config.vocab_size, bias=False)
    hf.classifier.weight = hf.get_input_embeddings().weight


class Normed(nn.Embedding):
    pass


class OwnClassifier(BertForSequenceClassification):
    pass


def norm(hf: Any) -> None:
    hf.get_input_embeddings().__class__ = Normed


def own_code(hf: Any) -> None:
    hf.__class__ = OwnClassifier


@pytest.mark.parametrize(
    ("change", "obstacle", "reason"),
    [
        (freeze, "", "the token embeddings are frozen"),
        (tie, "", "classifier uses the token embeddings too"),
        (norm, "", "Normed is not a plain table of embeddings"),
        (own_code, "", "OwnClassifier is code of its own"),
        (
            lambda hf: None,
            cutting_obstacle(AdamW8bit()),
            'train.optimizer.kind = "adamw_8bit" keeps its state in blocks',
        ),
    ],
)
def test_where_it_would_not_be_exact_it_is_off_and_says_why(
    tmp_path: Path, change: Callable[[Any], None], obstacle: str, reason: str
) -> None:
    built = build("bert", tmp_path)
    change(built.hf)
    ids = [encode(built).ids]
    with pytest.raises(ConfigError, match=f'compact_vocabulary = "on", but {reason}'):
        built.model.compact_vocabulary(ids, mode="on", rule_obstacle=obstacle)
    assert reason in built.model.compact_vocabulary(ids, mode="auto", rule_obstacle=obstacle)
    assert isinstance(built.hf.get_input_embeddings(), nn.Embedding)


def test_auto_keeps_the_full_table_where_little_is_left_out(tmp_path: Path) -> None:
    built = build("bert", tmp_path)
    num_ids = built.hf.config.vocab_size
    most = np.arange(int(0.9 * num_ids), dtype=np.int32)
    assert f"{len(most)} of {num_ids}" in built.model.compact_vocabulary([most], mode="auto")
    assert 'compact_vocabulary = "off"' in built.model.compact_vocabulary([most[:20]], mode="off")
    assert isinstance(built.hf.get_input_embeddings(), nn.Embedding)
    assert "the others do not occur" in built.model.compact_vocabulary([most], mode="on")
    assert isinstance(built.hf.get_input_embeddings(), CompactEmbedding)


def test_occurring_ids(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("textune.model.vocabulary.CHUNK_IDS", 3)
    np.array([7, 2, 2, 9, 30, 4, 2], dtype=np.int32).tofile(tmp_path / "ids.bin")
    arrays = [np.memmap(tmp_path / "ids.bin", dtype=np.int32, mode="r"), np.zeros(0, dtype=np.int32)]
    assert occurring_ids(arrays, [1, -100, 12], num_ids=12).tolist() == [1, 2, 4, 7, 9]
    assert occurring_ids([], [], num_ids=3).tolist() == []
