"""The token budget of a run: how much memory there is, and how many tokens fit into it; before `recipe.py`.

The budget never changes what is computed, only in how many parts. So it is estimated before the first step, and halved
where that was too much (`outofmemory.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from textune.batches import RowStore, TokenBatch, TokenRows, collate
from textune.exitcodes import is_out_of_memory
from textune.model.adapters import is_adapted
from textune.model.backbone import TextModel
from textune.model.device import Device
from textune.model.recompute import checkpointed_layers
from textune.ranks import Ranks

SHARE = {"cuda": 0.8, "cpu": 0.5}
"""Part of the available memory that a micro-batch may take; a computer's memory is shared with other programs."""
MOST_TOKENS = {"cuda": 65_536, "cpu": 16_384}
"""Beyond this many tokens at once, nothing gets faster."""
WORKING_LAYERS = 2
"""What is in use beside what was saved, in layers: the pass works on one at a time, with its gradients and copies."""
UNKNOWN_BYTES = 4 << 30
"""Taken to be available on systems that do not tell."""
PROBE_TOKENS = 256
"""Tokens of the measured micro-batch: the longest row, or several if they are shorter than this."""


@dataclass(frozen=True)
class TokenBudget:
    """Tokens that are computed at once while training, and how that number came about."""

    max_tokens: int
    reason: str


# --- how much memory there is ---------------------------------------------------------------------------------------


def available_bytes(device: torch.device, *, root: Path = Path("/")) -> int:
    """Bytes that can still be allocated on `device`; on a computer, within the limits of its control groups.

    `root` is where `/proc` and `/sys` are looked for.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has reserved and does not use comes first when it allocates.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min([_system_bytes(root), *_group_bytes(root)])


def _system_bytes(root: Path) -> int:
    """MemAvailable, which counts caches that the kernel would give up; elsewhere half of the physical memory."""
    facts = _table(root / "proc/meminfo")
    if "MemAvailable:" in facts:
        return facts["MemAvailable:"] * 1024
    names = getattr(os, "sysconf_names", {})
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return UNKNOWN_BYTES


def _group_bytes(root: Path) -> Iterator[int]:
    """What each control group above this process, of version 2 and 1, still allows."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Inside a container the path may be that of the host, and the mount the group itself: missing folders have no
        # limit.
        folder = mount / path.lstrip("/")
        for group in [folder, *folder.parents]:
            limit, used = _number(group / names[0]), _number(group / names[1])
            if limit is not None and used is not None:
                yield max(0, limit - used + _table(group / "memory.stat").get(names[2], 0))
            if group == mount:
                break


def _number(path: Path) -> int | None:
    """The whole number in a file; None where there is no file or it says `max`."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """Lines of a name and a number; empty where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for line in lines if len(words := line.split()) > 1 and words[1].isdigit()}


# --- how much a token takes ------------------------------------------------------------------------------------------


def choose_budget(
    model: TextModel,
    *,
    device: Device,
    train: TokenRows,
    configured: int | Literal["auto"],
    earlier: int | None,
    state_bytes: Callable[[dict[str, torch.nn.Parameter]], int],
    ranks: Ranks,
) -> TokenBudget:
    """The token budget of a run: as configured, as before it stopped, or as many tokens as fit into the memory that is
    left.

    `state_bytes`: what the optimizer keeps of the weights that are trained, from these by name.
    """
    if earlier is not None:
        return TokenBudget(earlier, "as before the run stopped")
    if configured != "auto":
        return TokenBudget(configured, "train.max_tokens")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    to_come = 4 * sum(p.numel() for p in trained.values()) + state_bytes(trained)
    available = available_bytes(device.torch)
    if device.torch.type == "cpu":  # its memory is that of all ranks on it
        available //= ranks.local_world
    found = measure_budget(model, device, store=train.store, indices=train.rows, to_come=to_come, available=available)
    # All ranks cut by the smallest budget, so that a run is the same whichever of them is asked.
    return replace(found, max_tokens=-ranks.all_max([-found.max_tokens])[0])


