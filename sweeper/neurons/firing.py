"""The firing census: how often, and where in the window, each MLP neuron is active.

One pass over windows of one length. What is kept of a layer depends on its neurons and on the
length of a window, not on how much text there is, and two parts of a text add up. Activations are
counted at each position of a window, at the ends of n-grams, and at each of 512 classes of tokens.

The classes tell how many n-grams it takes at least to explain a neuron, before any is counted:
k n-grams end in at most k different tokens, which are of at most k classes. If the k classes with
most activations do not make up a share of them, no k n-grams do.

Shapes: ``N`` tokens of a batch, ``P`` of a piece, ``T`` positions of a window, ``C`` classes,
``F`` neurons of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.neurons.activity import cutoff, rounded_up
from sweeper.neurons.ngrams import LONGEST, SLACK, ends_none
from sweeper.neurons.passes import Batch, Unseen, read, watching
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

Ints = NDArray[np.int64]

CLASSES = 512
"""Tokens with the same id modulo this are of one class: the most frequent ones have small ids."""

WINDOWS = 255
"""Windows that are counted in a byte before they are added to what there is."""

PIECE = {"cpu": 2**20, "cuda": 2**26}
"""Values that are counted at once: on CPU so few that they stay in the cache."""


@dataclass(frozen=True, slots=True)
class FirstPass:
    """What is known of a layer's n-grams before they are counted; row n - 1 is about n-grams."""

    activations: Ints
    """How often each neuron is active at the end of an n-gram: (3, F)."""
    least: Ints
    """No fewer n-grams make up the wanted share of these: (3, F); 0 without any."""


@dataclass(slots=True)
class Firing:
    """How often a layer's neurons were active, over windows of one length."""

    by_position: Tensor
    """Activations at each position: int32, (T, F)."""
    by_class: Tensor
    """Activations at each class of tokens, and at special ones: int32, (C + 1, F)."""
    apart: Tensor
    """Activations where no n-gram ends, n = 1, 2, 3: int64, (3, F)."""
    num_windows: int

    @classmethod
    def empty(cls, length: int, size: int, device: torch.device) -> "Firing":
        """Of no text; windows have ``length`` tokens."""
        return cls(
            by_position=torch.zeros((length, size), dtype=torch.int32, device=device),
            by_class=torch.zeros((CLASSES + 1, size), dtype=torch.int32, device=device),
            apart=torch.zeros((LONGEST, size), dtype=torch.int64, device=device),
            num_windows=0,
        )

    @property
    def active(self) -> Tensor:
        """Tokens at which each neuron was active: int64, (F,)."""
        return self.by_position.sum(0)

    @property
    def num_tokens(self) -> int:
        """Of all windows."""
        return self.num_windows * len(self.by_position)

    def merged(self, other: "Firing") -> "Firing":
        """Of both texts."""
        return Firing(
            by_position=self.by_position + other.by_position,
            by_class=self.by_class + other.by_class,
            apart=self.apart + other.apart,
            num_windows=self.num_windows + other.num_windows,
        )

    def frequency_by_position(self) -> NDArray[np.float64]:
        """Share of the windows in which a neuron is active at a position; shape (F, T).

        NaN without a window.
        """
        counts_FT = self.by_position.T.double().cpu().numpy()
        return counts_FT / self.num_windows if self.num_windows else np.full_like(counts_FT, np.nan)

    def first_pass(self, cover: float) -> FirstPass:
        """What a second pass must know that asks which n-grams make up a share ``cover``."""
        activations_3F: Ints = (self.active - self.apart).cpu().numpy()
        counts_FC = np.sort(self.by_class[:CLASSES].T.contiguous().cpu().numpy(), axis=1)
        within_FC = counts_FC[:, ::-1].cumsum(1, dtype=np.int64)
        needed_3F = cover * activations_3F - SLACK
        least = np.stack([(within_FC < of_n[:, None]).sum(1) + 1 for of_n in needed_3F])
        return FirstPass(activations=activations_3F, least=np.where(activations_3F > 0, least, 0))

    def add(self, values_NF: Tensor, cutoff: float, text: "WindowsText") -> None:
        """Take in windows, one after the other.

        Args:
            values_NF: pre-activations.
            cutoff: a neuron is active where they reach it.
            text: the windows' tokens.

        Raises:
            FloatingPointError: a value is NaN.
        """
        values_WTF = values_NF.reshape(-1, *self.by_position.shape)
        classes_WT = text.classes.to(values_NF.device).view(values_WTF.shape[:2])
        several = (torch.split(all_of_it, WINDOWS) for all_of_it in (values_WTF, classes_WT))
        counted = [_count(some, cutoff, classes) for some, classes in zip(*several, strict=True)]
        apart = [
            (values_NF[torch.from_numpy(places).to(values_NF.device)] >= cutoff).sum(0)
            for places in text.apart
        ]
        # NaN is active nowhere: only sums show it, and those of infinities may be NaN, too.
        if not all(one.is_finite for one in counted) and bool(values_NF.isnan().any()):
            raise FloatingPointError("a pre-activation is NaN")
        first, *rest = counted
        positions, classes = first.by_position.to(torch.int32), first.by_class
        for one in rest:
            positions += one.by_position
            classes += one.by_class
        beside = torch.stack(apart)
        # Nothing is changed before all is there, in the types that it is added to: from here on
        # no memory is needed, and what needs memory may be tried again.
        self.by_position += positions
        self.by_class += classes
        self.apart += beside
        self.num_windows += len(values_WTF)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Of at most ``WINDOWS`` windows."""

    by_position: Tensor
    """uint8, (T, F)."""
    by_class: Tensor
    """int32, (C + 1, F)."""
    is_finite: bool
    """Whether the sum of all values is."""


def _count(values_WTF: Tensor, cutoff: float, classes_WT: Tensor) -> _Counted:
    """Count at most ``WINDOWS`` windows."""
    device, (num_windows, length, size) = values_WTF.device, values_WTF.shape
    step = max(PIECE.get(device.type, PIECE["cuda"]) // size, 1)
    total = torch.zeros((), dtype=torch.float32, device=device)
    # Small numbers are added many at once, and those of float32 are exact up to 2^24.
    by_position_TF = torch.zeros((length, size), dtype=torch.uint8, device=device)
    by_class_CF = torch.zeros((CLASSES + 1, size), dtype=torch.float32, device=device)
    for first in range(0, num_windows, max(step // length, 1)):
        some = slice(first, first + max(step // length, 1))
        for begin in range(0, length, step):
            here = slice(begin, begin + step)
            values_wtF = values_WTF[some, here]
            total += values_wtF.sum(dtype=torch.float32)
            active_wtF = values_wtF >= cutoff
            by_position_TF[here] += _over_windows(active_wtF.view(torch.uint8))
            classes_P = classes_WT[some, here].flatten()
            by_class_CF.index_add_(0, classes_P, active_wtF.flatten(0, 1).float())
    by_class = by_class_CF.to(torch.int32)
    return _Counted(by_position_TF, by_class, is_finite=bool(total.isfinite()))


def _over_windows(active_WTF: Tensor) -> Tensor:
    """Sum of at most ``WINDOWS`` windows of 0 and 1."""
    return active_WTF[0] if len(active_WTF) == 1 else active_WTF.sum(0, dtype=torch.uint8)


@dataclass(frozen=True, slots=True)
class WindowsText:
    """What counting must know of the tokens of some windows."""

    classes: Tensor
    """The class of each token, ``CLASSES`` for special ones: (N,)."""
    apart: Sequence[Ints]
    """Places at which no n-gram ends, n = 1, 2, 3."""

    @classmethod
    def of(cls, rows: Sequence[Row], special: Ints) -> "WindowsText":
        """Of windows of one length; ``special`` tokens are part of no n-gram."""
        tokens_WT = np.array(rows, np.int64)
        classes_WT = np.where(np.isin(tokens_WT, special), CLASSES, tokens_WT % CLASSES)
        lengths = range(1, LONGEST + 1)
        return cls(
            classes=torch.from_numpy(classes_WT.ravel()),
            apart=[np.flatnonzero(ends_none(tokens_WT, n, special)) for n in lengths],
        )

    def since(self, place: int) -> "WindowsText":
        """Without what comes before a place."""
        later = [places[places >= place] - place for places in self.apart]
        return WindowsText(classes=self.classes[place:], apart=later)


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
        windows: which of them, each of ``length`` tokens; none beyond the end.
        budget: most positions in one forward pass.
        threshold: a neuron is active where its activation exceeds it.
        length: tokens of a window.

    Raises:
        FloatingPointError: a pre-activation is NaN.
        ValueError: ``threshold`` is negative, or a window has another length.
    """
    if any(len(rows[window]) != length for window in windows):
        raise ValueError(f"firing is counted over windows of {length} tokens")
    gathering = _Gathering(model, rows, threshold, length, windows.start)
    with watching(model.sites, gathering.look):
        read(model, rows, windows, budget, gathering.begin)
    return gathering.layers


