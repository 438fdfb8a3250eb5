"""Models of a user's own, for tests: names such as `kits.ownmodels:Bag` in configurations."""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from textune.batches.batch import TokenBatch


class Bag(nn.Module):
    """The mean of the embeddings of a row's tokens, through a hidden layer."""

    max_positions = 30

    def __init__(
        self, *, num_outputs: int, vocab_size: int, pad_id: int, width: int = 16, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, width)
        self.hidden = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(width, num_outputs)
        self.pad_id = pad_id

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B, L] -> [B, C]"""
        assert mask.dtype == torch.bool and bool((ids[~mask] == self.pad_id).all())
        vectors = self.embeddings(ids) * mask.unsqueeze(2)
        return self.read(vectors.sum(1) / mask.sum(1, keepdim=True))

    def read(self, means: torch.Tensor) -> torch.Tensor:
        """[B, H] -> [B, C]"""
        outputs: torch.Tensor = self.out(self.dropout(torch.tanh(self.hidden(means))))
        return outputs


class PackedBag(Bag):
    """The same without padding."""

    def forward_packed(self, batch: TokenBatch) -> torch.Tensor:
        """Groups of rows of equal length, one after the other."""
        sums, at, first = [], 0, 0
        for group in batch.groups:
            size = group.rows * group.length
            lengths = batch.lengths_B[first : first + group.rows].unsqueeze(1)
            real = torch.arange(group.length, device=lengths.device) < lengths
            ids = batch.ids_T[at : at + size].view(group.rows, group.length)
            sums.append((self.embeddings(ids) * real.unsqueeze(2)).sum(1) / lengths)
            at, first = at + size, first + group.rows
        return self.read(torch.cat(sums))


class Twice(nn.Module):
    """Attention over a row, and over its two texts; a table that two layers share, and a buffer."""

    def __init__(self, *, num_outputs: int, vocab_size: int, pad_id: int, width: int = 8) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        self.same = nn.Linear(width, vocab_size, bias=False)
        self.same.weight = self.table.weight
        self.which = nn.Embedding(2, width)
        self.register_buffer("scale", torch.tensor(2.0))
        self.encoder = nn.TransformerEncoderLayer(width, 2, width, batch_first=True)
        self.out = nn.Linear(width, num_outputs)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor | None = None) -> torch.Tensor:
        """[B, L] -> [B, C], from the first token"""
        vectors = self.table(ids) + (0 if types is None else self.which(types))
        states = self.encoder(vectors, src_key_padding_mask=~mask)
        outputs: torch.Tensor = self.out(states[:, 0] * self.scale)
        return outputs


class ReviewBert(BertPreTrainedModel):
    """A class of transformers: BERT, the mean of whose states goes through a head of two layers."""

    config_class = BertConfig

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
        self.middle = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """As a classifier of transformers."""
        states = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]
        mask = attention_mask.unsqueeze(2)
        means = (states * mask).sum(1) / mask.sum(1)
        return SequenceClassifierOutput(logits=self.classifier(torch.relu(self.middle(means))))
