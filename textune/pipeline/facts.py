"""The facts of a run as numbers and in words, for its header, `check` and its manifest; made of what `gather.py` has built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from textune.batches import padding_waste
from textune.run import Ingredients
from textune.training import STATE_BYTES, learning_rate
from textune.wording import count, listing


def measure(parts: Ingredients) -> dict[str, Any]:
    """The facts of a run as numbers, for scripts; None where nobody knows."""
    train, stream = parts.parts["train"], parts.data.stream
    batches, limit = parts.first_epoch(), parts.experiment.tokens.longest
    return {
        "problem": parts.task.head.problem,
        "labels": list(parts.data.label_map.names) if parts.task.head.problem != "regression" else [],
        "rows": dict(parts.num_rows),
        "rows_left_out": {part.name: part.num_left_out for part in parts.data.parts},
        "rows_truncated": sum(tokenized.num_truncated for tokenized in parts.parts.values()),
        "tokens_per_epoch": int(train.lengths[np.concatenate(batches)].sum()) if stream is None else None,
        "tokens_mean": round(float(train.lengths.mean()), 2),
        "tokens_median": int(np.median(train.lengths)),
        "tokens_longest": int(train.lengths.max()),
        "padding_by_batch": round(float(padding_waste(train.lengths, batches)), 4),
        "padding_to_max_length": round(float(padding_waste(train.lengths, batches, pad_to=limit)), 4),
        "parameters": parts.model.num_parameters,
        "parameters_trained": sum(p.numel() for p in parts.model.parameters() if p.requires_grad),
        "layout": parts.model.layout,
        "device": parts.device.torch.type,
        "precision": parts.device.precision,
        "max_tokens": parts.room.max_tokens,
        "batch_size": parts.experiment.train.batch_size,
        "steps": parts.total_steps,
        "steps_per_epoch": parts.steps_per_epoch,
        "checkpoint_bytes": checkpoint_bytes(parts),
        "metric": parts.metric.name,
    }


def describe(parts: Ingredients) -> dict[str, str]:
    """The facts that a person wants to see before a run starts."""
    section, found = parts.experiment.train, measure(parts)
    names = parts.data.label_map.names
    lost = {name: f" ({num:,} left out)" if num else "" for name, num in found["rows_left_out"].items()}
    rows = ", ".join(
        f"{'unknown number of' if num is None else f'{num:,}'} {name}{lost[name]}" for name, num in parts.num_rows.items()
    )
    limit = parts.experiment.tokens.longest
    trained, total = found["parameters_trained"], found["parameters"]
    amount, sampled = f"{found['tokens_per_epoch']:,} per training epoch" if found["tokens_per_epoch"] is not None else "", ""
    if parts.data.stream is not None:
        rows += f"; train streamed from {count(len(parts.data.stream.shards), 'shard')}"
        amount = f"about {found['tokens_mean']:.0f} per training row"
        sampled = f" (of the first {count(len(parts.parts['train'].part), 'row')})"
    labels = f"{count(len(names), 'label')}: {listing(names, 8)}"
    return {
        "task": parts.task.head.problem if parts.task.head.problem == "regression" else f"{parts.task.head.problem}, {labels}",
        "rows": rows,
        "tokens": f"{amount}, median row {found['tokens_median']}, longest {found['tokens_longest']};"
        f" {count(found['rows_truncated'], 'row')} truncated to {limit}{sampled}",
        "padding": f"padded batch by batch, {found['padding_by_batch']:.0%} of what is computed would be padding;"
        f" padded to {limit}, {found['padding_to_max_length']:.0%}",
        "model": f"{parts.experiment.model.pretrained} ({parts.model.hf.config.model_type}), {total / 1e6:.1f} M parameters"
        + ("" if trained == total else f", {trained / 1e6:.1f} M trained"),
        "vocabulary": parts.vocabulary,
        "layout": f"{parts.model.layout}: {parts.model.reason}",
        "kernels": parts.model.accelerator.note,
        "device": str(parts.device) + _shared(parts),
        "at once": f"{parts.room.max_tokens:,} tokens ({parts.room.reason}){sampled}"
        + (", gradient checkpointing" if section.gradient_checkpointing else ""),
        "steps": f"{parts.total_steps:,} of {count(section.batch_size, 'row')}{_in_epochs(parts)}",
        "rates": _rates(parts),
        "saved": _saved(parts),
        "best by": f"{parts.metric.name} on the validation rows"
        if parts.data.validation
        else "no validation rows: the last step",
    }


def _rates(parts: Ingredients) -> str:
    """The learning rate where it turns, as every rank and every kind of learner sets it."""
    section, total = parts.experiment.train, parts.total_steps
    warmup = section.schedule.warmup.steps(parts.steps_per_epoch)
    places = {min(warmup, total - 1): "end of warm-up", total - 1: "last step", 0: "first step"}
    rates = (
        learning_rate(step, kind=section.schedule.kind, peak=section.optimizer.lr, warmup_steps=warmup, total_steps=total)
        for step in sorted(places)
    )
    shown = (f"{rate:.3g} at step {step + 1:,} ({places[step]})" for step, rate in zip(sorted(places), rates, strict=True))
    return f"{section.schedule.kind}: " + ", ".join(shown)


def checkpoint_bytes(parts: Ingredients) -> int:
    """About how large a checkpoint is: weights, and the optimizer's moments of those that are trained."""
    section = parts.experiment.train
    if section.checkpoint.save_only_model:
        return 4 * parts.model.num_parameters
    held = sum(p.numel() for p in parts.model.parameters())
    trained = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)
    return 4 * held + STATE_BYTES[section.optimizer.kind] * trained