class _Gathering(Unseen):
    def __init__(
        self,
        model: LoadedModel,
        rows: Sequence[Row],
        threshold: float,
        length: int,
        first: int,
    ) -> None:
        super().__init__(len(model.sites), first)
        self._rows, self._special = rows, special_tokens(model)
        self._cutoffs = cutoffs(model, threshold)
        self._text: WindowsText | None = None
        self.layers = [
            Firing.empty(length, site.size, _device_of(site, model)) for site in model.sites
        ]

    def begin(self, batch: Batch) -> None:
        super().begin(batch)
        self._text = WindowsText.of(self._rows[batch.first : batch.end], self._special)

    def look(self, site: MlpSite, _inputs_ND: Tensor, values_NF: Tensor) -> None:
        with self.new_places(site.layer) as places:
            if places is None or self._text is None:
                return
            text = self._text.since(places.start)
            try:
                self.layers[site.layer].add(values_NF[places], self._cutoffs[site.layer], text)
            except FloatingPointError as error:
                raise FloatingPointError(f"layer {site.layer}: {error}") from error


def special_tokens(model: LoadedModel) -> Ints:
    """Ids of BOS and the like, which are part of no n-gram."""
    return np.array(sorted(set(model.tokenizer.all_special_ids)), np.int64)


def cutoffs(model: LoadedModel, threshold: float) -> list[float]:
    """Smallest active pre-activation of each layer, in the numbers that the model computes in.

    Raises:
        ValueError: ``threshold`` is negative, or never exceeded.
    """
    dtype = getattr(torch, model.checkpoint.dtype)
    return [rounded_up(cutoff(site.activation, threshold), dtype) for site in model.sites]


def _device_of(site: MlpSite, model: LoadedModel) -> torch.device:
    """Where a layer computes; its weights may be elsewhere while it does not."""
    device = next(site.pre_activation.parameters()).device
    return model.input_device if device.type == "meta" else device
