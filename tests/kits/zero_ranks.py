"""What each rank does in test_zero.py: `python zero_ranks.py SCENARIO FOLDER`; results go to FOLDER as safetensors and
JSON."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from textune.batches.batch import MicroBatch, collate
from textune.batches.tokens import TextEncoder
from textune.config.schema import ModelSection, TokensSection, TrainSection
from textune.config.sharing import DeepSpeed
from textune.config.taskkinds import MulticlassTask
from textune.config.updaterules import AdamW
from textune.data.labels.map import LabelMap
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.loading import load_model
from textune.model.recompute import checkpoint_gradients
from textune.model.tokenizer import load_tokenizer
from textune.ranks import ALONE, Ranks, join, leave
from textune.tasks.task import build_task
from textune.training.learner import Learner, build_learner

WORDS = ["the", "a", "film", "movie", "good", "bad", "very", "boring", "brilliant", "plot"]
ROWS_A_STEP = (7, 8, 5, 7, 3, 8, 7, 6)
"""Rows of the steps: uneven, and so are the ranks' shares."""
TASK = build_task(MulticlassTask(class_weights={"b": 4.0}), {"label": LabelMap("multiclass", ("a", "b", "c"))})


RATED = AdamW(lr=1e-3, eps=1e-4, weight_decay=0.1, layer_decay=0.8, head_lr=2e-3)
"""With a rate for each layer, so that DeepSpeed has many groups of weights."""
MODEL_KEYS = "model-keys.json"
"""In a folder, further keys of `model`."""
TOO_LARGE = 2.0**121
"""A loss scale that no fp16 gradient stands."""
NO_DROPOUT = {
    "bart": dict.fromkeys(["dropout", "attention_dropout", "activation_dropout", "classifier_dropout"], 0.0),
    "t5": {"dropout_rate": 0.0},
}
"""Families whose dropout is no module."""


