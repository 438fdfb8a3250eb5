"""textune's kernels beside PyTorch's own operators, in one process, in turns: attention alone, and whole layers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AlbertConfig, AlbertForSequenceClassification, BertConfig, BertForSequenceClassification

from bench.worker import Channel, Json, Skip
from textune.batches.batch import TokenBatch
from textune.batches.layout import Group
from textune.model import processor
from textune.model.backbone import TextModel
from textune.model.native.kernels import AttentionShape, Kernels, kernel_attention
from textune.model.native.libraries import KernelError
from textune.model.products import product_attention

HEADS, WIDTH, SCALE = 12, 32, 32**-0.5
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHAPE = {
    "vocab_size": 1000,
    "hidden_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
"""Two layers of MiniLM-L6."""
Ways = Mapping[str, Callable[[], object]]


def best_in_turns(ways: Ways, seconds: float) -> dict[str, float]:
    """Least seconds of each way over the rounds that fit into `seconds`, three at least."""
    for call in ways.values():
        call()
    best = dict.fromkeys(ways, float("inf"))
    stop, rounds = time.perf_counter() + seconds, 0
    while rounds < 3 or time.perf_counter() < stop:
        rounds += 1
        for name, call in ways.items():
            started = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def kernels() -> Kernels:
    """The compiled kernels of this processor."""
    try:
        return Kernels()
    except KernelError as error:
        raise Skip(f"there are no compiled kernels here: {error}") from error


def attention(channel: Channel, spec: Json) -> None:
    """Attention of one layer on one thread, `tokens` in rows of `length`: kernel, batched products, SDPA."""
    torch.set_num_threads(1)
    compiled = kernels()
    channel.reply(threads=1)

    def measure(command: Json) -> Json:
        rows = max(1, command["tokens"] // command["length"])
        ways = attention_ways(compiled, rows, command["length"], TYPES[command["precision"]], command["dropout"])
        return {"ways": best_in_turns(ways, command["time"])}

    channel.serve(measure)


def attention_ways(kernels: Kernels, rows: int, length: int, dtype: torch.dtype, dropout: float) -> Ways:
    """The same attention, three times, each with its gradients."""
    num_tokens = rows * length
    by_token = [torch.randn(num_tokens, HEADS, WIDTH).to(dtype).requires_grad_() for _ in range(3)]
    by_head = [tensor.detach().transpose(0, 1).contiguous().requires_grad_() for tensor in by_token]
    by_row = [
        t.detach().view(rows, length, HEADS, WIDTH).transpose(1, 2).contiguous().requires_grad_() for t in by_token
    ]
    grad = torch.randn(num_tokens, HEADS, WIDTH).to(dtype)
    row_grad = grad.view(rows, length, HEADS, WIDTH).transpose(1, 2).contiguous()
    shape = AttentionShape(torch.arange(0, num_tokens, length), torch.full((rows,), length), SCALE, dropout=dropout)

    def kernel() -> object:
        q, k, v = by_token
        return torch.autograd.grad(kernel_attention(kernels, shape, q, k, v), by_token, grad)

    def products() -> object:
        q, k, v = by_head
        return torch.autograd.grad(
            product_attention(q, k, v, None, num_rows=rows, scale=SCALE, dropout=dropout), by_head, grad
        )

    def sdpa() -> object:
        q, k, v = by_row
        output = scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=SCALE)
        return torch.autograd.grad(output, by_row, row_grad)

    return {"kernel": kernel, "products": products, "sdpa": sdpa}


def layers(channel: Channel, spec: Json) -> None:
    """One pass of two layers over `tokens` tokens in rows of `length`: `kernels` and `pytorch`.

    `part` is `layers`, whole fused ones, or `attention`: the same layers in a family of which nothing else is fused.
    """
    channel.reply(
        level=kernels().level,
        vendor=processor.vendor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        types=["float32", *(["bfloat16"] if processor.prefers_bf16() else [])],
    )

    def measure(command: Json) -> Json:
        length = command["length"]
        batch = packed_batch(command["tokens"] // length, length)
        part, dtype, work = command["part"], getattr(torch, command["type"]), command["work"]
        ways = {name: layer_pass(part, dtype, work, batch, fused=name == "kernels") for name in ("kernels", "pytorch")}
        return {"ways": best_in_turns(ways, command["time"])}

    channel.serve(measure)


def packed_batch(rows: int, length: int) -> TokenBatch:
    """Random tokens in rows of one length."""
    torch.manual_seed(0)
    return TokenBatch(
        rows=np.arange(rows),
        columns={"ids": torch.randint(5, 1000, (rows * length,))},
        positions_T=torch.arange(length).repeat(rows),
        lengths_B=torch.full((rows,), length),
        row_lengths=np.full(rows, length),
        groups=(Group(rows, length),),
    )


def layer_pass(part: str, dtype: torch.dtype, work: str, batch: TokenBatch, *, fused: bool) -> Callable[[], object]:
    """A call that runs the layers over the batch; in training with the backward pass."""
    torch.manual_seed(0)
    hf: Any
    if part == "layers":
        hf = BertForSequenceClassification(BertConfig(**SHAPE, num_labels=2))
    else:
        dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "embedding_size": 384}
        hf = AlbertForSequenceClassification(AlbertConfig(**SHAPE, **dropout, num_labels=2))
    model = TextModel(hf, pad_id=0, compile="on" if fused else "off")
    model.speed_up(dtype, training=work == "training")
    model.train(work == "training")

    def step() -> object:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            if work == "prediction":
                with torch.inference_mode():
                    return model(batch)
            loss = model(batch).square().sum()
        loss.backward()
        return loss

    return step
