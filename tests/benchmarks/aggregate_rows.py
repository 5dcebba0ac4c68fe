"""Row about aggregation: effects with intervals of many conditions, out of a store."""

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from statistics import median

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.bench import Sizes
from benchmarks.results import Finding
from benchmarks.sides import grouped_frames
from benchmarks.timing import Timed, in_turn
from sweeper.aggregate import estimate
from sweeper.aggregate.sources import StoredItems
from sweeper.store import Store

CLUSTERS = 67
CELLS_PER_UNIT = 20
DRAWS = 19
"""Random controls of the first condition, among the conditions."""
RESAMPLES = 2000
READ_ROWS = 10_000_000
OURS, FRAMES, READING = "aggregation", "pandas and scipy", "reading"


def aggregate_scale(sizes: Sizes, repeats: int, name: str, goal: float) -> Finding:
    """Time per condition of pandas and scipy over that of ours, reading included on both sides."""
    manifest = _manifest(sizes.aggregate_conditions)
    keys = manifest["cell_key"].tolist()
    sampled = keys[1 : 1 + max(len(keys) // 10, 1)]
    read = keys[: max(READ_ROWS // (CLUSTERS * sizes.aggregate_items), 1)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, create=True)
        _fill(store, keys, sizes.aggregate_items)
        timed = in_turn(
            {
                READING: partial(_read, store, read),
                OURS: partial(_estimate, store, manifest),
                FRAMES: partial(grouped_frames.effects, store, keys[0], sampled, RESAMPLES),
            },
            repeats,
            name,
        )
    return _finding(name, goal, timed, manifest, sampled, sizes.aggregate_items)


def _estimate(store: Store, manifest: pd.DataFrame) -> pd.DataFrame:
    no_noise = pd.DataFrame({"cell_key": [], "status": [], "noise": []})
    return estimate(manifest, StoredItems(store), no_noise, resamples=RESAMPLES)


def _read(store: Store, keys: Sequence[str]) -> int:
    return sum(map(len, store.stream("items", keys)))


def _finding(
    name: str,
    goal: float,
    timed: dict[str, Timed],
    manifest: pd.DataFrame,
    sampled: Sequence[str],
    num_items: int,
) -> Finding:
    number, rows = len(manifest) - 1, len(manifest) * CLUSTERS * num_items
    each = {
        OURS: [seconds / number for seconds in timed[OURS].seconds],
        FRAMES: [seconds / len(sampled) for seconds in timed[FRAMES].seconds],
    }
    difference = _largest_difference(timed, manifest, sampled)
    peaks = {side: one.peak_bytes / 2**30 for side, one in timed.items()}
    seconds = median(timed[OURS].seconds)
    read_rows, read_seconds = timed[READING].result, median(timed[READING].seconds)
    return Finding(
        name=name,
        goal=goal,
        ratios=[a / b for a, b in zip(each[FRAMES], each[OURS], strict=True)],
        sides=timed,
        details={
            "conditions": number,
            "conditions_timed": {FRAMES: len(sampled)},
            "rows": rows,
            "seconds_per_condition": each,
            "rows_read": read_rows,
            "largest_difference": {"effect": difference},
        },
        notes=[
            f"{number} conditions x {CLUSTERS * num_items} items = {rows / 1e6:.1f} million rows, "
            f"{RESAMPLES} resamples, accuracy and margin: {seconds:.1f} s "
            f"({1e3 * median(each[OURS]):.1f} ms per condition)",
            f"pandas and scipy on {len(sampled)} conditions: {median(timed[FRAMES].seconds):.1f} s "
            f"({1e3 * median(each[FRAMES]):.1f} ms per condition)",
            f"reading all columns of {read_rows / 1e6:.1f} million rows: {read_seconds:.1f} s "
            f"({read_rows / 1e6 / read_seconds:.1f} million per second)",
            "peak memory above the process: "
            + ", ".join(f"{side} {peak:.2f} GiB" for side, peak in peaks.items()),
            f"largest difference between the effects {difference:.2g}",
        ],
    )


def _largest_difference(
    timed: dict[str, Timed], manifest: pd.DataFrame, sampled: Sequence[str]
) -> float:
    """Between both sides' effects, of the conditions that are no draws of a random one."""
    estimates: pd.DataFrame = timed[OURS].result
    named = manifest.set_index("cell_key").loc[list(sampled)]
    wide = estimates.pivot(index="condition", columns="metric", values="effect")
    ours = wide.loc[named["condition"], list(grouped_frames.METRICS)].to_numpy()
    single = named["seed"].isna().to_numpy()
    return float(np.abs(ours - timed[FRAMES].result[:, :, 0])[single].max())


def _manifest(number: int) -> pd.DataFrame:
    """A baseline and so many cells: single conditions, and draws of a random one at the end."""
    draws = min(DRAWS, number // 2)
    rows = [{"condition": "baseline", "is_baseline": True, "operation": None}]
    rows += [{"condition": f"condition{place:04}"} for place in range(number - draws)]
    rows += [
        {"condition": "random", "seed": seed, "control_of": "condition0000"}
        for seed in range(draws)
    ]
    shared = {"kind": "score", "model": "m", "revision": "main", "num_neurons": 10, "task": "t"}
    frame = pd.DataFrame([{"operation": "zero", "is_baseline": False, **row} for row in rows])
    return frame.assign(
        **shared,
        task_kind="minimal_pairs",
        cell_key=[f"{place:064x}" for place in range(len(frame))],
        family=frame["condition"],
        first_layer=None,
        last_layer=None,
    )


def _fill(store: Store, keys: Sequence[str], num_items: int) -> None:
    """Commit the cells as workers do, some of them in each unit."""
    rng = np.random.default_rng(1)
    items = _items(num_items)
    for first in range(0, len(keys), CELLS_PER_UNIT):
        mine = keys[first : first + CELLS_PER_UNIT]
        table = pa.concat_tables(_scored(items, key, rng) for key in mine)
        name = f"a{first:05}"
        store.writer.commit(name, name, "r", {"items": table}, dict.fromkeys(mine, "done"))
        print(f"  {first + len(mine)} of {len(keys)} cells written", end="\r", file=sys.stderr)
    print(file=sys.stderr)
    store.refresh()


def _items(num_items: int) -> pa.Table:
    """What all cells have in common."""
    clusters = [f"paradigm_{cluster:02}" for cluster in range(CLUSTERS)]
    total = CLUSTERS * num_items
    nulls = {"logprob": pa.float64(), "logprob_bad": pa.float64(), "num_tokens_bad": pa.int32()}
    return pa.table(
        {
            "item": pa.array(range(total), pa.int32()),
            "item_id": [f"{cluster}/{item}" for cluster in clusters for item in range(num_items)],
            "group": pa.repeat(pa.scalar("all"), total),
            "cluster": np.repeat(clusters, num_items).tolist(),
            "num_tokens": pa.repeat(pa.scalar(9, pa.int32()), total),
            **{name: pa.nulls(total, kind) for name, kind in nulls.items()},
        }
    )


def _scored(items: pa.Table, key: str, rng: np.random.Generator) -> pa.Table:
    """Margins that differ between clusters more than within."""
    by_cluster = np.repeat(rng.normal(1.0, 0.3, CLUSTERS), len(items) // CLUSTERS)
    margins = by_cluster + rng.normal(0.0, 2.0, len(items))
    columns = {
        "cell_key": pa.repeat(pa.scalar(key), len(items)),
        "margin": pa.array(margins),
        "correct": pa.array(margins > 0),
    }
    for name, column in columns.items():
        items = items.append_column(name, column)
    return items