class Work:
    """The same rows, weights and model in every process."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        generator = np.random.default_rng(0)
        texts = [" ".join(generator.choice(WORDS, generator.integers(1, 30))) for _ in range(40)]
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        of_folder = json.loads((folder / MODEL_KEYS).read_text()) if (folder / MODEL_KEYS).is_file() else {}
        self.section = ModelSection(
            **{"pretrained": str(folder / "backbone"), "config": dropout, "compile": "off"} | of_folder | changes
        )
        self.tokenizer = load_tokenizer(self.section)
        self.store = TextEncoder(self.tokenizer, TokensSection(max_length=40, cache=str(folder / "tokens"))).encode(
            texts
        )
        self.lengths = np.diff(self.store.offsets)
        self.targets = torch.from_numpy(generator.integers(0, 3, len(texts)))
        self.weights = torch.from_numpy(generator.random(len(texts)).astype(np.float32))

    def model(self) -> TextModel:
        model = load_model(self.section, self.tokenizer, label_maps=TASK.label_maps, num_logits=3, seed=0)
        if self.section.lora is not None:
            model.adapt(self.section.lora, seed=0)
        model.freeze()
        return model

    def steps(self, learner: Learner, first: int, last: int, *, at_once: int = 2) -> list[dict[str, float]]:
        """Train and return each step's loss (this rank's share), gradient norm and learning rate."""
        done = []
        for step in range(first, last):
            learner.model.train()
            learner.set_learning_rate(1e-3 * (step + 1) / len(ROWS_A_STEP))
            rows = np.random.default_rng(step).permutation(40)[: ROWS_A_STEP[step]]
            shares = TASK.head.row_weights(self.targets[rows], self.weights[rows])
            shares = dict(zip(rows.tolist(), shares / shares.sum(), strict=True))
            parts = self.parts(rows, learner, at_once)
            learner.zero_grad()
            loss = 0.0
            for number, part in enumerate(parts, start=1):
                tokens = collate(self.store, part, layout=learner.model.layout, pad_id=learner.model.pad_id)
                micro_batch = MicroBatch(tokens, {"label": self.targets[part]}, None)
                weights_B = torch.stack([shares[int(row)] for row in part])
                loss += float(learner.compute(micro_batch, TASK, {"label": weights_B}, last=number == len(parts)))
            norm = learner.step()
            learner.zero_grad()
            done.append({"loss": loss, "norm": float(norm), "lr": learner.update.learning_rate})
        return done

    def parts(self, rows: np.ndarray, learner: Learner, at_once: int) -> list[np.ndarray]:
        """This rank's micro-batches of at most so many rows; for a learner in lockstep as many as the other ranks
        have."""
        ranks = learner.ranks
        mine = rows[ranks.rank :: ranks.world]
        most = -(-len(rows) // ranks.world) if learner.lockstep else len(mine)
        return np.array_split(mine[np.argsort(self.lengths[mine], kind="stable")], -(-most // at_once))


def without_dropout(model: TextModel) -> TextModel:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def train_section(distributed: Any = None, **keys: Any) -> TrainSection:
    chosen = {"distributed": distributed} if distributed else {}
    return TrainSection(batch_size=8, optimizer=RATED, **chosen, **keys)


def state_of(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone().contiguous() for name, tensor in learner.tensors()}


def load_state(learner: Learner, folder: Path, name: str) -> None:
    tensors = load_file(folder / f"{name}.safetensors")
    learner.restore(set(tensors), tensors.__getitem__, json.loads((folder / f"{name}.json").read_text())["numbers"])


def save_state(learner: Learner, folder: Path, name: str, **facts: Any) -> None:
    tensors = state_of(learner)
    if learner.ranks.is_first:
        save_file(tensors, folder / f"{name}.safetensors")
    facts |= {"numbers": learner.numbers(), "lockstep": learner.lockstep}
    path = folder / (f"{name}.json" if learner.ranks.is_first else f"{name}.{learner.ranks.rank}.json")
    path.write_text(json.dumps(facts))


def compare(folder: Path, ranks: Ranks) -> None:
    """Each kind from the start; and from the state that another left after four steps, over what was there."""
    work = Work(folder)
    device = Device(torch.device("cpu"), "fp32")
    source = "alone"
    for name, keys in json.loads((folder / "kinds.json").read_text()).items():
        at_once, checkpointing = keys.pop("at_once", 2), keys.pop("checkpointing", False)
        model = work.model()
        if checkpointing:
            checkpoint_gradients(model)
        learner = build_learner(model, train_section(DeepSpeed(**keys)), device, ranks)
        first = work.steps(learner, 0, 4, at_once=at_once)
        save_state(learner, folder, f"{name}-4", steps=first)
        second = work.steps(learner, 4, 8, at_once=at_once)
        save_state(learner, folder, f"{name}-8", steps=second)
        whole = learner.model_state()
        assert (whole is None) == (keys["stage"] < 3)
        if whole is not None:
            assert bool(whole) == ranks.is_first
            if ranks.is_first:
                save_file(whole, folder / f"{name}-model.safetensors")
        ranks.wait()
        load_state(learner, folder, f"{source}-4")
        save_state(learner, folder, f"{name}-restored", source=source)
        work.steps(learner, 4, 8, at_once=at_once)
        save_state(learner, folder, f"{name}-went-on")
        source = name


def evaluate(work: Work, learner: Learner) -> torch.Tensor:
    """Logits of all rows without gradients, as predictions are made between steps."""
    rows = np.argsort(work.lengths, kind="stable")
    with learner.published(), torch.no_grad():
        tokens = collate(work.store, rows, layout=learner.model.layout, pad_id=learner.model.pad_id)
        return learner.outputs(tokens).clone()


def precisions(folder: Path, ranks: Ranks) -> None:
    """Each stage in lower precision, with an evaluation between the steps."""
    work = Work(folder)
    for precision in ("bf16", "fp16"):
        device = Device(torch.device("cpu"), precision)  # type: ignore[arg-type]
        for stage in (1, 2, 3):
            section = train_section(DeepSpeed(stage=stage, config=str(folder / f"{stage}.json")))
            learner = build_learner(work.model(), section, device, ranks)
            steps = work.steps(learner, 0, 4)
            logits = evaluate(work, learner)
            if learner.update.scale is not None:
                learner.update.scale.value = TOO_LARGE
            steps += work.steps(learner, 4, 6)
            if learner.update.scale is not None:
                learner.update.scale.value = 2.0**16
            steps += work.steps(learner, 6, 8)
            save_state(learner, folder, f"{precision}-{stage}", steps=steps, logits=logits.tolist())
            assert all(p.dtype == torch.float32 for p in learner.model.parameters())


def families(folder: Path, ranks: Ranks) -> None:
    """Stage 3 on one backbone of each family: every weight must come together by itself where it is used."""
    device = Device(torch.device("cpu"), "fp32")
    for path in sorted((folder / "families").iterdir()):
        work = Work(folder, pretrained=str(path), config=NO_DROPOUT.get(path.name, {}))
        section = train_section(DeepSpeed(stage=3, config=str(folder / "3.json")))
        learner = build_learner(without_dropout(work.model()), section, device, ranks)
        steps = work.steps(learner, 0, 2)
        save_state(learner, folder, f"family-{path.name}", steps=steps)


if __name__ == "__main__":
    torch.manual_seed(0)
    together = join(group_needed=True)
    assert together != ALONE
    globals()[sys.argv[1]](Path(sys.argv[2]), together)
    leave()
