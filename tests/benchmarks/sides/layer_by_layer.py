"""The obvious routing analysis: one pass over the text for each layer, its activations kept.

Then ``numpy.linalg.lstsq`` in float64, and the protocol's roles from kept booleans.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.routing.roles import (
    Quorum,
    Rates,
    Regimes,
    enrichment,
    find_gateway,
    find_quorum,
    gateway_candidates,
)
from sweeper.score.tokens import Row

Floats = NDArray[np.float64]

RCOND = 1e-6
"""Directions of the inputs below this part of the largest are rounding of float32: LayerNorm leaves
one such, and a map that uses it would be fitted to noise."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What is found at a layer."""

    residuals: Floats
    quorum: Quorum | None
    gateway: int | None


def analyse(
    model: LoadedModel, batches: Sequence[Sequence[Row]], layer: int, threshold: float
) -> Layer:
    """|delta| of all tokens, fitted on all of them, and the neurons with a role."""
    x_ND, activations_NF, y_NE = _keep(model, model.sites[layer], batches)
    design = np.column_stack([x_ND, np.ones(len(x_ND))]).astype(np.float64)
    solution = np.linalg.lstsq(design, y_NE.astype(np.float64), rcond=RCOND)[0]
    residuals = np.linalg.norm(y_NE - design @ solution, axis=1)
    fires_NF = activations_NF > threshold
    regimes = Regimes.of(residuals)
    rates = Rates(
        overall=fires_NF.mean(0),
        linear=fires_NF[regimes.linear].mean(0),
        barely=fires_NF[regimes.barely].mean(0),
        highly=fires_NF[regimes.highly].mean(0),
    )
    candidates = gateway_candidates(rates)
    patterns = enrichment(fires_NF[:, candidates], regimes.barely, regimes.linear)
    return Layer(residuals, find_quorum(rates), find_gateway(patterns, candidates))


@torch.inference_mode()
def _keep(
    model: LoadedModel, site: MlpSite, batches: Sequence[Sequence[Row]]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    inputs: list[torch.Tensor] = []
    activations: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []

    def keep_inputs(_module: object, entered: tuple[torch.Tensor, ...], _output: object) -> None:
        inputs.append(entered[0].flatten(0, -2).clone())

    def keep_activations(_module: object, _inputs: object, output: torch.Tensor) -> None:
        activations.append(output.flatten(0, -2).clone())

    def keep_outputs(_module: object, _inputs: object, output: torch.Tensor) -> None:
        outputs.append(output.flatten(0, -2).clone())

    handles = [
        site.pre_activation.register_forward_hook(keep_inputs),
        site.activation.register_forward_hook(keep_activations),
        site.output.register_forward_hook(keep_outputs),
    ]
    try:
        for batch in batches:
            model.hidden_states(torch.tensor(batch, device=model.input_device))
    finally:
        for handle in handles:
            handle.remove()
    x, values, y = (torch.cat(kept).cpu().numpy() for kept in (inputs, activations, outputs))
    return x, values, y
