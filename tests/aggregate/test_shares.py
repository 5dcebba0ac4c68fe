"""Random draws in contrasts: the randomisation p, and the draws that all tasks have."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from contrast_study import (
    CONTRAST,
    EFFECTS,
    GRAMMAR,
    OTHER,
    SIZES,
    cluster_totals,
    contrast_of,
    dissociation,
    fill,
    mean_of,
    part_of,
)

from sweeper.aggregate import Comparison, contrast
from sweeper.aggregate.intervals import Ratio, crossed


def test_randomisation_puts_each_random_set_in_the_target_s_place(study):
    table = contrast_of(fill(study, {"top": (0.0, 0.0), "matched": (0.0, 0.0)}, seed=2))
    ratios = cluster_totals(study)
    cells = ["top/None", *(f"random/{seed}" for seed in range(6))]
    values = np.array([dissociation(ratios, cell) for cell in cells])
    far = np.abs(values - np.median(values))
    row = part_of(table, "interaction")
    assert row["p_random"] == (far >= far[0]).mean()
    assert 1 / 7 < row["p_random"] < 1
    assert (row["p_floor"], row["num_controls"]) == (1 / 7, 6)
    # The zero of the target alone is the baseline, as in the table of effects.
    sizes = [abs(np.mean([mean_of(ratios, task, cell) for task in GRAMMAR])) for cell in cells]
    alone = part_of(table, "target_on_grammar")
    assert alone["p_random"] == np.mean([size >= sizes[0] for size in sizes])
    # Nothing controls the control.
    alone = part_of(table, "control_on_grammar")
    assert np.isnan(alone["p_random"])
    assert (alone["p_floor"], alone["num_controls"]) == (1.0, 0)


@pytest.mark.parametrize("shift", [0.0, -1.0, 3.0])
@pytest.mark.parametrize(("target", "expected"), [(-1.0, 1 / 7), (0.0, None)])
def test_what_the_fixed_control_does_is_nothing_to_the_randomisation(
    study, target, expected, shift
):
    # A target like the random sets and a control unlike them is no finding about the target.
    fill(study, {"top": (target, 0.0), "matched": (0.0, 0.0)})
    plain = contrast_of(study)
    study.item_rows = [
        row | {"margin": row["margin"] + shift} if "/blimp/matched" in row["cell_key"] else row
        for row in study.item_rows
    ]
    table = contrast_of(study)
    for part in ("interaction", "target_minus_control_on_grammar"):
        row, before = part_of(table, part), part_of(plain, part)
        assert row["estimate"] == pytest.approx(before["estimate"] - shift / 2)
        assert row["p_random"] == before["p_random"]
        assert row["p_random"] == expected or (expected is None and row["p_random"] > 1 / 7)


@pytest.mark.parametrize("control", ["matched", "random", "same"])
def test_random_sets_under_two_names_are_counted_once(study, control):
    fill(study, EFFECTS)
    named = Comparison(
        name="n", target="top", control=control, metric="margin", tasks=GRAMMAR, others=OTHER
    )
    with_one = replace(named, control="matched" if control == "matched" else "random")
    plain = contrast_of(study, with_one)
    study.manifest_rows += [
        row | {"condition": "same", "family": "same"}
        for row in study.manifest_rows
        if row["condition"] == "random"
    ]
    table = contrast_of(study, named)
    assert part_of(table, "interaction")["num_controls"] == 6
    assert part_of(table, "interaction")["p_floor"] == 1 / 7
    pd.testing.assert_frame_equal(table.assign(control=with_one.control), plain, check_exact=True)


def test_beside_other_random_sets_a_drawn_control_exchanges_its_own(study):
    fill(study, EFFECTS)
    drawn = Comparison(
        name="d", target="top", control="random", metric="margin", tasks=GRAMMAR, others=OTHER
    )
    plain = contrast_of(study, drawn)
    for task, number in SIZES.items():
        clusters = [f"c{place}" for place in range(number) for _ in range(3 + place % 3)]
        margins = np.random.default_rng(number).normal(1, 1, len(clusters)).tolist()
        named = {"task": task, "clusters": clusters, "control_of": "top", "seed": 0}
        study.pairs("more", [1] * len(margins), margins, **named)
    pd.testing.assert_frame_equal(contrast_of(study, drawn), plain, check_exact=True)
    assert part_of(contrast_of(study), "interaction")["num_controls"] == 7


def test_a_random_set_changes_places_with_the_target_where_it_is_part_of_the_control(study):
    fill(study, {"top": (0.0, 0.0)})
    drawn = Comparison(
        name="d", target="top", control="random", metric="margin", tasks=GRAMMAR, others=OTHER
    )
    ratios = cluster_totals(study)
    cells = ["top/None", *(f"random/{seed}" for seed in range(6))]
    values = []
    for cell in cells:
        rest = [dissociation(ratios, cell, other) for other in cells if other != cell]
        values.append(abs(np.mean(rest)))
    row = part_of(contrast_of(study, drawn), "interaction")
    assert abs(row["estimate"]) == pytest.approx(values[0])
    assert row["p_random"] == sum(value >= values[0] for value in values) / 7


@pytest.mark.parametrize("level", [0.2, 0.4])
def test_the_randomisation_test_of_a_true_null_keeps_its_level(study, level):
    # 150 studies in which the target is one more random set: as often as stated, and no more.
    drawn = Comparison(name="d", target="top", control="random", metric="margin", tasks=("t",))
    rng = np.random.default_rng(4)
    for number in range(150):
        named = {"revision": f"r{number:03}", "clusters": list("aabbcc")}
        for name, seed in [("baseline", None), ("top", None), *(("random", n) for n in range(4))]:
            margins = (rng.normal() + 0.1 * rng.normal(size=6)) * (name != "baseline")
            control = "top" if seed is not None else None
            study.pairs(name, [1] * 6, margins.tolist(), seed=seed, control_of=control, **named)
    found = contrast_of(study, drawn, resamples=19).query("part == 'difference'")
    assert len(found) == 150
    rejected = (found["p_random"] <= level + 1e-9).mean()
    assert rejected == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 150))


def test_random_sets_that_a_task_lacks_are_not_counted_in_any(study):
    fill(study, EFFECTS)
    items = study.items.query("cell_key != 'm/main/tse/random/2'")
    table = contrast(study.manifest, items, [CONTRAST])
    assert part_of(table, "interaction")["num_controls"] == 5
    assert part_of(table, "target_on_other")["num_controls"] == 5
    # Each task of a difference is by itself.
    alone = contrast(study.manifest, items, [replace(CONTRAST, tasks=("blimp", "tse"), others=())])
    numbers = alone[alone["part"] == "difference"].set_index("tasks")["num_controls"]
    assert numbers.to_dict() == {"blimp": 6, "tse": 5}


def test_parts_add_up_where_tasks_lack_draws_of_the_control(study):
    fill(study, EFFECTS)
    missing = [f"m/main/{task}/random/{seed}" for task, seed in (("blimp", 0), ("arc", 3))]
    items = study.items[~study.items["cell_key"].isin(missing)]
    drawn = replace(CONTRAST, control="random")
    table = contrast(study.manifest, items, [drawn])
    value = table.set_index("part")["estimate"]
    sides = {}
    for side in ("grammar", "other"):
        sides[side] = value[f"target_minus_control_on_{side}"]
        parts = value[f"target_on_{side}"] - value[f"control_on_{side}"]
        assert sides[side] == pytest.approx(parts)
    assert value["interaction"] == pytest.approx(sides["grammar"] - sides["other"])
    ratios = cluster_totals(study)
    draws = [dissociation(ratios, "top/None", f"random/{seed}") for seed in (1, 2, 4, 5)]
    assert value["interaction"] == pytest.approx(np.mean(draws))
    assert part_of(table, "interaction")["num_controls"] == 4


def test_two_drawn_controls_have_no_interval(study):
    fill(study, EFFECTS, num_seeds=2)
    table = contrast_of(study, replace(CONTRAST, control="random"))
    row = part_of(table, "interaction")
    assert np.isfinite(row["estimate"])
    assert np.isnan([row["low"], row["high"], row["p"], row["p_holm"]]).all()
    assert np.isfinite(part_of(table, "target_on_grammar")["p"])


def test_a_control_that_is_drawn_at_random_is_random(study):
    fill(study, EFFECTS)
    drawn = Comparison(
        name="d", target="top", control="random", metric="margin", tasks=GRAMMAR, others=OTHER
    )
    table = contrast_of(study, drawn)
    ratios, strata = cluster_totals(study), []
    for task in SIZES:
        one, sizes = ratios[task, "top/None"]
        draws = np.stack([ratios[task, f"random/{seed}"][0] for seed in range(6)], axis=1)
        weight = 0.5 if task in GRAMMAR else -0.5
        strata.append([Ratio(one[:, None] - draws, sizes, weight=weight)])
    expected = crossed(strata)
    row = part_of(table, "interaction")
    assert row["estimate"] == pytest.approx(float(expected.centre[0]))
    ends = tuple(float(end[0]) for end in expected.bounds(0.95))
    assert (row["low"], row["high"]) == pytest.approx(ends)
    # The target's own effect has no seeds in it.
    alone = part_of(contrast_of(study), "target_on_grammar")
    again = part_of(table, "target_on_grammar")
    assert (again["low"], again["high"]) == pytest.approx((alone["low"], alone["high"]))
