"""Imported by the process that `killkit` forks from: all that training a tiny BERT imports, and no threads."""

import torch

torch.set_num_threads(1)
