"""Element-wise parts of a model on CPU with fewer trips to memory: the same numbers, sooner.

transformers writes a root-mean-square norm as five operations on the whole of a layer's states, and
SiLU into new memory; torch has the norm as one operation, and SiLU in place.

Shapes: ``D`` width of what is normalised.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import SiLUActivation

TOLERANCE = 1e-5
"""Relative difference up to which a norm counts as torch's own: rounding, in another order."""


@contextmanager
def fused_elementwise(model: nn.Module) -> Iterator[None]:
    """Let norms and activations compute that way until the ``with`` block is left.

    Nobody may keep what enters an activation function, but for hooks on that function itself. A
    module that is written differently, or whose computation has been replaced, stays as it is.
    """
    chosen = [module for module in model.modules() if "forward" not in vars(module)]
    fused: list[nn.Module] = []
    try:
        for module in chosen:
            epsilon = _epsilon(module)
            if isinstance(module, SiLUActivation | nn.SiLU):
                vars(module)["forward"] = partial(_silu, module)
                fused.append(module)
            elif epsilon is not None and _is_rms_norm(module, epsilon):
                vars(module)["forward"] = partial(_rms_norm, module, epsilon)
                fused.append(module)
        yield
    finally:
        for module in fused:
            vars(module).pop("forward", None)


def _epsilon(module: nn.Module) -> float | None:
    """What a norm adds to the mean square, by either of the names that transformers has for it."""
    if not type(module).__name__.endswith("RMSNorm"):
        return None
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return epsilon if isinstance(epsilon, float) else None


@torch.inference_mode()
def _is_rms_norm(module: nn.Module, epsilon: float) -> bool:
    """Whether the module computes on float32 what torch's norm does (some scale by 1 + weight)."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dtype != torch.float32 or weight.ndim != 1:
        return False
    if weight.device.type != "cpu":
        return False
    states_BD = torch.linspace(-3, 5, 4 * len(weight)).view(4, -1)
    expected = module(states_BD)
    return torch.allclose(expected, _rms_norm(module, epsilon, states_BD), TOLERANCE, TOLERANCE)


def _rms_norm(module: nn.Module, epsilon: float, hidden_states: Tensor) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return functional.rms_norm(hidden_states, weight.shape, weight, epsilon)


def _silu(module: nn.Module, input: Tensor) -> Tensor:
    return functional.silu(input, inplace=not module._forward_hooks)
