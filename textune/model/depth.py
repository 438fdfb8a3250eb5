"""How deep in a model each weight lies, by the names of its modules: what layer-wise learning rates follow from, and
what people call its parts."""

from __future__ import annotations

from torch import nn

from textune.model.hugging import FamilyModule, HuggingModel

_Layer = tuple[str, int, str]
"""What holds the list, the length of the list, and the number of the layer in it."""


def depths(hf: HuggingModel) -> tuple[dict[str, int], int]:
    """The depth of each parameter of `hf` by name, and that of the head, which is one more than there are layers.

    Embeddings have 0, the first layer 1 and so on, through encoder and decoder. What follows the last layer, such as a
    norm or a pooler, has the depth of the head. Layers are the items of the outermost lists of modules in the
    backbone; in lists side by side, such as XLM's attentions and norms, items with the same number are one layer.
    """
    modules = dict(hf.named_modules(remove_duplicate=False))
    prefix = hf.base_model_prefix + "."
    layers: list[_Layer] = []
    found: dict[str, int] = {}
    for name, _ in hf.named_parameters():
        if not name.startswith(prefix):
            continue
        layer = _layer_of(name, modules)
        if layer is not None and layer not in layers:
            layers.append(layer)
        if layer is not None:
            found[name] = layers.index(layer) + 1
        else:
            found[name] = 0 if not layers or _embeds(name, modules) else len(layers) + 1
    head = len(layers) + 1
    return {name: found.get(name, head) for name, _ in hf.named_parameters()}, head


def head_names(hf: HuggingModel) -> set[str]:
    """The parameters outside the backbone; empty where the model does not tell it from the head."""
    prefix = hf.base_model_prefix + "."
    names = [name for name, _ in hf.named_parameters()]
    inside = {name for name in names if name.startswith(prefix)}
    return set(names) - inside if inside else set()


def _layer_of(name: str, modules: dict[str, FamilyModule]) -> _Layer | None:
    """The item of the outermost list that a parameter is in; lists of lists count by their inner items, and a list of
    embedding tables is not a list of layers."""
    first, *parts = name.split(".")
    path = first
    for place, part in enumerate(parts[:-1]):
        holder, path = path, f"{path}.{part}"
        if "embed" in part:
            return None
        if isinstance(modules[path], nn.ModuleList):
            for number in parts[place + 1 :]:
                if not isinstance(modules[f"{path}.{number}"], nn.ModuleList):
                    return holder, len(list(modules[path].children())), number
                holder = path = f"{path}.{number}"
    return None


def _embeds(name: str, modules: dict[str, FamilyModule]) -> bool:
    """Whether a parameter is an embedding table, or in a module named after embeddings."""
    return "embed" in name or isinstance(modules[name.rpartition(".")[0]], nn.Embedding)


def parts_of(hf: HuggingModel) -> dict[str, str]:
    """What each parameter belongs to, in words: embeddings, a layer by its number, pooler, head, or what follows the
    layers. Where there are two stacks of layers, they are told apart by their names, such as `encoder layer 0`."""
    modules = dict(hf.named_modules(remove_duplicate=False))
    prefix = hf.base_model_prefix + "."
    by_depth, top = depths(hf)
    heads = head_names(hf)
    is_backbone = not any(name.startswith(prefix) for name in by_depth)  # with nothing around it
    layer_of = {name: _layer_of(name, modules) for name in by_depth if name.startswith(prefix)}
    holders = list(dict.fromkeys(layer[0] for layer in layer_of.values() if layer is not None))
    found: dict[str, str] = {}
    for name, depth in by_depth.items():
        layer = layer_of.get(name)
        if layer is not None:
            stack = f"{layer[0].rpartition('.')[2]} " if len(holders) > 1 else ""
            found[name] = f"{stack}layer {layer[2]}"
        elif "pooler" in name.split("."):
            found[name] = "pooler"
        elif name in heads or is_backbone:
            found[name] = "head" if heads else "model"
        else:
            found[name] = "embeddings" if depth == 0 and top > 1 else "after the layers" if top > 1 else "backbone"
    return found
