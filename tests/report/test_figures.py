import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sweeper.report.data import MAX_CHECKPOINTS, ReportData
from sweeper.report.figure_census import MAX_MARKED, census_chart, layer_quantiles
from sweeper.report.figure_effects import effect_chart, phenomenon_chart
from sweeper.report.figures import all_figures, save, specification
from sweeper.report.theme import Palette

CONDITIONS = ("wd_top", "skew_top", "random")
PALETTE = Palette(CONDITIONS, frozenset({"random"}))


def rows_of(specified: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return list(specified["datasets"].values())


def marks(svg: str, kind: str) -> int:
    return len(re.findall(rf'aria-roledescription="{kind}"', svg))


def draw(chart: Any, folder: Path) -> str:
    assert chart is not None
    return save(chart, folder, "chart")["svg"].read_text(encoding="utf-8")


def test_effects_have_a_point_for_every_condition_and_seed(
    data: ReportData, tmp_path: Path
) -> None:
    chart = effect_chart(data.estimates, data.seed_effects, PALETTE)
    svg = draw(chart, tmp_path)
    panels, models = 2, 2
    seeds = 10
    assert marks(svg, "point") == panels * models * (len(CONDITIONS) + seeds)
    # Cluster intervals of all, seed intervals of the random ones, one line of no effect.
    assert marks(svg, "rule mark") == panels * models * (len(CONDITIONS) + 1 + 1)
    assert "effect on accuracy (percentage points)" in svg
    assert "perplexity relative to the baseline (factor)" in svg


def test_random_controls_are_grey_and_targets_keep_their_colours(data: ReportData) -> None:
    names = [*CONDITIONS]
    colour, _ = PALETTE.scales(names)
    assert colour.to_dict()["range"] == ["#0072B2", "#D55E00", "#767676"]
    alone, _ = PALETTE.scales(["skew_top"])
    assert alone.to_dict()["range"] == ["#D55E00"]


def test_a_large_factor_gets_a_logarithmic_axis(estimates: pd.DataFrame) -> None:
    frame = estimates[(estimates["metric"] == "nll")].copy()
    columns = ["effect", "cluster_low", "cluster_high"]
    chart = effect_chart(frame, pd.DataFrame(), PALETTE)
    assert chart is not None
    assert "log scale" not in str(specification(chart))
    frame.loc[frame["condition"] == "wd_top", columns] += 3.0
    chart = effect_chart(frame, pd.DataFrame(), PALETTE)
    assert chart is not None
    assert "log scale" in str(specification(chart))


def test_missing_effects_and_intervals_are_not_drawn(
    estimates: pd.DataFrame, tmp_path: Path
) -> None:
    one = estimates[estimates["model"] == "smollm2"].copy()
    one.loc[one["condition"] == "wd_top", ["effect", "cluster_low", "cluster_high"]] = np.nan
    svg = draw(effect_chart(one, pd.DataFrame(), PALETTE), tmp_path)
    assert marks(svg, "point") == 2 * 2
    assert marks(svg, "rule mark") == 2 * (2 + 1 + 1)
    assert "wd_top" in svg


def test_phenomena_are_sorted_and_complete(estimates: pd.DataFrame, tmp_path: Path) -> None:
    one = estimates[estimates["model"] == "smollm2"]
    chart = phenomenon_chart(one, PALETTE)
    svg = draw(chart, tmp_path)
    groups = [name for name in one["group"].unique() if name != "all"]
    assert len(groups) == 12
    assert all(f">{name}<" in svg for name in groups)
    assert marks(svg, "point") == 12 * 3
    # One phenomenon has a single cluster and no interval.
    assert marks(svg, "rule mark") == 11 * 3 + 1
    target = one[(one["condition"] == "wd_top") & (one["group"] != "all")]
    expected = list(target.sort_values("effect")["group"])
    assert sorted(groups, key=lambda name: height_of(svg, name)) == expected


def height_of(svg: str, label: str) -> float:
    found = re.search(rf'translate\([^,]+,([0-9.]+)\)"[^>]*>{label}<', svg)
    assert found is not None
    return float(found[1])


def test_phenomena_without_groups(estimates: pd.DataFrame) -> None:
    assert phenomenon_chart(estimates[estimates["group"] == "all"], PALETTE) is None


def test_quantiles_of_a_layer_by_hand() -> None:
    neurons = pd.DataFrame({"layer": 0, "neuron": range(101), "wd": np.arange(101) / 100})
    table = layer_quantiles(neurons)
    assert np.allclose(table.to_numpy(), [[0, 0.01, 0.25, 0.5, 0.75, 0.99]])


def test_census_marks_the_selected_neurons(data: ReportData, tmp_path: Path) -> None:
    neurons = data.neurons[data.neurons["model"] == "smollm2"]
    selected = data.selected[data.selected["model"] == "smollm2"]
    chart, note = census_chart(neurons, selected, "smollm2", PALETTE)
    svg = draw(chart, tmp_path)
    assert marks(svg, "point") == len(selected)
    assert marks(svg, "rect mark") == 2 * 12
    assert note == "Neurons left out for want of a distance: 1."


def test_census_of_half_a_million_neurons_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    layers, width = 32, 14_336
    count = layers * width
    layer, neuron = np.divmod(np.arange(count), width)
    neurons = pd.DataFrame({"layer": layer, "neuron": neuron, "wd": rng.gamma(2.0, 0.03, count)})
    selected = neurons.sample(4_500, random_state=4).assign(condition="wd_top")
    chart, note = census_chart(neurons, selected, "large", PALETTE)
    assert chart is not None
    svg = draw(chart, tmp_path)
    assert marks(svg, "point") == MAX_MARKED
    assert note == "1,000 of 4,500 selected neurons drawn, evenly thinned."
    assert len(svg) < 600_000


def test_census_of_one_layer_without_selection(tmp_path: Path) -> None:
    neurons = pd.DataFrame({"layer": 5, "neuron": range(50), "wd": np.linspace(0, 1, 50)})
    chart, note = census_chart(neurons, pd.DataFrame(), "one", PALETTE)
    svg = draw(chart, tmp_path)
    assert marks(svg, "rect mark") == 2
    assert note == ""


def test_census_without_distances() -> None:
    neurons = pd.DataFrame({"layer": [0], "neuron": [0], "wd": [np.nan]})
    chart, note = census_chart(neurons, pd.DataFrame(), "none", PALETTE)
    assert chart is None
    assert note == "No neuron has a Wasserstein distance."


def test_more_rows_than_altair_takes_by_default() -> None:
    frame = pd.DataFrame({"layer": np.arange(6_000), "neuron": 0, "wd": 1.0})
    chart, _ = census_chart(frame, pd.DataFrame(), "deep", PALETTE)
    assert chart is not None
    assert max(len(rows) for rows in rows_of(specification(chart))) == 6_000


def test_files_of_a_figure(estimates: pd.DataFrame, tmp_path: Path) -> None:
    chart = effect_chart(estimates, pd.DataFrame(), PALETTE)
    assert chart is not None
    paths = save(chart, tmp_path / "new", "effects")
    assert paths["svg"].read_text(encoding="utf-8").startswith("<svg")
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    assert paths["pdf"].read_bytes().startswith(b"%PDF")


def test_figures_of_a_report_and_their_cap(data: ReportData) -> None:
    names = [figure.name for figure in all_figures(data)]
    assert names == [
        "effects",
        "phenomena_1",
        "phenomena_2",
        "levels",
        "wd_by_layer_1",
        "wd_by_layer_2",
        "wd_by_size",
    ]
    many = pd.concat(
        [data.estimates[data.estimates["model"] == "smollm2"].assign(revision=f"step{step}")
         for step in range(9)]
    )  # fmt: skip
    figures = all_figures(replace(data, estimates=many))
    assert len([figure for figure in figures if figure.name.startswith("phen")]) == MAX_CHECKPOINTS
    assert "6 of 9 checkpoints are drawn" in figures[0].caption


def test_no_figures_without_data(empty: ReportData) -> None:
    assert all_figures(empty) == []
