"""Inputs, what the affine maps leave over, and activations of a few neurons, on the first tokens.

What predictors of nonlinearity are fitted on: a third pass over as much text as they need. Held in
float32: 4 N (D + E + K) bytes of a layer.

Shapes: ``N`` tokens, ``D`` MLP inputs, ``E`` outputs, ``K`` neurons of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.passes import Unseen, read
from sweeper.neurons.routing.passes import Fires, Maps, watching_mlps
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

Chosen = Mapping[int, Sequence[int]]
"""Layer -> some of its neurons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What is kept of a layer's tokens; float32, on the host."""

    inputs: Tensor
    """(N, D)"""
    deltas: Tensor
    """(N, E)"""
    values: Tensor
    """(N, K)"""


def probe(
    model: LoadedModel,
    rows: Sequence[Row],
    budget: TokenBudget,
    maps: Maps,
    chosen: Chosen,
    fires: Fires,
) -> dict[int, Probed]:
    """Pass windows through the model and keep this of every token at the chosen neurons' layers.

    Args:
        model: the loaded model, without clamps.
        rows: the windows.
        budget: most positions in one forward pass.
        maps: the layers' affine maps.
        chosen: the neurons.
        fires: which value of theirs.
    """
    probing = _Probing(model, maps, chosen, fires)
    with watching_mlps([model.sites[layer] for layer in chosen], probing.look):
        read(model, rows, range(len(rows)), budget, probing.begin)
    found = {layer: _joined(probing.layers.pop(layer)) for layer in chosen}
    total = sum(map(len, rows))
    for layer, one in found.items():
        if len(one.inputs) != total:
            raise RuntimeError(f"layer {layer}: {len(one.inputs)} of {total} tokens seen")
    return found


def _joined(parts: list[Probed]) -> Probed:
    return Probed(
        inputs=torch.cat([part.inputs for part in parts]),
        deltas=torch.cat([part.deltas for part in parts]),
        values=torch.cat([part.values for part in parts]),
    )


class _Probing(Unseen):
    def __init__(self, model: LoadedModel, maps: Maps, chosen: Chosen, fires: Fires) -> None:
        super().__init__(len(model.sites))
        self._maps, self._chosen, self._fires = maps, chosen, fires
        self.layers: dict[int, list[Probed]] = {layer: [] for layer in chosen}

    def look(
        self, site: MlpSite, inputs_ND: Tensor, pre_NF: Tensor, units_NF: Tensor, outputs_NE: Tensor
    ) -> None:
        with self.new_places(site.layer) as places:
            if places is None:
                return
            neurons, x_ND = list(self._chosen[site.layer]), inputs_ND[places]
            if self._fires == "activation":
                values_NK = site.activation(pre_NF[places][:, neurons])
            else:
                values_NK = units_NF[places][:, neurons]
            deltas_NE = self._maps[site.layer].residuals(x_ND, outputs_NE[places])
            part = Probed(inputs=_kept(x_ND), deltas=_kept(deltas_NE), values=_kept(values_NK))
            self.layers[site.layer].append(part)


def _kept(values: Tensor) -> Tensor:
    """A copy of its own: what a hook is shown may be written over."""
    return values.detach().to("cpu", torch.float32, copy=True)
