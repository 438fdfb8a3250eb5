"""Special tokens that a language model's tokenizer is given, and their rows of embeddings; after `tokenizer.py`.

Shapes: V rows of a table, H numbers of each, A added tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken

from textune.errors import ConfigError, ModelError
from textune.model.hugging import HuggingModel
from textune.model.pretrained import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "model.added_tokens"
SPREAD = 0.01
"""How far new rows lie around the mean of the others, as a share of the standard deviation of each column: tokens must
not start alike, and a model must not predict them more often than others."""
_ROWS_AT_ONCE = 1 << 14


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> None:
    """Give the tokenizer these special tokens, in this order behind all that it has.

    They are found in a text before anything else is, wherever they stand in it. ConfigError for a token that the
    tokenizer knows already; ModelError for a tokenizer that would give a new one the number of another.
    """
    _require_new(tokenizer, tokens)
    taken = set(tokenizer.get_vocab().values())
    made = [AddedToken(token, normalized=False, special=True) for token in tokens]
    tokenizer.add_tokens(made, special_tokens=True)
    for token in tokens:
        if (number := tokenizer.convert_tokens_to_ids(token)) in taken:
            raise ModelError(
                f"model.tokenizer: the numbers of its tokens have gaps, and {token!r} would be number {number}, which"
                " another token has.",
                hint=f"Name another tokenizer, or leave {KEY} out.",
                key=KEY,
                value=token,
                reason=f"{number} is taken",
            )


def _require_new(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> None:
    known, added = tokenizer.get_vocab(), {token.content for token in tokenizer.added_tokens_decoder.values()}
    for token in tokens:
        if token in added:
            reason, hint = "the tokenizer has it already", "Leave it out: it can be used as it is."
        elif token in known:
            reason, hint = "it is a token of the tokenizer's own vocabulary", "Write it another way, such as <|name|>."
        else:
            continue
        raise ConfigError(
            f"{KEY} names {token!r}, but {reason}.",
            hint=hint,
            key=KEY,
            value=token,
            reason=reason,
        )


def embed_tokens(hf: HuggingModel, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], *, seed: int) -> None:
    """Give the added tokens rows of the input and output embeddings, which stay tied where they are.

    A row is the mean of the rows of all other tokens and a draw around it (`SPREAD`), by `seed` and the order of the
    tokens alone; a bias is the mean of the others. Tables grow as far as needed: rows that no token of the tokenizer
    had are used up first, and other new rows start in the same way.
    """
    ids = [int(number) for number in tokenizer.convert_tokens_to_ids(list(tokens))]
    num_before = len(hf.get_input_embeddings().weight)
    _grow(hf, max(ids) + 1)
    # Tokens of the tokenizer that had no row, as some for images have none, lie before those of the run.
    ids += sorted(set(range(num_before, max(ids) + 1)).difference(ids))
    others = sorted(set(tokenizer.get_vocab().values()).difference(ids))
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(hf.named_parameters())
    with torch.no_grad():
        for table in (parameters[name] for name in names_of_tables(hf)):
            known = torch.tensor([number for number in others if number < len(table)])
            table[ids] = _new_rows(table, known, len(ids), generator)


def names_of_tables(hf: HuggingModel) -> list[str]:
    """The parameters with a row for each token: the embeddings, and the output and its bias where these are others."""
    output = hf.get_output_embeddings()
    tables = [hf.get_input_embeddings().weight, *([] if output is None else [output.weight, output.bias])]
    return [name for name, parameter in hf.named_parameters() if any(parameter is table for table in tables)]


def require_trained(frozen: Collection[str], hf: HuggingModel, tokens: Sequence[str]) -> None:
    """ConfigError where `model.freeze`, which takes the weights `frozen`, would leave added tokens as they start."""
    table = hf.get_input_embeddings().weight
    held = next((name for name, parameter in hf.named_parameters() if parameter is table and name in frozen), None)
    if tokens and held is not None:
        raise ConfigError(
            f"{KEY} gives {held} new rows, and model.freeze would leave them as they start.",
            hint=f'Add "{held}" to model.unfreeze, or leave {KEY} out.',
            key="model.freeze",
            value=held,
            reason="it has rows of added tokens",
        )


def _grow(hf: HuggingModel, num_rows: int) -> None:
    """Let all tables of tokens have so many rows at least."""
    if len(hf.get_input_embeddings().weight) >= num_rows:
        return
    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            hf.resize_token_embeddings(num_rows, mean_resizing=False)
    except (NotImplementedError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{KEY}: the embeddings of {hf.config.model_type} cannot get more rows: {error}.",
            hint=f"Choose another backbone, or leave {KEY} out.",
            key=KEY,
            value=hf.config.model_type,
            reason="its embeddings cannot grow",
        ) from error


def _new_rows(table: torch.Tensor, known: torch.Tensor, num_rows: int, generator: torch.Generator) -> torch.Tensor:
    """float32 [A, H] rows for a table [V, H] whose rows `known` (int64) belong to other tokens, or [A] for a bias
    [V]."""
    mean = sum(part.sum(dim=0) for part in _parts(table, known)) / len(known)
    if table.ndim == 1:
        return torch.as_tensor(mean).to(table.dtype).expand(num_rows)
    variance_H = sum((part - mean).square().sum(dim=0) for part in _parts(table, known)) / len(known)
    draws_AH = torch.randn(num_rows, table.shape[1], generator=generator, dtype=torch.float64)
    return (mean + SPREAD * torch.as_tensor(variance_H).sqrt() * draws_AH).to(table.dtype)


def _parts(table: torch.Tensor, known: torch.Tensor) -> Iterator[torch.Tensor]:
    """float64, some of the known rows at a time: a table is large."""
    for some in known.split(_ROWS_AT_ONCE):
        yield table[some].double()
