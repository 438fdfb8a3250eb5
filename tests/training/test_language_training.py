"""Language models in training: micro-batches of any size, any number of ranks, weights cut over ranks and tied."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from kits import language_ranks
from kits.batches import loader_of
from kits.language_ranks import CPU, TASK, chunks, model_of, section_of, state_of, trained
from kits.languages import plain_language, tiny_language_model
from kits.patience import every_day
from kits.rankscripts import run_ranks
from safetensors.torch import load_file
from torch.nn import functional

from textune.batches.batch import Batch
from textune.model import nats
from textune.model.recompute import checkpoint_gradients
from textune.training.learner import learner_alone
from textune.training.microbatch import accumulate_gradients

LONGEST_ROW = language_ranks.LONGEST
GRID = [(family, layout) for family in ("gpt2", "llama", "gemma2") for layout in ("packed", "padded")]


@pytest.mark.parametrize(("family", "layout"), every_day(GRID, [("gpt2", "packed"), ("llama", "padded")]))
def test_fifty_steps_of_micro_batches_give_the_weights_of_whole_batches(
    family: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uneven masks, rows without a scored token, and pieces of two tokens beside pieces of all."""
    folder = tiny_language_model(family, tmp_path)
    rows = chunks(60)
    found = {}
    for max_tokens, piece_bytes in ((LONGEST_ROW, 1 << 26), (70, 4 * 2 * 2000), (10_000, 1 << 26)):
        monkeypatch.setitem(nats.PIECE_BYTES, "cpu", piece_bytes)
        model = model_of(folder, attention=layout)
        section = section_of(max_tokens)
        learner = learner_alone(model, section, CPU)
        assert len(list(trained(learner, section, num_steps=50, rows=rows))) == 50
        found[max_tokens] = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for max_tokens in (LONGEST_ROW, 70):
        for name, whole in found[10_000].items():
            assert (found[max_tokens][name] - whole).abs().max() <= 1e-6, (name, max_tokens)


def test_the_loss_of_a_batch_is_the_mean_over_its_tokens_in_plain_transformers(tmp_path: Path) -> None:
    """And so is its gradient, whatever the micro-batches."""
    folder = tiny_language_model("gpt2", tmp_path)
    model, plain, rows = model_of(folder), plain_language(folder), chunks(8)
    batch = next(iter(loader_of(rows, section_of(40), layout="packed", pad_id=model.pad_id)))
    assert len(batch.micro_batches) > 2
    loss = accumulate_gradients(learner_alone(model, section_of(40), CPU), TASK, batch)
    total, tokens = torch.zeros(()), 0
    for row in range(8):
        span = slice(int(rows.store.offsets[row]), int(rows.store.offsets[row + 1]))
        ids = torch.from_numpy(rows.store.columns["ids"][span].astype("int64"))
        labels = ids.masked_fill(torch.from_numpy(rows.store.columns["mask"][span]) == 1, -100)
        logits = plain(ids.unsqueeze(0)).logits[0]
        total = total + functional.cross_entropy(logits[:-1], labels[1:], ignore_index=-100, reduction="sum")
        tokens += int((labels[1:] != -100).sum())
    (total / tokens).backward()
    assert float(loss) == pytest.approx(float(total.detach() / tokens), rel=1e-6)
    theirs = dict(plain.named_parameters())
    for name, parameter in model.hf.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("world", "max_tokens", "lockstep"), [(2, 10_000, False), (4, 60, False), (4, 60, True)])
