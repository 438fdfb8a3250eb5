"""Imported by the process that `killkit` forks from: all that training a tiny BERT imports, and no threads."""

import torch
import transformers.models.bert.modeling_bert
import transformers.models.bert.tokenization_bert

import textune.cli
import textune.console
import textune.pipeline.training

torch.set_num_threads(1)
