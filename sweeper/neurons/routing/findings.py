"""What a routing analysis says of a layer: rows of its tables.

Shapes: ``N`` tokens of the text, ``C`` consensus neurons, ``K`` candidates of a gateway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.neurons.routing.bits import FiringBits
from sweeper.neurons.routing.gradient import (
    gradient,
    gradient_range,
    is_monotonic,
    joint_counts,
    levels,
)
from sweeper.neurons.routing.intervals import LevelTokens, level_intervals
from sweeper.neurons.routing.passes import LayerTokens
from sweeper.neurons.routing.roles import ENRICHED, Quorum, Rates, Roles, exclusivity, patterns_of
from sweeper.neurons.routing.splits import random_splits

Ints = NDArray[np.int64]
Row = dict[str, Any]

MOST_TOKENS = 10
"""Tokens told of a pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The text that was read; arrays of shape (N,)."""

    tokens: Ints
    """Token ids."""
    documents: Ints
    """Number of the window that each token is in."""
    name: Callable[[int], str]
    """The text of a token id."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], name: Callable[[int], str]) -> "Text":
        """From token windows."""
        lengths = [len(row) for row in rows]
        tokens = np.concatenate([np.asarray(row, np.int64) for row in rows])
        return cls(tokens=tokens, documents=np.repeat(np.arange(len(rows)), lengths), name=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Testing:
    """How much is drawn to test a layer's findings."""

    splits: int
    resamples: int
    seed: int


def findings(kept: LayerTokens, roles: Roles, text: Text, testing: Testing) -> dict[str, list[Row]]:
    """Rows of a layer by table of the store, without those of thresholds and predictors.

    Args:
        kept: what is known of the layer's tokens.
        roles: of its neurons, under the job's threshold.
        text: that was read.
        testing: how findings are tested.
    """
    quorum = roles.quorum
    about: Row = {
        "num_tokens": len(text.tokens),
        "num_documents": int(text.documents[-1]) + 1,
        "linear_share": kept.linear_share,
        "phase": roles.phase,
        "gateway": roles.gateway,
        "num_consensus": 0,
        "num_splits": 0,
    }
    tables: dict[str, list[Row]] = {
        "routing_neurons": neuron_rows(kept.fires, roles),
        "routing_patterns": _pattern_rows(kept.fires, roles, text),
    }
    if quorum is not None:
        by_level = _levels(kept, quorum, text)
        tables["routing_levels"], of_range = _level_rows(by_level, testing)
        size, spread = len(quorum.consensus), of_range["range"]
        tables["routing_splits"], of_splits = _split_rows(kept.fires, size, spread, testing)
        alone = [row["exclusivity"] for row in tables["routing_neurons"] if "exclusivity" in row]
        about |= {
            "handler": quorum.handler,
            "handler_rate": float(roles.rates.overall[quorum.handler]),
            "num_consensus": len(quorum.consensus),
            "exclusivity": float(np.mean(alone)),
            **of_range,
            **of_splits,
        }
    tables["routing_layers"] = [about]
    return {name: [{"layer": kept.layer, **row} for row in rows] for name, rows in tables.items()}


def neuron_rows(fires: FiringBits, roles: Roles) -> list[Row]:
    """Neurons with a role, those of one role in their order."""
    quorum = roles.quorum
    named = {
        "handler": () if quorum is None else (quorum.handler,),
        "consensus": () if quorum is None else quorum.consensus,
        "gateway": () if roles.gateway is None else (roles.gateway,),
        "candidate": tuple(int(neuron) for neuron in roles.candidates),
    }
    rows = [
        {"neuron": neuron, "role": role, "place": place, **_rates(roles.rates, neuron)}
        for role, neurons in named.items()
        for place, neuron in enumerate(neurons)
    ]
    if quorum is not None:
        handler_N, *consensus_CN = fires.of([quorum.handler, *quorum.consensus])
        own = [row for row in rows if row["role"] == "consensus"]
        for row, consensus_N in zip(own, consensus_CN, strict=True):
            row["exclusivity"] = exclusivity(handler_N, consensus_N)
    return rows


def threshold_row(threshold: float, fires: FiringBits, roles: Roles, own: Roles) -> Row:
    """Roles under another threshold, and how many consensus neurons of the job's own they keep."""
    quorum = roles.quorum
    row: Row = {
        "threshold": threshold,
        "phase": roles.phase,
        "gateway": roles.gateway,
        "num_consensus": 0,
    }
    if quorum is not None:
        consensus_N, num_levels, handler_N = _routed(fires, quorum)
        row["handler"] = quorum.handler
        row["num_consensus"] = len(quorum.consensus)
        row["range"] = float(gradient_range(joint_counts(consensus_N, num_levels, handler_N)))
    if own.quorum is not None:
        found = set() if quorum is None else set(quorum.consensus)
        row["overlap"] = len(found & set(own.quorum.consensus)) / len(own.quorum.consensus)
    return row


def _rates(rates: Rates, neuron: int) -> Mapping[str, float]:
    return {
        "rate": float(rates.overall[neuron]),
        "rate_linear": float(rates.linear[neuron]),
        "rate_barely": float(rates.barely[neuron]),
        "rate_highly": float(rates.highly[neuron]),
    }


def _routed(fires: FiringBits, quorum: Quorum) -> tuple[Ints, int, NDArray[np.bool_]]:
    """Each token's level, the number of levels, and whether the handler fires."""
    bits = fires.of([*quorum.consensus, quorum.handler])
    return levels(bits[:-1]), len(quorum.consensus) + 1, bits[-1]


def _levels(kept: LayerTokens, quorum: Quorum, text: Text) -> LevelTokens:
    levels_N, num_levels, handler_N = _routed(kept.fires, quorum)
    return LevelTokens(
        levels=levels_N,
        num_levels=num_levels,
        handler=handler_N,
        values={"output_norm": kept.output_norms, "residual": kept.residuals},
        documents=text.documents,
    )


def _level_rows(by_level: LevelTokens, testing: Testing) -> tuple[list[Row], Row]:
    """The consensus gradient with intervals, and what the layer's row says of its range."""
    means = gradient(
        by_level.levels,
        by_level.num_levels,
        by_level.handler,
        by_level.values["output_norm"],
        by_level.values["residual"],
    )
    found = level_intervals(by_level, testing.resamples, testing.seed)
    counts = joint_counts(by_level.levels, by_level.num_levels, by_level.handler)
    of_range: Row = {
        "range": float(gradient_range(counts)),
        "monotonic": is_monotonic(means["exception_rate"].tolist()),
        **found.range,
    }
    rows = means.join(found.by_level).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows], of_range


