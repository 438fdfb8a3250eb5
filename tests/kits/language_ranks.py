"""A language model in training, for tests: the same rows with masks, weights and steps in every process; and what each
rank does: `python language_ranks.py train FOLDER`, where results go as safetensors and JSON."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file

from kits.batches import loader_of, rows_of
from textune.batches.rows import TokenRows
from textune.batches.store import TokenStore
from textune.config.adapters import Lora
from textune.config.schema import ModelSection, TrainSection
from textune.config.sharing import Distributed
from textune.config.taskkinds import ConditionalLmTask
from textune.config.updaterules import AdamW, LinearSchedule
from textune.data.labels.map import LABEL, LANGUAGE
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.language import load_language_model
from textune.model.recompute import checkpoint_gradients
from textune.model.tokenizer import load_tokenizer
from textune.ranks import ALONE, Ranks, join, leave
from textune.tasks.task import build_task
from textune.training.learner import Learner, build_learner
from textune.training.loop import steps

CPU = Device(torch.device("cpu"), "fp32")
TASK = build_task(ConditionalLmTask(), {LABEL: LANGUAGE})
LONGEST = 30


def chunks(num_rows: int, *, num_ids: int = 100) -> TokenRows:
    """Rows of random ids with masks; some have no scored token at all."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, LONGEST, num_rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = generator.integers(4, num_ids, offsets[-1]).astype(np.int32)
    share = np.repeat(generator.choice([0.0, 0.3, 0.9, 1.0], num_rows), lengths)
    mask = (generator.random(offsets[-1]) < share).astype(np.uint8)
    store = TokenStore(
        {"ids": ids, "mask": mask}, offsets, lengths.astype(np.int32), np.arange(num_rows, dtype=np.int64)
    )
    scored = [int((mask[start + 1 : end] == 0).sum()) for start, end in itertools.pairwise(offsets)]
    targets = np.zeros((num_rows, 3), np.int64)
    targets[:, 0] = scored
    return rows_of(store, targets)


def section_of(max_tokens: int = 10_000, **keys: Any) -> TrainSection:
    """Steps of eight rows; the smallest second moments are not divided by rounding errors."""
    return TrainSection(
        batch_size=8,
        max_tokens=max_tokens,
        optimizer=AdamW(lr=1e-3, eps=1e-4),
        schedule=LinearSchedule(warmup="5 steps"),  # type: ignore[arg-type]
        prefetch=0,
        **keys,
    )


def model_of(folder: Path, **keys: Any) -> TextModel:
    """The language model in `folder`, without dropout."""
    section = ModelSection(**{"pretrained": str(folder), "compile": "off"} | keys)
    model = load_language_model(section, load_tokenizer(section), seed=0)
    if section.lora is not None:
        model.adapt(section.lora, seed=0)
    model.freeze()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def trained(learner: Learner, section: TrainSection, *, num_steps: int, rows: TokenRows) -> Iterator[float]:
    """The loss of each step, of which every rank has its share."""
    ranks = learner.ranks
    share = {"rank": ranks.rank, "world": ranks.world, "lockstep": learner.lockstep}
    loader = loader_of(rows, section, layout=learner.model.layout, pad_id=learner.model.pad_id, **share)
    for result in steps(learner, TASK, loader, section, total_steps=num_steps, warmup_steps=5):
        yield float(result.loss)


def state_of(learner: Learner) -> dict[str, torch.Tensor]:
    """Every weight and what the optimizer holds, as a checkpoint has it."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in learner.tensors()}


def train(folder: Path, ranks: Ranks) -> None:
    """Each kind of FOLDER/kinds.json from the start: where weights end after six steps, and the saved model."""
    for name, keys in json.loads((folder / "kinds.json").read_text()).items():
        distributed: Any = TypeAdapter(Distributed).validate_python(keys["distributed"])
        section = section_of(keys["max_tokens"], distributed=distributed)
        lora = {"lora": Lora(**keys["lora"])} if "lora" in keys else {}
        model = model_of(folder / keys["model"], **lora)
        if keys.get("checkpointing"):
            checkpoint_gradients(model)
        learner = build_learner(model, section, CPU, ranks)
        losses = list(trained(learner, section, num_steps=6, rows=chunks(30)))
        tensors, whole = state_of(learner), learner.model_state()
        (folder / f"{name}.{ranks.rank}.json").write_text(json.dumps(losses))
        if ranks.is_first:
            save_file(tensors, folder / f"{name}.safetensors")
            (folder / name).mkdir()
            model.save(folder / name, whole)
        ranks.wait()


if __name__ == "__main__":
    torch.manual_seed(0)
    together = join(group_needed=True)
    assert together != ALONE
    train(Path(sys.argv[2]), together)
    leave()
