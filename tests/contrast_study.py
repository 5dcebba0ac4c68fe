"""Four tasks with a target, a matched control and random sets, and the contrast written out."""

import numpy as np

from sweeper.aggregate import Comparison, contrast

GRAMMAR, OTHER = ("blimp", "tse"), ("piqa", "arc")
CONTRAST = Comparison(
    name="double", target="top", control="matched", metric="margin", tasks=GRAMMAR, others=OTHER
)
SIZES = {"blimp": 8, "tse": 6, "piqa": 10, "arc": 5}
"""Clusters of each task."""


def fill(study, effects, num_seeds=6, seed=0, **named):
    """Margins of every task; ``effects`` tells condition -> (on grammar, on the others)."""
    rng = np.random.default_rng(seed)
    for task, number in SIZES.items():
        clusters = [f"c{place}" for place in range(number) for _ in range(3 + place % 3)]
        base = rng.normal(1, 1, len(clusters))
        shift = {"task": task, "clusters": clusters, **named}
        study.pairs("baseline", [1] * len(base), base.tolist(), **shift)
        draws = [("random", n, (0.0, 0.0)) for n in range(num_seeds)]
        for name, one, effect in [(key, None, value) for key, value in effects.items()] + draws:
            values = base + effect[task in OTHER] + rng.normal(0, 0.3, len(base))
            study.pairs(
                name,
                [1] * len(base),
                values.tolist(),
                seed=one,
                control_of="top" if name == "random" else None,
                **shift,
            )
    return study


EFFECTS = {"top": (-1.0, -0.2), "matched": (-0.2, -0.8)}


def contrast_of(study, *comparisons, **options):
    return contrast(study.manifest, study.items, comparisons or (CONTRAST,), **options)


def cluster_totals(study):
    """Task and cell -> totals of differences by cluster, with the clusters' sizes."""
    found = {}
    for task in SIZES:
        items = study.items[study.items["cell_key"].str.contains(f"/{task}/")]
        wide = items.pivot(index=["cluster", "item_id"], columns="cell_key", values="margin")
        wide.columns = [key.split("/", 3)[3] for key in wide.columns]
        grouped = wide.sub(wide["baseline/None"], axis=0).groupby("cluster")
        totals, sizes = grouped.sum(), grouped.size().to_numpy(dtype=float)
        for cell in totals:
            found[task, cell] = totals[cell].to_numpy(), sizes
    return found


def part_of(table, part, **wanted):
    for column, value in {"part": part, **wanted}.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def mean_of(ratios, task, cell):
    totals, sizes = ratios[task, cell]
    return totals.sum() / sizes.sum()


def dissociation(ratios, target, control="matched/None"):
    """The definition, from the tasks' means."""
    sides = [
        np.mean([mean_of(ratios, t, target) - mean_of(ratios, t, control) for t in tasks])
        for tasks in (GRAMMAR, OTHER)
    ]
    return sides[0] - sides[1]