def _split_rows(
    fires: FiringBits, num_consensus: int, observed: float, testing: Testing
) -> tuple[list[Row], Row]:
    """Splits like the quorum found, and what the layer's row says of those that have a range."""
    found = None
    if testing.splits:
        found = random_splits(fires, num_consensus, testing.splits, testing.seed)
    if found is None:
        return [], {}
    rows = [{"split": split, "range": spread} for split, spread in enumerate(found.ranges.tolist())]
    known = found.ranges[~np.isnan(found.ranges)]
    about: Row = {"num_splits": len(known)}
    if len(known):
        about["best_split"] = float(known.max())
        if not np.isnan(observed):
            about["splits_reaching"] = found.num_reaching(observed)
    return rows, about


def _pattern_rows(fires: FiringBits, roles: Roles, text: Text) -> list[Row]:
    neurons = [int(neuron) for neuron in roles.candidates]
    patterns_N = patterns_of(fires.of(neurons).T)
    return [
        {
            "rank": rank,
            "pattern": int(row["pattern"]),
            "neurons": neurons,
            "count": int(row["count"]),
            "enrichment": float(row["enrichment"]),
            "tokens": _commonest(text.tokens[patterns_N == row["pattern"]], text.name),
        }
        for rank, row in enumerate(roles.patterns.head(ENRICHED).to_dict("records"))
    ]


def _commonest(tokens: Ints, name: Callable[[int], str]) -> list[str]:
    """The most frequent tokens, the smaller id first among equals."""
    ids, counts = np.unique(tokens, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_TOKENS]
    return [name(int(token)) for token in ids[order]]