def test_the_gradients_of_all_ranks_add_up_to_that_of_the_whole_batch(
    tmp_path: Path, world: int, max_tokens: int, lockstep: bool
) -> None:
    model = model_of(tiny_language_model("llama", tmp_path))
    rows, section = chunks(19), section_of(max_tokens)

    def gradients(batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad(set_to_none=True)
        loss = float(accumulate_gradients(learner_alone(model, section, CPU), TASK, batch))
        return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    place = {"layout": model.layout, "pad_id": model.pad_id}
    alone = loader_of(rows, section, **place)  # type: ignore[arg-type]
    shared = [
        loader_of(rows, section, rank=rank, world=world, lockstep=lockstep, **place)  # type: ignore[arg-type]
        for rank in range(world)
    ]
    for whole, *parts in islice(zip(alone, *shared, strict=False), 3):
        loss, expected = gradients(whole)
        ranks = [gradients(batch) for batch in parts]
        assert sum(part_loss for part_loss, _ in ranks) == pytest.approx(loss, abs=1e-6)
        for name, gradient in expected.items():
            total = torch.stack([found[name] for _, found in ranks]).sum(dim=0)
            # Sums of the same terms in another order: each of them rounds.
            torch.testing.assert_close(
                total, gradient, rtol=1e-5, atol=2e-6, msg=lambda said, name=name: f"{name}: {said}"
            )


def test_layers_that_are_computed_again_train_the_same_weights(tmp_path: Path) -> None:
    folder = tiny_language_model("gpt2", tmp_path)
    found = []
    for again in (False, True):
        model = model_of(folder)
        if again:
            checkpoint_gradients(model)
        list(trained(learner_alone(model, section_of(), CPU), section_of(), num_steps=5, rows=chunks(30)))
        found.append(model.state_dict())
    assert all(torch.equal(found[1][name], tensor) for name, tensor in found[0].items())


# --- several processes -----------------------------------------------------------------------------------------------

FSDP = {"kind": "fsdp"}
LORA = {"r": 4, "targets": ["q_proj", "lm_head"]}


def zero(folder: Path, stage: int) -> dict[str, Any]:
    path = folder / f"{stage}.json"
    # Small weights would stay whole on every rank, and the test would show nothing.
    parted = {"stage3_param_persistence_threshold": 0} if stage == 3 else {}
    path.write_text(json.dumps({"zero_optimization": {"stage": stage} | parted}))
    return {"kind": "deepspeed", "stage": stage, "config": str(path)}


def compare(folder: Path, kinds: dict[str, dict[str, Any]], *, world: int) -> None:
    """Weights, moments and losses of several ranks beside those of one process, and the saved model in plain
    transformers."""
    tiny_language_model("gpt2", folder / "tied")
    tiny_language_model("llama", folder / "untied", tie_word_embeddings=False)
    (folder / "kinds.json").write_text(json.dumps(kinds))
    said = run_ranks(Path(language_ranks.__file__), "train", str(folder), world=world)
    assert said == [""] * world
    for name, keys in kinds.items():
        lora = {"lora": language_ranks.Lora(**keys["lora"])} if "lora" in keys else {}
        model = model_of(folder / keys["model"], **lora)
        learner = learner_alone(model, section_of(), CPU)
        losses = list(trained(learner, section_of(), num_steps=6, rows=chunks(30)))
        expected, there = state_of(learner), load_file(folder / f"{name}.safetensors")
        assert there.keys() == expected.keys(), name
        for key, tensor in expected.items():
            assert (there[key] - tensor).abs().max() <= 1e-5, (name, key)
        shares = [json.loads((folder / f"{name}.{rank}.json").read_text()) for rank in range(world)]
        assert [sum(of_step) for of_step in zip(*shares, strict=True)] == pytest.approx(losses, rel=1e-5), name
        plain, ids = plain_language(folder / name), torch.tensor([[5, 6, 7, 8]])
        model.set_layout("padded")
        with torch.no_grad():
            torch.testing.assert_close(plain(ids).logits, model.hf.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_copies_and_slices_of_weights_train_as_one_process(world: int, tmp_path: Path) -> None:
    ddp = {"kind": "ddp"}
    compare(
        tmp_path,
        {
            "copies": {"distributed": ddp, "model": "tied", "max_tokens": 40},
            "slices-tied": {"distributed": FSDP, "model": "tied", "max_tokens": 40},
            "slices-untied": {"distributed": FSDP, "model": "untied", "max_tokens": 40, "checkpointing": True},
        },
        world=world,
    )


@pytest.mark.slow
def test_partitions_of_every_stage_train_as_one_process(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    kinds: dict[str, dict[str, Any]] = {
        f"{model}-{stage}": {"distributed": zero(tmp_path, stage), "model": model, "max_tokens": 40}
        for model in ("tied", "untied")
        for stage in (1, 2, 3)
    }
    three = {"distributed": zero(tmp_path, 3), "max_tokens": 40}
    kinds["again"] = three | {"model": "tied", "checkpointing": True}
    kinds["adapted"] = three | {"model": "untied", "lora": LORA}
    kinds["adapted-slices"] = kinds["adapted"] | {"distributed": FSDP}
    compare(tmp_path, kinds, world=2)
