"""The charts hold the numbers of the frames."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_frames import LAYERS, MODEL, PARTS, TOTAL, WIDTH, make_neurons

from sweeper.report.data import ReportData
from sweeper.report.figure import Figure
from sweeper.report.figure_dissociation import contrast_chart
from sweeper.report.figure_layers import heat_chart, layer_rows
from sweeper.report.figure_share import clamped_shares, share_chart, total_neurons
from sweeper.report.figure_sizes import size_chart
from sweeper.report.figures import all_figures, specification
from sweeper.report.theme import Palette


@pytest.fixture(scope="module")
def figures(study: ReportData) -> dict[str, Figure]:
    return {figure.name: figure for figure in all_figures(study)}


def rows_of(chart: Any) -> pd.DataFrame:
    """All rows of data that a chart holds."""
    frames = [pd.DataFrame(rows) for rows in specification(chart)["datasets"].values()]
    return pd.concat(frames, ignore_index=True)


def test_a_study_has_all_its_figures(figures: dict[str, Figure]) -> None:
    assert list(figures) == [
        "effects",
        "phenomena_1",
        "levels",
        "contrasts",
        "perplexity_by_share",
        "parts_of_speech_1",
        "layers_phenomena_1",
        "layers_1",
        "wd_by_layer_1",
        "neuron_pairs_1",
        "neuron_tokens_1",
    ]


def test_groups_of_layers_stay_out_of_the_other_figures(figures: dict[str, Figure]) -> None:
    for name in ("effects", "phenomena_1", "levels", "perplexity_by_share", "parts_of_speech_1"):
        assert "top1_single" not in json.dumps(specification(figures[name].chart))


def test_random_controls_have_the_two_way_interval(
    study: ReportData, figures: dict[str, Figure]
) -> None:
    rows = rows_of(figures["effects"].chart)
    frame = study.estimates[
        (study.estimates["task"] == "blimp") & study.estimates["group"].eq("all")
    ]
    for name, kind in (("random1", "two_way"), ("top1", "cluster")):
        truth = frame[frame["condition"] == name].iloc[0]
        close = rows[
            (rows["condition"] == name) & np.isclose(rows["effect"], 100 * truth["effect"])
        ]
        assert close["low"].iloc[0] == pytest.approx(100 * truth[f"{kind}_low"])
        assert close["high"].iloc[0] == pytest.approx(100 * truth[f"{kind}_high"])


def test_share_is_of_all_neurons_and_perplexity_absolute(study: ReportData) -> None:
    rows = clamped_shares(study).set_index("condition")
    assert rows.loc["top2", "share"] == pytest.approx(0.02)
    assert rows.loc["matched_perplexity", ["kind", "set"]].tolist() == [
        "matched",
        "matched by perplexity",
    ]
    assert rows.loc["top1_positive", "operation"] == "positive clamp"
    levels = study.levels[(study.levels["task"] == "wikitext")].set_index("condition")
    assert rows.loc["top5", "value"] == pytest.approx(np.exp(levels.loc["top5", "value"]))
    assert rows["baseline"].unique() == pytest.approx([np.exp(3.1)])
    assert set(rows["task"]) == {"wikitext"}
    assert "baseline" not in rows.index
    assert len(rows) == 10


def test_one_share_is_no_curve(study: ReportData) -> None:
    rows = clamped_shares(study)
    assert share_chart(rows[rows["condition"].isin(["top1", "random1"])]) is None
    assert share_chart(rows[rows["condition"].isin(["top1", "top2"])]) is not None


def test_number_of_neurons_comes_from_the_shape_or_the_census(study: ReportData) -> None:
    assert total_neurons(study)["total"].tolist() == [TOTAL] == [LAYERS * WIDTH]
    counted = total_neurons(replace(study, checkpoints=pd.DataFrame()))
    assert counted["total"].tolist() == [LAYERS * 200]


def test_parts_of_speech_are_sorted_by_the_shifted_effect(
    study: ReportData, figures: dict[str, Figure]
) -> None:
    chart = specification(figures["parts_of_speech_1"].chart)
    panels = chart["hconcat"]
    orders = [panel["layer"][1]["encoding"]["y"]["sort"] for panel in panels]
    frame = study.estimates
    lead = frame[(frame["metric"] == "shifted") & (frame["condition"] == "top1")]
    expected = lead.sort_values("effect", ascending=False)["group"].tolist()
    assert orders == [expected, expected]
    assert set(expected) == set(PARTS)
    shown = rows_of(figures["parts_of_speech_1"].chart)
    assert lead["effect"].isin(shown["effect"].tolist()).all()


def test_layer_groups_in_order_and_kind(study: ReportData) -> None:
    rows = layer_rows(study.estimates)
    sweeps = rows.groupby("family")["sweep"].unique().map(list).to_dict()
    assert sweeps == {
        "random_single": ["single groups"],
        "top1_cumulative": ["cumulative"],
        "top1_single": ["single groups"],
    }
    single = rows[rows["family"] == "top1_single"]
    assert list(dict.fromkeys(single["layers"])) == ["0–5", "6–11", "12–17", "18–23", "24–29"]
    together = rows[rows["family"] == "top1_cumulative"]
    assert list(dict.fromkeys(together["layers"])) == ["0–5", "0–11", "0–17", "0–23", "0–29"]


def test_heat_map_marks_bands_that_leave_out_zero(
    study: ReportData, figures: dict[str, Figure]
) -> None:
    cells = rows_of(figures["layers_phenomena_1"].chart)
    assert set(cells["family"]) == {"top1_single", "top1_cumulative"}
    frame = study.estimates[study.estimates["task"].isin(["blimp", "tse"])]
    frame = frame[frame["family"].isin(set(cells["family"]))]
    assert len(cells) == len(frame) == 2 * 5 * (13 + 4)
    beyond = (frame["band_low"] > 0) | (frame["band_high"] < 0)
    assert cells["beyond"].sum() == beyond.sum() > 0
    assert sorted(cells["points"]) == pytest.approx(sorted((100 * frame["effect"]).round(1)))


def test_heat_colours_are_even_around_zero(study: ReportData) -> None:
    rows = layer_rows(study.estimates)
    chart = heat_chart(rows, Palette(("top1_single", "top1_cumulative"), frozenset()))
    scale = specification(chart)["concat"][0]["layer"][0]["encoding"]["color"]["scale"]
    assert scale["domain"] == [-value for value in reversed(scale["domain"])]


def test_lines_by_layers_carry_the_band(study: ReportData, figures: dict[str, Figure]) -> None:
    rows = rows_of(figures["layers_1"].chart)
    assert set(rows["family"]) == {"top1_single", "top1_cumulative", "random_single"}
    truth = study.estimates[
        (study.estimates["condition"] == "top1_cumulative[0-11]")
        & (study.estimates["task"] == "wikitext")
    ].iloc[0]
    found = rows[np.isclose(rows["effect"], np.exp(truth["effect"]))].iloc[0]
    ends = [found["band_low"], found["band_high"]]
    assert ends == pytest.approx(list(np.exp([truth["band_low"], truth["band_high"]])))


def test_contrast_parts_with_intervals(study: ReportData, figures: dict[str, Figure]) -> None:
    rows = rows_of(figures["contrasts"].chart)
    row = rows[rows["part"] == "interaction"].iloc[0]
    assert (row["effect"], row["low"], row["high"]) == pytest.approx((-9.0, -11.0, -7.0))
    assert row["label"] == "interaction"
    crossing = rows.dropna(subset=["who"]).set_index(["who", "tasks"])["effect"]
    assert crossing["top1", "grammar"] == pytest.approx(-7.0)
    assert crossing["matched_perplexity", "other"] == pytest.approx(-6.0)


def test_contrasts_of_layer_groups_are_one_panel(study: ReportData) -> None:
    parts = [
        study.contrasts.assign(first_layer=first, last_layer=first + 5, target=f"top1[{first}]")
        for first in (6, 0)
    ]
    rows = rows_of(contrast_chart(pd.concat(parts)))
    assert rows["label"].tolist() == ["layers 0–5", "layers 6–11"]
    assert set(rows["part"]) == {"interaction"}


def test_differences_are_told_apart_by_task(study: ReportData) -> None:
    row = study.contrasts.iloc[[0]].assign(kind="difference", part="difference")
    both = pd.concat([row.assign(tasks="blimp"), row.assign(tasks="tse")])
    assert rows_of(contrast_chart(both))["label"].tolist() == [
        "difference, blimp",
        "difference, tse",
    ]


def test_depth_and_size_of_two_models() -> None:
    neurons = make_neurons({"small": (2, 50), "large": (5, 50)})
    sizes = pd.DataFrame(
        [
            {"model": "large", "revision": "main", "num_parameters": 8_030_000_000},
            {"model": "small", "revision": "main", "num_parameters": 70_000_000},
        ]
    )
    chart = size_chart(neurons, sizes)
    rows = rows_of(chart)
    names = ["small @ main (70M)", "large @ main (8.03B)"]
    assert list(dict.fromkeys(rows["name"])) == names
    depths = rows[(rows["name"] == names[1]) & (rows["line"] == "median")]
    assert depths["depth"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    layer = neurons[(neurons["model"] == "large") & (neurons["layer"] == 2)]["wd"]
    assert depths["wd"].iloc[2] == pytest.approx(np.quantile(layer, 0.5))
    whole = rows[(rows["name"] == names[0]) & rows["high"].notna()].iloc[0]
    small = neurons[neurons["model"] == "small"]["wd"]
    assert whole["high"] == pytest.approx(np.quantile(small, 0.99))
    assert size_chart(neurons[neurons["model"] == "small"], sizes) is None


def test_levels_show_the_baseline(study: ReportData, figures: dict[str, Figure]) -> None:
    rows = rows_of(figures["levels"].chart)
    assert (rows["condition"] == "baseline").sum() == 5
    blimp = study.levels[(study.levels["task"] == "blimp") & (study.levels["group"] == "all")]
    truth = blimp[blimp["condition"] == "top1"]["value"].iloc[0]
    assert np.isclose(rows["value"], 100 * truth).any()


def test_frames_of_an_older_version_still_make_figures(study: ReportData) -> None:
    new = ["family", "first_layer", "last_layer", "two_way_low", "two_way_high", "band_low"]
    plain = study.estimates[study.estimates["first_layer"].isna()]
    levels = study.levels[study.levels["first_layer"].isna()]
    old = replace(
        study,
        estimates=plain[plain["metric"] != "shifted"].drop(columns=new),
        levels=levels.drop(columns=["family", "first_layer", "last_layer"]),
        contrasts=pd.DataFrame(),
        neuron_pairs=pd.DataFrame(),
        neuron_tokens=pd.DataFrame(),
    )
    names = [figure.name for figure in all_figures(old)]
    expected = ["effects", "phenomena_1", "levels", "perplexity_by_share", "wd_by_layer_1"]
    assert names == expected


def test_a_condition_that_a_task_lacks_keeps_the_colours_of_the_others(study: ReportData) -> None:
    frame = study.estimates
    lacking = frame[~((frame["task"] == "blimp") & (frame["condition"] == "top1"))]
    figure = all_figures(replace(study, estimates=lacking))[0]
    chart = specification(figure.chart)
    assert chart["resolve"]["scale"] == {"color": "independent", "shape": "independent"}
    for panel in chart["concat"]:
        scale = panel["spec"]["layer"][1]["encoding"]["color"]["scale"]
        colours = dict(zip(scale["domain"], scale["range"], strict=True))
        assert colours["top2"] == "#D55E00"
    assert MODEL["model"] in json.dumps(chart)
