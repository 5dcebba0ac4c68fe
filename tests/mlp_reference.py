"""Clamps written out by hand: MLPs from their weights alone, in double precision, without a hook.

They take the place of the MLPs in a copy of a model of transformers; nothing here knows of our
sites and operations.
"""

import copy
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Change = Mapping[str, Any]
"""``operation``, ``neurons`` and ``values`` of one layer."""


def gelu(a: Tensor) -> Tensor:
    """Exact."""
    return a * 0.5 * (1 + torch.erf(a / np.sqrt(2)))


def tanh_gelu(a: Tensor) -> Tensor:
    """Hendrycks and Gimpel's approximation."""
    return 0.5 * a * (1 + torch.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))


def silu(a: Tensor) -> Tensor:
    """a sigmoid(a)."""
    return a / (1 + torch.exp(-a))


def relu(a: Tensor) -> Tensor:
    """max(a, 0)."""
    return torch.where(a > 0, a, 0 * a)


ACTIVATIONS = {
    "gpt2": tanh_gelu,
    "gpt_neox": gelu,
    "opt": relu,
    "llama": silu,
    "mistral": silu,
    "qwen2": silu,
    "qwen3": silu,
    "olmo": silu,
    "olmo2": silu,
    "olmo3": silu,
    "gemma2": tanh_gelu,
    "gemma3_text": tanh_gelu,
    "phi": tanh_gelu,
    "phi3": silu,
}
PLAIN = {
    "gpt2": ("c_fc", "c_proj"),
    "gpt_neox": ("dense_h_to_4h", "dense_4h_to_h"),
    "opt": ("fc1", "fc2"),
    "phi": ("fc1", "fc2"),
}
"""Projections of MLPs without a gate."""


def changed_neurons(act: Any, a: Tensor, change: Change) -> Tensor:
    """What the neurons put out (the gate's part of it, where there is one)."""
    operation, chosen = change["operation"], list(change["neurons"])
    h, some = act(a), a[..., chosen]
    if operation == "negative_clamp":
        h[..., chosen] = act(torch.where(some < 0, 0 * some, some))
    elif operation == "positive_clamp":
        h[..., chosen] = act(torch.where(some > 0, 0 * some, some))
    elif operation == "zero":
        h[..., chosen] = 0
    elif operation in ("mean", "set"):
        h[..., chosen] = act(torch.tensor(change["values"], dtype=a.dtype))
    elif operation == "sign_flip":
        h[..., chosen] = torch.sqrt(act(some) ** 2)
    elif operation == "positive_relu":
        h[..., chosen] = torch.where(some > 0, some, act(some))
    else:
        raise AssertionError(operation)
    return h


def mlp(model_type: str, modules: Any, x: Tensor, change: Change) -> Tensor:
    """What the MLP of a layer adds to the residual stream."""
    if change["operation"] == "remove_mlp":
        return torch.zeros_like(x)
    act = ACTIVATIONS[model_type]
    if model_type in PLAIN:
        first, second = (getattr(modules, name) for name in PLAIN[model_type])
        if model_type == "gpt2":  # (in, out)
            h = changed_neurons(act, x @ first.weight + first.bias, change)
            return h @ second.weight + second.bias
        h = changed_neurons(act, x @ first.weight.T + first.bias, change)
        return h @ second.weight.T + second.bias
    if model_type == "phi3":
        gate, up = modules.gate_up_proj.weight.split(len(modules.gate_up_proj.weight) // 2)
    else:
        gate, up = modules.gate_proj.weight, modules.up_proj.weight
    return (changed_neurons(act, x @ gate.T, change) * (x @ up.T)) @ modules.down_proj.weight.T


class _By(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward = function


def _replace(model_type: str, layer: nn.Module, change: Change) -> None:
    """Put the written-out MLP where the layer has its own."""
    flat = model_type == "opt"  # the layer itself calls the projections
    modules = SimpleNamespace(fc1=layer.fc1, fc2=layer.fc2) if flat else layer.mlp
    by_hand = _By(lambda x: mlp(model_type, modules, x, change))
    if flat:
        layer.fc1, layer.activation_fn, layer.fc2 = by_hand, nn.Identity(), nn.Identity()
    else:
        layer.mlp = by_hand
    if change["operation"] == "remove_mlp" and hasattr(layer, "post_feedforward_layernorm"):
        layer.post_feedforward_layernorm = _By(torch.zeros_like)


def logits(model: PreTrainedModel, tokens_BT: Tensor, changes: Mapping[int, Change]) -> Tensor:
    """Logits (B, T, V) in double precision of a model with some layers' MLPs changed."""
    model = copy.deepcopy(model).double()
    kind = model.config.model_type
    owner = {"gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers", "opt": "model.decoder.layers"}
    layers: Sequence[nn.Module] = model.get_submodule(owner.get(kind, "model.layers"))
    for index, change in changes.items():
        _replace(kind, layers[index], change)
    with torch.inference_mode():
        return model(tokens_BT).logits