def disk_warning(parts: Ingredients, folder: Path) -> str:
    """What to say where the disk of a run folder will not hold what the run keeps; nothing where it will."""
    section, size = parts.experiment.train.checkpoint, checkpoint_bytes(parts)
    kept = (1 if section.keep == "all" else section.keep) + section.keep_best + len(section.at_steps)
    # Besides: the one being written, the best model and the one that replaces it.
    needed = (kept + 1) * size + 2 * 4 * parts.model.num_parameters
    parent = next(ancestor for ancestor in [folder.absolute(), *folder.absolute().parents] if ancestor.is_dir())
    free = shutil.disk_usage(parent).free
    if free >= needed:
        return ""
    return (
        f"the disk of {folder} has {free / 1e9:,.1f} GB free and this run may take {needed / 1e9:,.1f} GB: it will stop where"
        " there is no more room, and can continue with --resume"
    )


def _saved(parts: Ingredients) -> str:
    """When checkpoints are made, how large they are, and which are kept."""
    section = parts.experiment.train.checkpoint
    size = f"{checkpoint_bytes(parts) / 1e6:,.1f} MB each" + (", models only" if section.save_only_model else "")
    if section.every == "never":
        return f"at the end, {size}"
    every = section.every.steps(parts.steps_per_epoch)
    kept = "all kept" if section.keep == "all" else f"the last {section.keep} kept" if section.keep > 1 else "the last one kept"
    best = f" and the {section.keep_best} with the best evaluations" if section.keep_best else ""
    return f"every {count(max(1, every), 'step')} and at the end, {size}, {kept}{best}"


def _in_epochs(parts: Ingredients) -> str:
    """How many epochs the run has, as a remark in brackets; nothing where nobody knows."""
    duration = parts.experiment.train.duration
    if duration.unit == "epochs":
        return f" ({duration} of {count(parts.steps_per_epoch, 'step')})"
    return "" if parts.num_rows["train"] is None else f" ({parts.total_steps / parts.steps_per_epoch:.2g} epochs)"


def _shared(parts: Ingredients) -> str:
    """How several processes share the work; nothing for one alone."""
    kind = parts.experiment.train.distributed.kind
    if parts.ranks.alone and kind == "ddp":
        return ""
    return f", {count(parts.ranks.world, 'process', 'processes')} ({kind})"
