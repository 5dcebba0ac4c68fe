"""The table of goals: what is compared with what, on which items.

The other sides are imported when their row runs: not all of them are installed everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from benchmarks import (
    aggregate_rows,
    census_rows,
    engine_rows,
    firing_rows,
    layer_major_rows,
    routing_rows,
    schedule_rows,
)
from benchmarks import items as data
from benchmarks.bench import Bench, Sizes
from benchmarks.compare import Comparison, compare
from benchmarks.conditions import control_sweep, layer_sweep
from benchmarks.items import Items, SkippedError, Sums
from benchmarks.results import Finding
from benchmarks.sides import obvious_loop
from benchmarks.sides.batches import by_length
from sweeper.records import Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    goal: float
    measure: Callable[[Bench, str, float], Finding]
    at_most: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFreeRow:
    """A line of the table that no model is needed for."""

    goal: float
    measure: Callable[[Sizes, int, str, float], Finding]
    at_most: bool = False


def measure(opened: Callable[[], Bench], sizes: Sizes, repeats: int, name: str) -> Finding:
    """Measure a row, or say why it cannot be measured here.

    Args:
        opened: gives the loaded model.
        sizes: how much to measure.
        repeats: turns of each side.
        name: of the row.
    """
    row = ROWS[name]
    try:
        if isinstance(row, ModelFreeRow):
            return row.measure(sizes, repeats, name, row.goal)
        return row.measure(opened(), name, row.goal)
    except SkippedError as reason:
        return Finding(name=name, goal=row.goal, at_most=row.at_most, skipped=str(reason))


def _blimp_loop(bench: Bench) -> Comparison:
    pairs = data.blimp_pairs(bench.data, bench.sizes.blimp_per_paradigm)
    return _obvious_loop(bench, data.pair_items(bench.model.tokenizer, pairs))


def _tse_loop(bench: Bench) -> Comparison:
    pairs = data.tse_pairs(bench.data, bench.sizes.tse_per_template)
    return _obvious_loop(bench, data.pair_items(bench.model.tokenizer, pairs))


def _obvious_loop(bench: Bench, items: Items) -> Comparison:
    return Comparison(
        items=items,
        label="obvious loop",
        other=partial(obvious_loop.score, bench.model),
        whole=True,
    )


def _layers_loop(bench: Bench) -> Comparison:
    pairs = data.blimp_sample(bench.data, bench.sizes.layer_pairs)
    items = data.pair_items(bench.model.tokenizer, pairs)
    return Comparison(
        items=items,
        label="obvious loop",
        other=partial(obvious_loop.score, bench.model),
        conditions=layer_sweep(bench.model),
        sample=bench.sizes.loop_conditions,
    )


def _blimp_harness(bench: Bench) -> Comparison:
    from benchmarks.sides import harness

    lm = harness.harness_model(bench.model)
    pairs = data.blimp_pairs(bench.data, bench.sizes.blimp_per_paradigm)
    return Comparison(
        items=harness.pair_items(lm, harness.pair_task(bench.aside, pairs)),
        label="harness",
        other=partial(harness.score, lm, bench.model),
        whole=True,
    )


def _hellaswag_harness(bench: Bench) -> Comparison:
    from benchmarks.sides import harness

    lm = harness.harness_model(bench.model)
    file = data.hellaswag_file(bench.data)
    task = harness.local_task(bench.aside, "hellaswag/hellaswag.yaml", "validation", file)
    return Comparison(
        items=harness.task_items(lm, task, bench.sizes.hellaswag_items),
        label="harness",
        other=partial(harness.score, lm, bench.model),
        greedy=True,
    )


def _controls_nnsight(bench: Bench) -> Comparison:
    _require("nnsight")
    from benchmarks.sides.nnsight_side import NnsightSide

    return _controls_library(bench, "nnsight", NnsightSide(bench.another_model()).score)


def _controls_pyvene(bench: Bench) -> Comparison:
    _require("pyvene")
    from benchmarks.sides.pyvene_side import PyveneSide

    return _controls_library(bench, "pyvene", PyveneSide(bench.another_model()).score)


def _controls_library(bench: Bench, name: str, score: Callable[..., Sums]) -> Comparison:
    pairs = data.blimp_sample(bench.data, bench.sizes.control_pairs)
    items = data.pair_items(bench.model.tokenizer, pairs)
    return Comparison(
        items=items,
        label=name,
        other=score,
        also={f"{name} on sorted batches": partial(score, batched=by_length)},
        conditions=control_sweep(bench.model, bench.sizes.random_sets),
        sample=bench.sizes.library_conditions,
    )


def _controls_relaunch(bench: Bench) -> Comparison:
    from benchmarks.sides import harness, relaunch

    pairs = data.blimp_sample(bench.data, bench.sizes.control_pairs)
    task = harness.pair_task(bench.aside, pairs)

    def relaunched(_items: Items, conditions: Sequence[Condition]) -> Sums:
        return relaunch.score(bench.folder, task, bench.model.family, conditions, bench.aside)

    return Comparison(
        items=harness.pair_items(harness.harness_model(bench.model), task),
        label="relaunched harness",
        other=relaunched,
        conditions=control_sweep(bench.model, bench.sizes.random_sets),
        sample=bench.sizes.relaunched_conditions,
        warm_up=False,
    )


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise SkippedError(f"{package} is not installed (`make bench` installs it)")


def _compared(build: Callable[[Bench], Comparison]) -> Callable[[Bench, str, float], Finding]:
    return lambda bench, name, goal: compare(bench, build(bench), name, goal)


ROWS: Mapping[str, Row | ModelFreeRow] = {
    "blimp_loop": Row(goal=4.5, measure=_compared(_blimp_loop)),
    "blimp_harness": Row(goal=2, measure=_compared(_blimp_harness)),
    "tse_loop": Row(goal=15, measure=_compared(_tse_loop)),
    "layers_loop": Row(goal=10, measure=_compared(_layers_loop)),
    "controls_nnsight": Row(goal=3, measure=_compared(_controls_nnsight)),
    "controls_pyvene": Row(goal=3, measure=_compared(_controls_pyvene)),
    "controls_relaunch": Row(goal=10, measure=_compared(_controls_relaunch)),
    "hellaswag_harness": Row(goal=1.8, measure=_compared(_hellaswag_harness)),
    "share_of_matmul": Row(goal=0.75, measure=engine_rows.share_of_matmul),
    "census_wd": Row(goal=20, measure=census_rows.census_wd),
    "layer_major": Row(goal=layer_major_rows.BATCHES, measure=layer_major_rows.layer_major),
    "firing_cost": Row(goal=0.3, measure=firing_rows.firing_cost, at_most=True),
    "routing_layers": Row(goal=8, measure=routing_rows.routing_layers),
    "empty_clamp": Row(goal=1.03, measure=engine_rows.empty_clamp, at_most=True),
    "aggregate_scale": ModelFreeRow(goal=10, measure=aggregate_rows.aggregate_scale),
    "schedule_makespan": ModelFreeRow(
        goal=1.1, measure=schedule_rows.schedule_makespan, at_most=True
    ),
    "schedule_cost": ModelFreeRow(goal=1, measure=schedule_rows.schedule_cost, at_most=True),
}
"""In the order in which they run; RESULTS.md says what each of them is."""
