"""What a routing analysis needs of every layer, in two passes over the text for all of them.

The first fits the affine map from each layer's MLP input to its output on the text's first tokens;
the second keeps of each token how far the output is from the map, how large it is, and which
neurons fire, under every threshold. Activations are never kept.

Memory: the fit takes 8 (D + 1) (D + 1 + E) bytes of a layer on the device; what is kept takes
F N / 8 bytes of a layer for each threshold and 16 N besides. Layers, and thresholds of a layer, are
taken in groups that stay below ``KEPT_BYTES``, with two passes for each group.

Shapes: ``N`` tokens, ``D`` MLP inputs, ``E`` outputs, ``F`` neurons of a layer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.firing import cutoffs
from sweeper.neurons.passes import Unseen, read
from sweeper.neurons.routing.affine import ROUNDING, AffineMap, NormalEquations
from sweeper.neurons.routing.bits import FiringBits
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

Fires = Literal["activation", "product"]
"""What is compared with the threshold: the value of the activation function, or, in gated MLPs, its
product with the up projection, which is what enters the output projection."""

Look = Callable[[MlpSite, Tensor, Tensor, Tensor, Tensor], None]
"""Gets a site, MLP inputs (N, D), pre-activations and hidden units (N, F), and outputs (N, E)."""

Maps = Mapping[int, AffineMap]
"""Layer -> its affine map."""

KEPT_BYTES = 4e9
"""Most memory for what is kept of the layers that are analysed together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTokens:
    """What is known of every token at one layer."""

    layer: int
    residuals: NDArray[np.float64]
    """|delta|: distance of the MLP's output from the affine map's; shape (N,)."""
    output_norms: NDArray[np.float64]
    """|MLP output|; shape (N,)."""
    spread: float
    """Sum over the tokens of |output - its mean|^2."""
    bits: Mapping[float, FiringBits]
    """Threshold -> which neurons fire."""

    @property
    def fires(self) -> FiringBits:
        """Which neurons fire under the first threshold."""
        return next(iter(self.bits.values()))

    @property
    def linear_share(self) -> float:
        """Part of the outputs' variance that the affine map explains; NaN if they never vary."""
        left = float(np.square(self.residuals).sum())
        return 1 - left / self.spread if self.spread > 0 else float("nan")


def routing_tokens(
    model: LoadedModel,
    rows: Sequence[Row],
    budget: TokenBudget,
    *,
    threshold: float = 0.1,
    fires: Fires = "activation",
    fit_tokens: int = 50_000,
) -> list[LayerTokens]:
    """Pass the text twice; one result per layer, of all layers together.

    For use from Python, where memory holds all layers; the analysis of a job takes them in groups
    (``run.routing_work``).

    Args:
        model: the loaded model, without clamps.
        rows: token windows.
        budget: most positions in one forward pass.
        threshold: a neuron fires where its value exceeds it.
        fires: which value that is.
        fit_tokens: the affine maps are fitted on so many of the first tokens, in whole windows.

    Raises:
        ValueError: there are no windows, or the threshold is negative.
        FloatingPointError: an MLP's output is NaN or infinite.
    """
    maps = fit_maps(model, model.sites, rows, budget, fit_tokens)
    return keep_tokens(model, rows, budget, maps, (threshold,), fires)


def first_windows(rows: Sequence[Row], num_tokens: int) -> int:
    """How many windows make up so many of the first tokens; all if there are fewer."""
    ends = np.cumsum([len(row) for row in rows])
    return min(int(np.searchsorted(ends, num_tokens)) + 1, len(rows))


def fit_maps(
    model: LoadedModel,
    sites: Sequence[MlpSite],
    rows: Sequence[Row],
    budget: TokenBudget,
    fit_tokens: int,
) -> dict[int, AffineMap]:
    """The affine maps of some layers, in one pass over the text's first tokens.

    Raises:
        ValueError: there are no windows.
        FloatingPointError: an MLP's input or output is NaN or infinite.
    """
    if not rows:
        raise ValueError("a routing analysis needs at least one window")
    fitting = _Fitting(len(model.sites))
    with watching_mlps(sites, fitting.look):
        read(model, rows, range(first_windows(rows, fit_tokens)), budget, fitting.begin)
    return {layer: equations.solve() for layer, equations in fitting.layers.items()}


class _Fitting(Unseen):
    def __init__(self, num_layers: int) -> None:
        super().__init__(num_layers)
        self.layers: dict[int, NormalEquations] = {}

    def look(
        self, site: MlpSite, inputs_ND: Tensor, _pre: Tensor, _units: Tensor, outputs_NE: Tensor
    ) -> None:
        with self.new_places(site.layer) as places:
            if places is None:
                return
            x_ND, y_NE = inputs_ND[places], outputs_NE[places]
            if not bool(torch.isfinite(x_ND).all() and torch.isfinite(y_NE).all()):
                raise FloatingPointError(
                    f"layer {site.layer}: an input or output of the MLP is NaN or infinite"
                )
            equations = self.layers.get(site.layer)
            if equations is None:
                equations = NormalEquations.around(x_ND, y_NE)
            equations.add(x_ND, y_NE)
            self.layers[site.layer] = equations


