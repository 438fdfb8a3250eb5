"""What textune asks of a model of transformers, and of a layer's own gradient: neither library has types for it.

A family of backbones names its parts as it likes (`classifier`, `score`, `attn.Wqkv`), so what is not declared here is
looked up when it is needed: the tables of families (`families.py`, `heads.py`, `native/kinds.py`) know which parts
there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:  # folders and configurations are looked at without PyTorch
    import torch
    from torch import nn

Forward: TypeAlias = Callable[..., Any]
"""The forward of some module."""
Options: TypeAlias = dict[str, Any]
"""Keyword arguments of a function of transformers or PyTorch."""


class HuggingConfig(Protocol):
    """`config.json` of a backbone."""

    model_type: str
    """The family, such as `bert`."""

    def get_text_config(self) -> HuggingConfig:
        """The part about text; of most families it is the whole."""

    def to_dict(self) -> dict[str, Any]:
        """All keys."""

    def save_pretrained(self, save_directory: Path) -> None:
        """Write `config.json`."""

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...


class FamilyModule(Protocol):
    """A module of a backbone or its head, with the parts that its family gives it."""

    def children(self) -> Iterator[nn.Module]:
        """As `nn.Module`."""

    def named_modules(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, FamilyModule]]:
        """As `nn.Module`."""

    def __call__(self, *inputs: Any, **options: Any) -> Any: ...

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...


class HuggingModel(Protocol):
    """A sequence classifier of transformers: a backbone and a head."""

    config: HuggingConfig
    base_model: FamilyModule
    """The backbone."""
    base_model_prefix: str
    """Name of the backbone, which the names of its weights begin with."""
    num_labels: int
    """Outputs of the head."""
    forward: Forward
    """What a call computes."""
    generation_config: Any
    """How a language model writes by default."""

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embeddings."""

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Choose how attention is computed."""

    def save_pretrained(self, save_directory: Path, *, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Write `config.json` and `model.safetensors`."""

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module`."""

    def named_modules(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, FamilyModule]]:
        """As `nn.Module`."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As `nn.Module`."""

    def named_parameters(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
        """As `nn.Module`."""

    def state_dict(self, *, keep_vars: bool = False) -> dict[str, torch.Tensor]:
        """As `nn.Module`."""

    def get_submodule(self, target: str) -> nn.Module:
        """As `nn.Module`."""

    def set_submodule(self, target: str, module: nn.Module) -> None:
        """As `nn.Module`."""

    def __call__(self, **inputs: Any) -> Any: ...

    def __getattr__(self, name: str) -> Any: ...


class Context(Protocol):
    """What `forward` of an operator with a gradient of its own leaves for `backward`."""

    saved_tensors: tuple[torch.Tensor, ...]

    def save_for_backward(self, *tensors: torch.Tensor | None) -> None:
        """Keep tensors."""

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...
