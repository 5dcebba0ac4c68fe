"""The firing census: how often, and where in the window, each MLP neuron is active.

One pass over the text; what is kept of a layer depends on its neurons and on the length of a
window, not on how much text there is. Two parts of a text add up.

Shapes: ``N`` tokens of a batch, ``W`` whole windows of it, ``T`` positions of a window, ``F``
neurons of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.activity import cutoff
from sweeper.neurons.passes import Unseen, read, watching
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Firing:
    """How often a layer's neurons were active."""

    active: Tensor
    """Tokens at which each neuron was active: int64, shape F."""
    by_position: Tensor
    """The same by position, over windows of full length: int32, (T, F)."""
    num_tokens: int
    num_windows: int
    """Windows of full length."""

    @classmethod
    def empty(cls, length: int, size: int, device: torch.device) -> "Firing":
        """Of no text; windows of full length have ``length`` tokens."""
        return cls(
            active=torch.zeros(size, dtype=torch.int64, device=device),
            by_position=torch.zeros((length, size), dtype=torch.int32, device=device),
            num_tokens=0,
            num_windows=0,
        )

    def add(self, active_NF: Tensor, length: int) -> None:
        """Take in windows of one length, one after the other."""
        length_full, size = self.by_position.shape
        if length == length_full:
            by_position_TF = active_NF.view(-1, length, size).sum(0, dtype=torch.int32)
            self.by_position += by_position_TF
            self.active += by_position_TF.sum(0, dtype=torch.int64)
            self.num_windows += len(active_NF) // length
        else:
            self.active += active_NF.sum(0, dtype=torch.int64)
        self.num_tokens += len(active_NF)

    def merged(self, other: "Firing") -> "Firing":
        """Of both texts."""
        return Firing(
            active=self.active + other.active,
            by_position=self.by_position + other.by_position,
            num_tokens=self.num_tokens + other.num_tokens,
            num_windows=self.num_windows + other.num_windows,
        )

    def frequency_by_position(self) -> NDArray[np.float64]:
        """Share of the full windows in which a neuron is active at a position; shape (F, T).

        NaN without a window of full length.
        """
        counts_FT = self.by_position.T.double().cpu().numpy()
        return counts_FT / self.num_windows if self.num_windows else np.full_like(counts_FT, np.nan)


def firing_of(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: range,
    budget: TokenBudget,
    threshold: float,
    length: int,
) -> list[Firing]:
    """The firing of all layers over some of a text's windows.

    Args:
        model: the loaded model, without clamps.
        rows: all windows of the text.
        windows: which of them; none beyond the end.
        budget: most positions in one forward pass.
        threshold: a neuron is active where its activation exceeds it.
        length: tokens of a window of full length; positions are told apart in these only.

    Raises:
        FloatingPointError: a pre-activation is NaN.
        ValueError: ``threshold`` is negative.
    """
    gathering = _Gathering(model, threshold, length, windows.start)
    with watching(model.sites, gathering.look):
        read(model, rows, windows, budget, gathering.begin)
    return gathering.layers


class _Gathering(Unseen):
    def __init__(self, model: LoadedModel, threshold: float, length: int, first: int) -> None:
        super().__init__(len(model.sites), first)
        self._cutoffs = [cutoff(site.activation, threshold) for site in model.sites]
        self.layers = [
            Firing.empty(length, site.size, _device_of(site, model)) for site in model.sites
        ]

    def look(self, site: MlpSite, _inputs_ND: Tensor, values_NF: Tensor) -> None:
        places = self.places(site.layer)
        if places is None:
            return
        new_NF = values_NF[places]
        if bool(new_NF.isnan().any()):
            raise FloatingPointError(f"layer {site.layer}: a pre-activation is NaN")
        self.layers[site.layer].add(new_NF >= self._cutoffs[site.layer], self.length)


def _device_of(site: MlpSite, model: LoadedModel) -> torch.device:
    """Where a layer computes; its weights may be elsewhere while it does not."""
    device = next(site.pre_activation.parameters()).device
    return model.input_device if device.type == "meta" else device