def keep_tokens(
    model: LoadedModel,
    rows: Sequence[Row],
    budget: TokenBudget,
    maps: Maps,
    thresholds: Sequence[float],
    fires: Fires,
) -> list[LayerTokens]:
    """What is kept of every token at the layers of the maps, in one pass over the text.

    Raises:
        ValueError: a threshold is negative.
        FloatingPointError: an MLP's output is NaN or infinite.
    """
    keeping = _Keeping(model, rows, maps, thresholds, fires)
    with watching_mlps([model.sites[layer] for layer in maps], keeping.look):
        read(model, rows, range(len(rows)), budget, keeping.begin)
    return [kept.found(layer) for layer, kept in keeping.layers.items()]


@dataclass(slots=True)
class _Kept:
    residuals: NDArray[np.float64]
    output_norms: NDArray[np.float64]
    bits: dict[float, FiringBits]
    sums: Tensor | None = None
    """Of the outputs; float64, shape E."""
    done: int = 0

    def found(self, layer: int) -> LayerTokens:
        if self.sums is None or self.done != len(self.residuals):
            raise RuntimeError(f"layer {layer}: {self.done} of {len(self.residuals)} tokens seen")
        if not np.isfinite(self.residuals).all():
            raise FloatingPointError(f"layer {layer}: an output of the MLP is NaN or infinite")
        squares = float(np.square(self.output_norms).sum())
        spread = squares - float(self.sums.square().sum()) / len(self.residuals)
        return LayerTokens(
            layer=layer,
            residuals=self.residuals,
            output_norms=self.output_norms,
            spread=spread if spread > ROUNDING * squares else 0.0,
            bits=self.bits,
        )


class _Keeping(Unseen):
    def __init__(
        self,
        model: LoadedModel,
        rows: Sequence[Row],
        maps: Maps,
        thresholds: Sequence[float],
        fires: Fires,
    ) -> None:
        super().__init__(len(model.sites))
        total = sum(map(len, rows))
        self._maps, self._fires = maps, fires
        self._cutoffs = {limit: cutoffs(model, limit) for limit in thresholds}
        self.layers = {
            layer: _Kept(
                np.empty(total),
                np.empty(total),
                {limit: FiringBits(model.sites[layer].size, total) for limit in thresholds},
            )
            for layer in maps
        }

    def look(
        self, site: MlpSite, inputs_ND: Tensor, pre_NF: Tensor, units_NF: Tensor, outputs_NE: Tensor
    ) -> None:
        with self.new_places(site.layer) as places:
            if places is None:
                return
            kept, outputs_NE = self.layers[site.layer], outputs_NE[places].double()
            residuals_N = self._maps[site.layer].residual_norms(inputs_ND[places], outputs_NE)
            norms_N, sums_E = torch.linalg.vector_norm(outputs_NE, dim=1), outputs_NE.sum(0)
            sums_E = sums_E if kept.sums is None else kept.sums + sums_E
            to = slice(kept.done, kept.done + len(residuals_N))
            # What memory does not suffice for is written again, at the same tokens.
            kept.residuals[to] = residuals_N.cpu().numpy()
            kept.output_norms[to] = norms_N.cpu().numpy()
            for threshold, bits in kept.bits.items():
                fires_NF = self._firing(site.layer, threshold, pre_NF[places], units_NF[places])
                # Side by side for each neuron: they are packed ten times as fast.
                bits.put(kept.done, fires_NF.T.contiguous().cpu().numpy().T)
            kept.sums, kept.done = sums_E, to.stop

    def _firing(self, layer: int, threshold: float, pre_NF: Tensor, units_NF: Tensor) -> Tensor:
        """Which neurons fire: both in the numbers that the model computes in."""
        if self._fires == "activation":
            return pre_NF >= self._cutoffs[threshold][layer]
        return units_NF.float() > threshold


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


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that are analysed together, and the thresholds that one pass looks at."""

    sites: Sequence[MlpSite]
    thresholds: Sequence[Sequence[float]]
    """For each pass over the text."""


def groups(
    sites: Sequence[MlpSite],
    num_tokens: int,
    thresholds: Sequence[float],
    probed_tokens: int = 0,
    most_bytes: float = KEPT_BYTES,
) -> Iterator[Group]:
    """Cut layers, and thresholds where one layer's are too many, into what memory holds.

    Args:
        sites: of all layers; they are of one size.
        num_tokens: of the text.
        thresholds: in the order in which they are looked at.
        probed_tokens: tokens whose inputs and outputs are kept after that.
        most_bytes: at least one layer under one threshold is taken nevertheless.
    """
    site = sites[0]
    width = site.hidden + 1
    fit = 8 * width * (width + 2 * site.hidden)
    probed = 4 * probed_tokens * (2 * site.hidden + 8)
    each = FiringBits.memory(site.size, num_tokens)
    kept = 16 * num_tokens + each * len(thresholds)
    layers = max(int(most_bytes // max(fit, kept, probed)), 1)
    at_once = min(max(int((most_bytes - 16 * num_tokens) // each), 1), len(thresholds))
    passes = [thresholds[i : i + at_once] for i in range(0, len(thresholds), at_once)]
    for first in range(0, len(sites), layers):
        yield Group(sites[first : first + layers], passes)
