"""Rows about scheduling: how long a large sweep takes, and what each unit costs the driver."""

from functools import lru_cache

from benchmarks.bench import QUICK, Sizes
from benchmarks.results import Finding
from benchmarks.schedule import Played, Scenario, play

FULL = Scenario()
SMALL = Scenario(workers=100, revisions=16, tasks=20)


def schedule_makespan(sizes: Sizes, repeats: int, name: str, goal: float) -> Finding:
    """Makespan over its lower bound, once for each draw of times and deaths."""
    played = _played(sizes, repeats)
    return _finding(name, goal, [one.ratio for one in played], played)


def schedule_cost(sizes: Sizes, repeats: int, name: str, goal: float) -> Finding:
    """Milliseconds of the queue for each unit that is handed out."""
    played = _played(sizes, repeats)
    return _finding(name, goal, [one.milliseconds for one in played], played)


@lru_cache(maxsize=1)
def _played(sizes: Sizes, repeats: int) -> tuple[Played, ...]:
    """One simulation for each repeat; both rows are about the same ones."""
    return tuple(play(_scenario(sizes), seed) for seed in range(repeats))


def _scenario(sizes: Sizes) -> Scenario:
    return SMALL if sizes == QUICK else FULL


def _finding(name: str, goal: float, ratios: list[float], played: tuple[Played, ...]) -> Finding:
    last = played[-1]
    return Finding(
        name=name,
        goal=goal,
        ratios=ratios,
        at_most=True,
        details={
            "units": last.units,
            "makespan_seconds": [one.makespan for one in played],
            "lower_bound_seconds": [one.lower_bound for one in played],
            "milliseconds_per_unit": [one.milliseconds for one in played],
            "loads": [one.loads for one in played],
            "deaths": [one.deaths for one in played],
        },
        notes=[
            f"{last.units} units: makespan {last.makespan:.0f} s, bound {last.lower_bound:.0f} s "
            f"(work {last.work:.0f} s of one worker, {last.loads_once:.0f} s to load each "
            f"checkpoint once, longest chain {last.longest:.0f} s)",
            f"{last.loads} loads, {last.deaths} workers died; the queue took "
            f"{last.milliseconds:.3f} ms for each of {last.handed_out} units handed out",
        ],
    )