def measure_budget(
    model: TextModel,
    device: Device,
    *,
    store: RowStore,
    indices: np.ndarray,
    to_come: int,
    available: int | None = None,
) -> TokenBudget:
    """Find `train.max_tokens = "auto"`: what the forward pass saves for the backward pass, against the memory that is
    left.

    `indices` are the training rows in `store`; `to_come` the bytes of gradients and optimizer state that the first
    step adds; `available` stands for the machine's own memory. A power of two (but no less than the longest row), so
    that a little more or less free memory gives the same run.
    """
    available = available_bytes(device.torch) if available is None else available
    lengths = store.lengths_of(indices)
    order = indices[np.argsort(lengths, kind="stable")]
    longest = int(model.padding.widths(lengths).max())
    most = MOST_TOKENS[device.torch.type]
    try:
        fixed, per_token = _bytes_needed(model, device, store, order, longest)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return TokenBudget(longest, "auto: the longest row alone, for which memory may not suffice")
    room = max(0, int(SHARE[device.torch.type] * (available - to_come) - fixed - model.face.working_bytes()))
    fitting = int(room / per_token)
    power_of_two = 1 << (min(most, fitting).bit_length() - 1) if fitting else 0
    return TokenBudget(
        max(power_of_two, longest),
        f"auto: {per_token / 1e3:,.0f} kB per token and {room / 1e9:,.1f} GB to spare"
        + (", more brings nothing" if fitting >= most else ""),
    )


def _bytes_needed(
    model: TextModel, device: Device, store: RowStore, order: np.ndarray, longest: int
) -> tuple[float, float]:
    """Bytes of a training pass: (whatever the batch, such as weights in lower precision; for each token).

    Two micro-batches tell both apart: the shortest row, and the longest ones, whose tokens need most (attention).
    """
    long_rows = order[-max(1, -(-PROBE_TOKENS // longest)) :]
    probes = [
        collate(store, rows, layout=model.layout, pad_id=model.pad_id, padding=model.padding)
        for rows in (order[:1], long_rows)
    ]
    fixed, saved = _line(probes, [_saved_by_forward(model, device, probe) for probe in probes])
    # Layers that are frozen or computed again save little, but while they are at work they take as much as any other.
    with _saving_everything(model) as changed:
        whole = _line(probes, [_saved_by_forward(model, device, probe) for probe in probes])[1] if changed else saved
    num_layers = getattr(model.hf.config.get_text_config(), "num_hidden_layers", None) or 1
    return fixed, max(1.0, saved + whole * WORKING_LAYERS / num_layers)


def _line(probes: list[TokenBatch], saved: list[int]) -> tuple[float, float]:
    """(intercept, slope) of bytes over tokens; without an intercept where both probes are of the same size."""
    (few, many), (small, large) = (probe.num_laid_out for probe in probes), saved
    slope = (large - small) / (many - few) if many > few else large / many
    return max(0.0, small - few * slope), slope


@contextmanager
def _saving_everything(model: TextModel) -> Iterator[bool]:
    """Train every parameter that can be and checkpoint nothing, for a moment; whether that changes anything.

    Numbers that are no floats have no gradient. What an adapted layer reads is saved for its adapter already.
    """
    frozen = [
        parameter
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad and parameter.is_floating_point() and not is_adapted(name)
    ]
    checkpointed = checkpointed_layers(model)
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for layer in checkpointed:
            layer.enabled = False
        yield bool(frozen or checkpointed)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for layer in checkpointed:
            layer.enabled = True


def _saved_by_forward(model: TextModel, device: Device, batch: TokenBatch) -> int:
    """Bytes of the distinct storages that the graph of one forward pass holds, parameters and buffers left out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        # Without its place in the graph: a graph that keeps its own result would never be given back.
        return tensor.detach()

    was_training = model.training
    model.train()
    devices = [device.torch] if device.torch.type == "cuda" else []
    try:
        # Dropout draws here; the state of the generators is put back.
        with torch.random.fork_rng(devices), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with device.autocast():
                logits_BC = model(batch.to(device.torch))
            del logits_BC  # held until here, so that no storage was counted under an address used before
    finally:
        model.train(was_training)
    return sum(saved.values())


# --- gradient checkpointing ------------------------------------------------------------------------------------------
