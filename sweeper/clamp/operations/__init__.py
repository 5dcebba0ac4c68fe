"""The registry of operations on MLPs: one small file and one line here for each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sweeper.clamp.operations.negative_clamp import negative_clamp
from sweeper.clamp.operations.positive_clamp import positive_clamp
from sweeper.clamp.operations.positive_relu import positive_relu
from sweeper.clamp.operations.put_in import put_in
from sweeper.clamp.operations.remove_mlp import remove_mlp
from sweeper.clamp.operations.sign_flip import sign_flip
from sweeper.clamp.operations.zero import zero


@dataclass(frozen=True, slots=True)
class Operation:
    """How values change, and which values these are."""

    change: Callable[..., Tensor]
    """The values of the chosen neurons in, new ones of the same shape out; must not change its
    arguments. What ``takes`` says is the second argument."""
    place: Literal["pre_activation", "activation", "output"] = "pre_activation"
    """The module of ``MlpSite`` whose outputs change. Those of ``output`` belong to no neuron: an
    operation there is on whole layers."""
    switches_off: bool = False
    """Pre-activations that change become 0, so that the neuron's activation is 0 too."""
    takes: Literal["values", "inputs"] | None = None
    """``values``: the condition's number for each neuron. ``inputs``: what has entered the module
    for each chosen neuron (at ``activation``: its pre-activation)."""

    @property
    def whole(self) -> bool:
        """Whether it needs every neuron of a layer."""
        return self.place == "output"


OPERATIONS: dict[str, Operation] = {
    "negative_clamp": Operation(negative_clamp, switches_off=True),
    "positive_clamp": Operation(positive_clamp, switches_off=True),
    "zero": Operation(zero, switches_off=True),
    "mean": Operation(put_in, takes="values"),
    "set": Operation(put_in, takes="values"),
    "sign_flip": Operation(sign_flip, "activation"),
    "positive_relu": Operation(positive_relu, "activation", takes="inputs"),
    "remove_mlp": Operation(remove_mlp, "output"),
}
