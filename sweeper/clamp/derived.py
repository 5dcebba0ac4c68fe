"""A layer's output under a clamp, from its output without one, less what is switched off.

Where an MLP's output is added to the residual stream as it is, switching neurons off takes away
what they write, and nothing else of the layer changes. Conditions that part at a layer then need
one pass of it for all of them together.

Shapes: ``N`` places, ``F`` outputs of a module, ``D`` hidden size, ``K`` chosen neurons.
"""

import torch
from torch import Tensor

from sweeper.clamp.action import Action
from sweeper.models.loading import LoadedModel


def can_derive(model: LoadedModel) -> bool:
    """Whether layers may be derived.

    Not in half precision: there the neurons' part is lost in the rounding of a sum with a large
    part that is taken away again.
    """
    weights = [site.output.get_parameter("weight") for site in model.sites]
    here = all(weight.dtype == torch.float32 and not weight.is_meta for weight in weights)
    plain = all(type(site.output).__name__ in ("Linear", "Conv1D") for site in model.sites)
    return model.output_is_added and here and plain


class Derivation:
    """What one action takes away, gathered while a layer computes without it."""

    def __init__(self, action: Action) -> None:
        """Of an action that ``switches_off``."""
        self._action = action
        self._off_NK: Tensor | None = None
        self._taken_ND: Tensor | None = None

    def at_pre_activation(self, outputs_NF: Tensor) -> Tensor:
        """See which neurons are switched off; (N, K), as ``Action.apply`` returns it."""
        self._off_NK = self._action.switched_off(outputs_NF)
        return self._off_NK

    def at_output(self, units_NF: Tensor) -> None:
        """See the activations that enter the output projection."""
        assert self._off_NK is not None
        index_K, written_KD = self._action.written(units_NF)
        units_NK = units_NF.index_select(-1, index_K) * self._off_NK
        self._taken_ND = units_NK @ written_KD

    def applied(self, output_BTD: Tensor) -> Tensor:
        """The layer's output under the action, from the one without."""
        assert self._taken_ND is not None
        taken = self._taken_ND.view(output_BTD.shape).to(output_BTD.device)
        return output_BTD - taken
