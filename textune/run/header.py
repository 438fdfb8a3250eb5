"""The facts of a run in words: its header, the `resolved` of its manifest, what `check` prints."""

from __future__ import annotations

import shutil
from pathlib import Path

from textune.metadata import DocumentEstimate
from textune.run.facts import Facts
from textune.wording import count, listing, millions

MOST_SHOWN = 4
"""Numbers of windows that are listed one by one."""
ENGINES = {
    "onnxruntime": "ONNX Runtime computes the forward and the backward pass of training; where there is dropout its"
    " masks are its own, so a run that resumes with another engine is the same run, but not bit for bit",
}
"""What is to be said of engines beside PyTorch."""
POOLED_BY = {"mean": "their mean", "max": "their maximum", "attention": "learned attention"}


def describe(facts: Facts) -> dict[str, str]:
    """The facts that a person wants to see before a run starts."""
    sampled = "" if facts.rows_sampled is None else f" (of the first {count(facts.rows_sampled, 'row')})"
    labels = f", {count(len(facts.labels), 'label')}: {listing(facts.labels, 8)}" if facts.labels else ""
    return {
        "task": facts.problem + labels,
        **(_of_texts(facts, sampled) if facts.documents is None else _of_documents(facts, facts.documents)),
        **({"prefix": _prefix(facts) + sampled} if facts.prefix else {}),
        **({} if facts.pooling is None else {"windows": _windows(facts) + sampled}),
        "padding": f"padded batch by batch, {facts.padding_by_batch:.0%} of what is computed would be padding;"
        f" padded to {facts.max_length}, {facts.padding_to_max_length:.0%}",
        "model": f"{facts.backbone} ({facts.model_type}), {_trained(facts)}",
        "vocabulary": facts.vocabulary,
        "layout": f"{facts.layout}: {facts.layout_reason}",
        "kernels": facts.kernels,
        **({"engine": ENGINES[facts.engine]} if facts.engine in ENGINES else {}),
        "device": facts.device_name + _shared(facts),
        "at once": f"{facts.max_tokens:,} tokens ({facts.max_tokens_reason}){sampled}"
        + (", gradient checkpointing" if facts.gradient_checkpointing else ""),
        "steps": f"{facts.steps:,} of {count(facts.batch_size, 'row')}{_in_epochs(facts)}",
        "rates": _rates(facts),
        **({} if facts.soup_seeds is None else {"soup": _soup(facts.soup_seeds)}),
        "saved": _saved(facts),
        "best by": _best_by(facts),
    }


def disk_warning(facts: Facts, folder: Path) -> str:
    """What to say where the disk of a run folder will not hold what the run keeps; nothing where it will."""
    parent = next(ancestor for ancestor in [folder.absolute(), *folder.absolute().parents] if ancestor.is_dir())
    free = shutil.disk_usage(parent).free
    if free >= facts.disk_bytes:
        return ""
    return (
        f"the disk of {folder} has {free / 1e9:,.1f} GB free and this run may take {facts.disk_bytes / 1e9:,.1f} GB:"
        f" it will"
        " stop where there is no space left, and can continue with --resume"
    )


def _trained(facts: Facts) -> str:
    """How many parameters the model has, and which of them are trained."""
    trained = facts.parameters_trained
    if facts.adapter_rank is None:
        remark = "" if trained == facts.parameters else f", {millions(trained)} trained"
        return f"{millions(facts.parameters)} parameters{remark}"
    beneath = "" if facts.weight_bits is None else f", weights of {facts.weight_bits} bits beneath"
    remark = f" (LoRA r {facts.adapter_rank} on {count(facts.adapted_layers, 'layer')}{beneath})"
    return f"{millions(facts.parameters)} parameters, {millions(trained)} trained{remark}"


def _of_texts(facts: Facts, sampled: str) -> dict[str, str]:
    return {
        "rows": _rows(facts),
        "tokens": f"{_amount(facts)}, median row {facts.tokens_median}, longest {facts.tokens_longest};"
        f" {_truncated(facts)}{sampled}",
    }


def _of_documents(facts: Facts, documents: DocumentEstimate) -> dict[str, str]:
    """What the rows of a language model are made of, and what of it is cut."""
    cut = "; ".join(f"{name}: {words}" for name, words in documents.cut.items())
    return {
        "documents": _rows(facts),
        "chunks": f"{documents.words}; at most {facts.max_length} tokens ({facts.max_length_reason}), about"
        f" {facts.tokens_mean:.0f} in the mean, median {facts.tokens_median}" + (f"; {cut}" if cut else ""),
    }


