"""Our engine against one other side: both timed in turn, and their answers compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench import Bench
from benchmarks.conditions import BASELINE, evenly
from benchmarks.counts import Counts, count
from benchmarks.items import Items, Sums
from benchmarks.results import Finding
from benchmarks.sides.obvious_loop import padded_positions
from benchmarks.timing import Timed, in_turn, ratios
from sweeper.records import Condition
from sweeper.score.engine import Work

MOST_DIFFERENCE = 0.05
"""Nats; rounding over the tokens of a text is an order of magnitude less."""

ENGINE = "engine"
WHOLE = "engine, whole sentences"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What both sides do."""

    items: Items
    """Of pairs our side scores the margins only, which is what a study of pairs asks for."""
    label: str
    """Name of the other side."""
    other: Callable[[Items, Sequence[Condition]], Sums]
    conditions: Sequence[Condition] = (BASELINE,)
    sample: int | None = None
    """Conditions that the other side is timed on, evenly spaced; its time for all is inferred,
    since each of its passes costs the same. None for all."""
    also: Mapping[str, Callable[[Items, Sequence[Condition]], Sums]] = field(default_factory=dict)
    """The other side in other ways, whose ratios are given too."""
    whole: bool = False
    """Also time our side on whole sentences."""
    greedy: bool = False
    """Our side finds out the most probable tokens too, as the other one does."""
    warm_up: bool = True
    """Let the other side score a few items before it is timed."""


def compare(bench: Bench, what: Comparison, name: str, goal: float) -> Finding:
    """Time the sides in turn and compare what they say."""
    bench.check(what.items)
    sampled = evenly(what.conditions, what.sample)
    _warm_up(bench, what)
    work = Work()
    timed = in_turn(_sides(bench, what, sampled, work), bench.repeats, name)
    scale = len(what.conditions) / len(sampled)
    other = [scale * seconds for seconds in timed[what.label].seconds]
    differences = _differences(what, sampled, timed)
    counts = _counts(what.items)
    details: dict[str, Any] = {
        "counts": {**counts.as_record(), "padded": padded_positions(what.items)},
        "engine_work": {key: value / bench.repeats for key, value in asdict(work).items()},
        "conditions": len(what.conditions),
        "conditions_timed": {what.label: len(sampled)},
        "largest_difference": differences,
    }
    notes = [
        _nodes(what, counts),
        _layers(bench, work),
        _memory(timed),
        _difference_note(differences),
    ]
    if scale != 1:
        notes.append(
            f"{what.label} timed on {len(sampled)} of {len(what.conditions)} conditions, its time "
            "multiplied accordingly"
        )
    for label in what.also:
        again = [scale * seconds for seconds in timed[label].seconds]
        details[f"ratio_{label}"] = float(np.median(ratios(again, timed[ENGINE].seconds)))
        notes.append(f"against {label}: ratio {details[f'ratio_{label}']:.3f}")
    if what.whole:
        details["ratio_whole"] = float(np.median(ratios(other, timed[WHOLE].seconds)))
        notes.append(f"whole sentences instead of margins: ratio {details['ratio_whole']:.3f}")
    return Finding(
        name=name,
        goal=goal,
        ratios=ratios(other, timed[ENGINE].seconds),
        sides=timed,
        details=details,
        notes=notes,
        agree=max(differences.values()) <= MOST_DIFFERENCE,
    )


def _sides(
    bench: Bench, what: Comparison, sampled: Sequence[Condition], work: Work
) -> dict[str, Callable[[], Sums]]:
    pairs = what.items.margin_starts is not None
    engine = partial(bench.engine, what.items, what.conditions, greedy=what.greedy)
    sides: dict[str, Callable[[], Sums]] = {
        ENGINE: partial(engine, margins_only=pairs, work=work),
        what.label: partial(what.other, what.items, sampled),
        **{label: partial(side, what.items, sampled) for label, side in what.also.items()},
    }
    return {**sides, WHOLE: engine} if what.whole else sides


def _warm_up(bench: Bench, what: Comparison) -> None:
    few = what.items.few()
    bench.engine(few, what.conditions[:2], greedy=what.greedy)
    if what.warm_up:
        what.other(few, what.conditions[:2])


def _differences(
    what: Comparison, sampled: Sequence[Condition], timed: dict[str, Timed]
) -> dict[str, float]:
    """Largest differences (nats) between the sides: of margins, and of texts."""
    places = [list(what.conditions).index(condition) for condition in sampled]
    ours, theirs = timed[ENGINE].result[places], timed[what.label].result
    found = {}
    if what.items.margin_starts is None:
        found["text"] = _largest(ours, theirs)
    else:
        found["margin"] = _largest(what.items.margins(ours), what.items.margins(theirs))
    if what.whole:
        found["text"] = _largest(timed[WHOLE].result[places], theirs)
    return found


def _largest(a: Sums, b: Sums) -> float:
    return float(np.abs(a - b).max())


def _counts(items: Items) -> Counts:
    if items.margin_starts is None:
        return count(items.rows, items.starts)
    return count(items.rows, items.margin_starts, items.alike)


def _nodes(what: Comparison, counts: Counts) -> str:
    return (
        f"{counts.texts} texts x {len(what.conditions)} conditions: {counts.positions} positions "
        f"({padded_positions(what.items)} in the obvious loop), {counts.nodes} nodes "
        f"({counts.saved:.1%} saved), head on {counts.heads}"
    )


def _layers(bench: Bench, work: Work) -> str:
    places = work.layer_places / (work.nodes * bench.model.checkpoint.num_layers)
    return (
        f"the engine computed {places:.3f} places per node, layer and condition "
        "(padding and repeated ancestors add, shared layers save)"
    )


def _memory(timed: dict[str, Timed]) -> str:
    sizes = [f"{name} {side.peak_bytes / 2**20:.0f} MiB" for name, side in timed.items()]
    return "peak memory above the models: " + ", ".join(sizes)


def _difference_note(differences: dict[str, float]) -> str:
    words = [f"{value:.2g} nats of a {what}" for what, value in differences.items()]
    return "largest difference in log-probability: " + ", ".join(words)
