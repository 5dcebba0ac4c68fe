"""Roles of neurons by where they fire: exception handler, consensus, gateway; and phases of layers.

Balogh (2026), sections 3 and 4; thresholds are the study's.

Shapes: ``N`` tokens, ``F`` neurons, ``C`` consensus neurons, ``P`` patterns.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.neurons.routing.bits import FiringBits

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

LINEAR = (0.0, 0.25)
BARELY = (0.5, 0.7)
HIGHLY = (0.95, 1.0)
"""Regimes: ranges of the rank of |delta| among all tokens, as shares."""

HANDLER_CANDIDATES = 30
HANDLER_SHIFT, HANDLER_RATE = 0.3, 0.3
MOST_CONSENSUS = 7
CONSENSUS_SHIFT, CONSENSUS_RATE = -0.4, 0.6
GATEWAY_CANDIDATES = 8
LEAST_SEEN = 50
ENRICHED, GATEWAY_PATTERNS = 20, 15


def regime(residuals_N: Floats, share: tuple[float, float]) -> Bools:
    """Tokens whose rank by |delta| lies in a range; ties in the order of the text; shape (N,)."""
    ranks = np.empty(len(residuals_N), np.int64)
    ranks[np.argsort(residuals_N, kind="stable")] = np.arange(len(residuals_N))
    low, high = (round(edge * len(residuals_N)) for edge in share)
    inside: Bools = (ranks >= low) & (ranks < high)
    return inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Regimes:
    """Which tokens are in each regime; arrays of shape (N,)."""

    linear: Bools
    barely: Bools
    highly: Bools

    @classmethod
    def of(cls, residuals_N: Floats) -> "Regimes":
        """By |delta| of the tokens."""
        return cls(
            linear=regime(residuals_N, LINEAR),
            barely=regime(residuals_N, BARELY),
            highly=regime(residuals_N, HIGHLY),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of tokens at which each neuron of a layer fires; arrays of shape (F,)."""

    overall: Floats
    linear: Floats
    barely: Floats
    highly: Floats

    @classmethod
    def of(cls, fires: FiringBits, regimes: Regimes) -> "Rates":
        """From the neurons' firing."""
        return cls(
            overall=fires.rates(),
            linear=fires.rates(regimes.linear),
            barely=fires.rates(regimes.barely),
            highly=fires.rates(regimes.highly),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """A layer's exception handler and its consensus neurons; it has both or neither."""

    handler: int
    consensus: tuple[int, ...]
    """The most negative shift first."""


def find_quorum(rates: Rates) -> Quorum | None:
    """The exception handler and the consensus neurons of a layer, if it has both.

    The handler fires for what is highly nonlinear: among the 30 neurons whose rate shifts most
    between the linear and the highly nonlinear regime, the one with the largest shift upwards, if
    that exceeds 0.3 and it fires at less than 30 % of all tokens. Consensus neurons fall silent
    there: up to 7 with the largest shifts downwards, beyond -0.4, that fire at more than 60 %.
    """
    shift = rates.highly - rates.linear
    candidates = np.argsort(-np.abs(shift), kind="stable")[:HANDLER_CANDIDATES]
    rare = candidates[
        (shift[candidates] > HANDLER_SHIFT) & (rates.overall[candidates] < HANDLER_RATE)
    ]
    usual = np.flatnonzero((shift < CONSENSUS_SHIFT) & (rates.overall > CONSENSUS_RATE))
    consensus = usual[np.argsort(shift[usual], kind="stable")][:MOST_CONSENSUS]
    if not len(rare) or not len(consensus):
        return None
    handler = rare[np.argmax(shift[rare])]
    return Quorum(handler=int(handler), consensus=tuple(int(neuron) for neuron in consensus))


def gateway_candidates(rates: Rates) -> Ints:
    """The 8 neurons whose rates differ most between the linear and the barely nonlinear regime."""
    shift = np.abs(rates.barely - rates.linear)
    return np.argsort(-shift, kind="stable")[:GATEWAY_CANDIDATES]


def enrichment(fires_NK: Bools, barely_N: Bools, linear_N: Bools) -> pd.DataFrame:
    """How much more frequent each pattern of firing is in the barely nonlinear regime.

    Args:
        fires_NK: whether each candidate fires at each token.
        barely_N: tokens of the barely nonlinear regime.
        linear_N: tokens of the linear one.

    Returns:
        ``pattern`` (bit k: candidate k fires), ``count`` (tokens of the text), ``enrichment``
        (share among the barely nonlinear / share among the linear tokens; infinite where the latter
        is 0); patterns seen at least 50 times, the most enriched first, of equally enriched ones
        the most frequent.
    """
    patterns_N = patterns_of(fires_NK)
    size = 1 << fires_NK.shape[1]
    everywhere, barely, linear = (
        np.bincount(patterns_N[chosen], minlength=size)
        for chosen in (slice(None), barely_N, linear_N)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (barely / barely.sum()) / (linear / linear.sum())
    table = pd.DataFrame({"pattern": np.arange(size), "count": everywhere, "enrichment": ratio})
    seen = table[(table["count"] >= LEAST_SEEN) & table["enrichment"].notna()]
    # Many patterns never occur among the linear tokens: of those the frequent ones tell more.
    order = seen.sort_values(["enrichment", "count"], ascending=False, kind="stable")
    return order.reset_index(drop=True)


def patterns_of(fires_NK: Bools) -> Ints:
    """The pattern of each token: bit k is set where neuron k fires; shape (N,)."""
    patterns: Ints = fires_NK @ (1 << np.arange(fires_NK.shape[1]))
    return patterns


def find_gateway(patterns: pd.DataFrame, candidates: Ints) -> int | None:
    """The candidate that fires in at least 15 of the 20 most enriched patterns; None without one.

    Of several the one that fires in most.
    """
    top = patterns["pattern"].to_numpy()[:ENRICHED]
    fires_PK = (top[:, None] >> np.arange(len(candidates))) & 1
    times = fires_PK.sum(0)
    if not len(times) or times.max() < GATEWAY_PATTERNS:
        return None
    return int(candidates[np.argmax(times)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """What the neurons of a layer do under one threshold."""

    rates: Rates
    quorum: Quorum | None
    candidates: Ints
    """Of a gateway."""
    patterns: pd.DataFrame
    """Of the candidates, the most enriched first (``enrichment``)."""
    gateway: int | None

    @property
    def phase(self) -> str:
        """Of the layer."""
        return phase(self.quorum, self.gateway)

    @property
    def routing_neurons(self) -> tuple[int, ...]:
        """The consensus neurons and the handler; without a quorum the candidates of a gateway."""
        if self.quorum is None:
            return tuple(int(neuron) for neuron in self.candidates)
        return (*self.quorum.consensus, self.quorum.handler)


def find_roles(fires: FiringBits, regimes: Regimes) -> Roles:
    """Seek a quorum and a gateway in a layer.

    Args:
        fires: which neurons fire at which tokens.
        regimes: of the layer.
    """
    rates = Rates.of(fires, regimes)
    candidates = gateway_candidates(rates)
    patterns = enrichment(fires.of(candidates.tolist()).T, regimes.barely, regimes.linear)
    return Roles(
        rates=rates,
        quorum=find_quorum(rates),
        candidates=candidates,
        patterns=patterns,
        gateway=find_gateway(patterns, candidates),
    )


def phase(quorum: Quorum | None, gateway: int | None) -> str:
    """``decision`` (a quorum), ``scaffold`` (a gateway and no quorum) or ``diffuse`` (neither)."""
    if quorum is not None:
        return "decision"
    return "diffuse" if gateway is None else "scaffold"


def exclusivity(one_N: Bools, other_N: Bools) -> float:
    """1 - both / either: 1 if two neurons never fire together; NaN if neither ever fires."""
    either = int((one_N | other_N).sum())
    return 1 - int((one_N & other_N).sum()) / either if either else float("nan")
