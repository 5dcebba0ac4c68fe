"""Rows about the engine alone: how much of the machine it uses, and what its hooks cost."""

from statistics import median

import numpy as np

from benchmarks import items as data
from benchmarks.bench import Bench
from benchmarks.conditions import unchanged_clamp
from benchmarks.counts import count, flops
from benchmarks.items import Items
from benchmarks.machine import matmul_rate
from benchmarks.results import Finding
from benchmarks.timing import in_turn, ratios


def share_of_matmul(bench: Bench, name: str, goal: float) -> Finding:
    """FLOP/s of the engine (counted once per node) over those of plain matrix products."""
    items = _blimp(bench)
    assert items.margin_starts is not None
    work = flops(bench.model, count(items.rows, items.margin_starts, items.alike))
    whole_work = flops(bench.model, count(items.rows, items.starts))
    rates: list[float] = []
    timed = in_turn(
        {
            "matmul": lambda: rates.append(matmul_rate(bench.model, bench.sizes.rate_seconds)),
            "engine": lambda: bench.engine(items, margins_only=True),
            "engine, whole sentences": lambda: bench.engine(items),
        },
        bench.repeats,
        name,
    )
    best = max(rates)  # a turn in which the machine was busy must not make the engine look better
    shares = [work / seconds / best for seconds in timed["engine"].seconds]
    whole = whole_work / median(timed["engine, whole sentences"].seconds) / best
    return Finding(
        name=name,
        goal=goal,
        ratios=shares,
        sides=timed,
        details={"flops": work, "matmul_flops_per_second": rates, "share_whole": whole},
        notes=[
            f"{work / 1e12:.2f} TFLOP counted; matrix products reach "
            f"{best / 1e9:.0f} GFLOP/s; with heads of whole sentences {whole:.3f}"
        ],
    )


def empty_clamp(bench: Bench, name: str, goal: float) -> Finding:
    """Time with hooks that change nothing over time without hooks."""
    items = _blimp(bench)
    with unchanged_clamp(bench.model) as unchanged:
        timed = in_turn(
            {
                "without hooks": lambda: bench.engine(items, margins_only=True),
                "with hooks": lambda: bench.engine(items, [unchanged], margins_only=True),
            },
            bench.repeats,
            name,
        )
    plain, hooked = timed["without hooks"], timed["with hooks"]
    difference = float(np.abs(plain.result - hooked.result).max())
    return Finding(
        name=name,
        goal=goal,
        at_most=True,
        ratios=ratios(hooked.seconds, plain.seconds),
        sides=timed,
        details={"largest_difference": {"text": difference}},
        notes=[
            f"hooks on {unchanged.num_neurons} neurons of all layers; "
            f"largest difference {difference:.2g} nats"
        ],
    )


def _blimp(bench: Bench) -> Items:
    pairs = data.blimp_pairs(bench.data, bench.sizes.blimp_per_paradigm)
    return bench.check(data.pair_items(bench.model.tokenizer, pairs))