def _rows(facts: Facts) -> str:
    lost = {name: f" ({num:,} left out)" if num else "" for name, num in facts.rows_left_out.items()}
    rows = [
        f"{'unknown number of' if num is None else f'{num:,}'} {name}{lost[name]}" for name, num in facts.rows.items()
    ]
    listed = ", ".join(rows) if facts.documents is None else listing(rows, 8)
    return listed if facts.shards is None else f"{listed}; train streamed from {count(facts.shards, 'shard')}"


def _amount(facts: Facts) -> str:
    if facts.tokens_per_epoch is None:
        return f"about {facts.tokens_mean:.0f} per training row"
    return f"{facts.tokens_per_epoch:,} per training epoch"


def _truncated(facts: Facts) -> str:
    """How many rows lose tokens, and to what."""
    rows = count(facts.rows_truncated, "row")
    if facts.pooling is not None:
        return f"{rows} cut off by tokens.max_windows" if facts.rows_truncated else "no row cut off"
    return f"{rows} truncated to {facts.max_length} ({facts.max_length_reason})"


def _prefix(facts: Facts) -> str:
    """What stands before each text, and how much of a row it takes."""
    return (
        f"{listing(facts.prefix, 8)}: {facts.prefix_tokens:.0f} of {facts.tokens_mean:.0f} tokens of a row in the mean"
    )


def _windows(facts: Facts) -> str:
    """How long texts are read, and what they would lose if they were cut."""
    shared = f" that share {count(facts.stride, 'token')}" if facts.stride else ""
    several = {number: rows for number, rows in facts.windows.items() if number > 1}
    shown = [f"{rows:,} with {number}" for number, rows in facts.windows.items() if number <= MOST_SHOWN]
    if more := sum(rows for number, rows in facts.windows.items() if number > MOST_SHOWN):
        shown.append(f"{more:,} with up to {max(facts.windows):,}")
    loss = (
        f"; cut at {facts.max_length}, {count(sum(several.values()), 'row')} would lose {facts.tokens_beyond:,} tokens"
    )
    return (
        f"of {facts.max_length} tokens ({facts.max_length_reason}){shared}, pooled by"
        f" {POOLED_BY[facts.pooling or '']}; training rows: {', '.join(shown)}{loss if several else ''}"
    )


def _rates(facts: Facts) -> str:
    """The learning rate where its course changes."""
    names = {min(facts.warmup_steps, facts.steps - 1) + 1: "end of warm-up", facts.steps: "last step", 1: "first step"}
    shown = (f"{rate:.3g} at step {step:,} ({names[step]})" for step, rate in facts.rates.items())
    return f"{facts.schedule}: " + ", ".join(shown) if facts.rates else "none: no step is left to make"


def _soup(seeds: int) -> str:
    """How many runs become one model."""
    return f"{count(seeds, 'run')} like this one, from the same weights in other orders, joined into one model"


def _saved(facts: Facts) -> str:
    """When checkpoints are made, how large they are, and which are kept."""
    size = f"{facts.checkpoint_bytes / 1e6:,.1f} MB each" + (", models only" if facts.checkpoint_only_model else "")
    if facts.checkpoint_every is None:
        return f"at the end, {size}"
    keep = facts.checkpoint_keep
    kept = "all kept" if keep == "all" else f"the last {keep} kept" if keep > 1 else "the last one kept"
    best = f" and the {facts.checkpoint_keep_best} with the best evaluations" if facts.checkpoint_keep_best else ""
    return f"every {count(facts.checkpoint_every, 'step')} and at the end, {size}, {kept}{best}"


def _in_epochs(facts: Facts) -> str:
    """How many epochs the run has, as a remark in brackets; nothing where nobody knows."""
    if facts.duration.endswith(("epoch", "epochs")):
        return f" ({facts.duration} of {count(facts.steps_per_epoch, 'step')})"
    return "" if facts.rows["train"] is None else f" ({facts.steps / facts.steps_per_epoch:.2g} epochs)"


def _shared(facts: Facts) -> str:
    """How several processes share the work; nothing for one alone."""
    if facts.processes == 1 and facts.sharing == "ddp":
        return ""
    return f", {count(facts.processes, 'process', 'processes')} ({facts.sharing})"


def _best_by(facts: Facts) -> str:
    if facts.best_by is None:
        return "no validation rows: the last step"
    named = facts.best_by in ("train", "validation")
    return f"{facts.metric} on {f'the {facts.best_by} rows' if named else f'the set {facts.best_by}'}"
