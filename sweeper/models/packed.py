"""Linear maps on CPU with weights laid out once for oneDNN's matrix product.

In float32 ``torch.nn.functional.linear`` goes to another library, which lays out the weights anew
in every call. Measured on the shapes of SmolLM2-135M: 1.12 to 1.3 times its rate (AMD, AVX-512).
The sums are in another order, so the numbers differ as those of any other packing do.

Shapes: ``I`` inputs of a linear map, ``O`` outputs.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D
from xxhash import xxh3_64_intdigest

from sweeper.models.shape import MOST_PACKED

EXPECTED_ROWS = 2048
"""Input vectors of one call that the layout is made for; it serves any number of them."""


@dataclass(slots=True)
class _Laid:
    """A linear map's weight, or parts of it, in oneDNN's layout."""

    content: int
    """Hash of the weight that they were made of."""
    parts: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    current: bool = False
    """Whether a ``with`` block is open in which the weight stays as it is."""


_LAID: WeakKeyDictionary[nn.Module, _Laid] = WeakKeyDictionary()


@contextmanager
def packed_linears(layers: nn.ModuleList, head: nn.Module) -> Iterator[None]:
    """Let linear maps compute by oneDNN until the ``with`` block is left; weights must not change.

    The layers' linear maps do so by themselves, and hooks on them work as before; a head does where
    it is asked for ``packed`` parts. What cannot be packed stays as it is. Layouts are kept for the
    next time, as long as the module lives and its weight is the same, number by number.
    """
    chosen = list(_packable([*layers.modules(), head]))
    try:
        for module in chosen:
            _laid(module).current = True
            if module is not head:
                layout = packed(module, 0, _weight(module).shape[0])
                vars(module)["forward"] = partial(linear, packed_OI=layout, bias_O=_bias(module))
        yield
    finally:
        for module in chosen:
            _LAID[module].current = False
            if module is not head:
                vars(module).pop("forward", None)


def is_packed(module: nn.Module) -> bool:
    """Whether ``packed`` may be called."""
    return module in _LAID and _LAID[module].current


def packed(module: nn.Module, begin: int, end: int) -> Tensor:
    """Outputs ``begin`` to ``end`` of a weight, laid out; only inside ``packed_linears``."""
    assert _LAID[module].current
    parts = _LAID[module].parts
    if (begin, end) not in parts:
        with torch.inference_mode(False), torch.no_grad():
            part_OI = _weight(module).detach()[begin:end].contiguous()
            parts[begin, end] = torch.ops.mkldnn._reorder_linear_weight(part_OI, EXPECTED_ROWS)
    return parts[begin, end]


def linear(inputs: Tensor, packed_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """``inputs @ weight.T + bias`` for inputs (..., I) and a packed weight; (..., O)."""
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed_OI, bias_O, "none", [], "")
    return output


def _packable(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Linear maps in float32 on CPU whose computation nobody has replaced (as accelerate does)."""
    linears = [m for m in modules if type(m) in (nn.Linear, Conv1D) and "forward" not in vars(m)]
    weights = [_weight(module) for module in linears]
    suit = all(w.device.type == "cpu" and w.dtype == torch.float32 for w in weights)
    small = sum(weight.numel() * weight.element_size() for weight in weights) <= MOST_PACKED
    return linears if suit and small and torch._C._has_mkldnn else []


def _laid(module: nn.Module) -> _Laid:
    """The layouts of a module's weight as it is now."""
    # Neither address nor version of a tensor tells for certain: ``.data`` changes neither.
    content = xxh3_64_intdigest(_weight(module).detach().contiguous().numpy().data)
    if module not in _LAID or _LAID[module].content != content:
        _LAID[module] = _Laid(content)
    return _LAID[module]


def _weight(module: nn.Module) -> Tensor:
    """A linear map's weight (O, I); GPT-2 keeps it transposed."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.t() if isinstance(module, Conv1D) else weight


def _bias(module: nn.Module) -> Tensor | None:
    bias = module.bias
    assert bias is None or isinstance(bias, Tensor)
    return bias
