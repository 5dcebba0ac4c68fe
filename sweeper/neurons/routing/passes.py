"""What a routing analysis needs of every layer, in two passes over the text for all of them.

The first fits the affine map from each layer's MLP input to its output on the text's first tokens;
the second keeps three things of each token: how far the output is from the map, how large it is,
and which neurons fire. Activations are never kept.

Shapes: ``N`` tokens, ``D`` hidden size, ``F`` neurons of a layer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.activity import cutoff
from sweeper.neurons.passes import Unseen, read
from sweeper.neurons.routing.affine import AffineMap, NormalEquations
from sweeper.neurons.routing.bits import FiringBits
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

Fires = Literal["activation", "product"]
"""What is compared with the threshold: the value of the activation function, or, in gated MLPs, its
product with the up projection, which is what enters the output projection."""

Look = Callable[[MlpSite, Tensor, Tensor, Tensor, Tensor], None]
"""Gets a site, MLP inputs (N, D), pre-activations and hidden units (N, F), and outputs (N, D)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTokens:
    """What is known of every token at one layer."""

    residuals: NDArray[np.float64]
    """|delta|: distance of the MLP's output from the affine map's; shape (N,)."""
    output_norms: NDArray[np.float64]
    """|MLP output|; shape (N,)."""
    fires: FiringBits


def routing_tokens(
    model: LoadedModel,
    rows: Sequence[Row],
    budget: TokenBudget,
    *,
    threshold: float = 0.1,
    fires: Fires = "activation",
    fit_tokens: int = 50_000,
) -> list[LayerTokens]:
    """Pass the text twice; one result per layer.

    Args:
        model: the loaded model, without clamps.
        rows: token windows.
        budget: most positions in one forward pass.
        threshold: a neuron fires where its value exceeds it.
        fires: which value that is.
        fit_tokens: the affine maps are fitted on so many of the first tokens, in whole windows.

    Raises:
        ValueError: there are no windows, or the threshold is negative.
    """
    if not rows:
        raise ValueError("a routing analysis needs at least one window")
    maps = _fit(model, rows, budget, fit_tokens)
    keeping = _Keeping(model, rows, maps, threshold, fires)
    with watching_mlps(model.sites, keeping.look):
        read(model, rows, range(len(rows)), budget, keeping.begin)
    return [
        LayerTokens(residuals=layer.residuals, output_norms=layer.output_norms, fires=layer.bits)
        for layer in keeping.layers
    ]


def _fit(
    model: LoadedModel, rows: Sequence[Row], budget: TokenBudget, fit_tokens: int
) -> list[AffineMap]:
    ends = np.cumsum([len(row) for row in rows])
    number = min(int(np.searchsorted(ends, fit_tokens)) + 1, len(rows))
    fitting = _Fitting(len(model.sites))
    with watching_mlps(model.sites, fitting.look):
        read(model, rows, range(number), budget, fitting.begin)
    return [equations.solve() for equations in fitting.layers if equations is not None]


class _Fitting(Unseen):
    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.layers: list[NormalEquations | None] = [None] * num_layers

    def look(
        self, site: MlpSite, inputs_ND: Tensor, _pre: Tensor, _units: Tensor, outputs_ND: Tensor
    ) -> None:
        places = self.places(site.layer)
        if places is None:
            return
        x_ND, y_ND = inputs_ND[places], outputs_ND[places]
        equations = self.layers[site.layer] or NormalEquations.around(x_ND, y_ND)
        equations.add(x_ND, y_ND)
        self.layers[site.layer] = equations


@dataclass(slots=True)
class _Kept:
    residuals: NDArray[np.float64]
    output_norms: NDArray[np.float64]
    bits: FiringBits
    done: int = 0


class _Keeping(Unseen):
    def __init__(
        self,
        model: LoadedModel,
        rows: Sequence[Row],
        maps: Sequence[AffineMap],
        threshold: float,
        fires: Fires,
    ) -> None:
        super().__init__(len(maps))
        total = sum(map(len, rows))
        self._maps, self._fires, self._threshold = maps, fires, threshold
        self._cutoffs = [cutoff(site.activation, threshold) for site in model.sites]
        self.layers = [
            _Kept(np.empty(total), np.empty(total), FiringBits(site.size, total))
            for site in model.sites
        ]

    def look(
        self, site: MlpSite, inputs_ND: Tensor, pre_NF: Tensor, units_NF: Tensor, outputs_ND: Tensor
    ) -> None:
        places, kept = self.places(site.layer), self.layers[site.layer]
        if places is None:
            return
        outputs_ND = outputs_ND[places]
        residuals_N = self._maps[site.layer].residual_norms(inputs_ND[places], outputs_ND)
        to = slice(kept.done, kept.done + len(residuals_N))
        kept.residuals[to] = residuals_N.cpu().numpy()
        norms_N = torch.linalg.vector_norm(outputs_ND.double(), dim=1)
        kept.output_norms[to] = norms_N.cpu().numpy()
        if self._fires == "activation":
            fires_NF = pre_NF[places] >= self._cutoffs[site.layer]
        else:
            fires_NF = units_NF[places] > self._threshold
        kept.bits.put(kept.done, fires_NF.cpu().numpy())
        kept.done = to.stop


@contextmanager
def watching_mlps(sites: Sequence[MlpSite], look: Look) -> Iterator[None]:
    """Call ``look`` once for every MLP and batch, when its output is there."""
    waiting: dict[int, tuple[Tensor, Tensor]] = {}

    def enter_for(site: MlpSite) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def enter(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            values = output[..., site.start : site.start + site.size]
            waiting[site.layer] = inputs[0].flatten(0, -2), values.flatten(0, -2)

        return enter

    def leave_for(site: MlpSite) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def leave(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            entered, values = waiting.pop(site.layer)
            look(site, entered, values, inputs[0].flatten(0, -2), output.flatten(0, -2))

        return leave

    handles = []
    try:
        for site in sites:
            handles.append(site.pre_activation.register_forward_hook(enter_for(site)))
            handles.append(site.output.register_forward_hook(leave_for(site)))
        yield
    finally:
        for handle in handles:
            handle.remove()
