"""The charts and tables of a routing analysis hold the numbers of the frames."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert
from routing_frames import (
    CHANGES,
    CONSENSUS,
    EVERYWHERE,
    EXCEPTION_RATES,
    NORMS,
    SPLITS,
    make_predictions,
    make_removal,
    make_routing,
    make_splits,
)

from sweeper.report import figure_routing_predictions, figure_routing_removal
from sweeper.report.data import ReportData
from sweeper.report.figure import Figure
from sweeper.report.figure_routing import phase_words, threshold_words
from sweeper.report.figure_routing_gradient import level_means, split_bins, split_words
from sweeper.report.figure_routing_predictions import r2_words, series_rows
from sweeper.report.figure_routing_removal import changes
from sweeper.report.figures import all_figures, specification
from sweeper.report.routing_data import (
    MAX_LAYERS,
    quorum_layers,
    routing_rows,
    split_p,
    widest,
)
from sweeper.report.theme import Palette

PALETTE = Palette((), frozenset())
NAMES = [
    *("routing_phases", "routing_thresholds", "routing_linear_share", "routing_gradient_1"),
    *("routing_splits_1", "routing_removal_1", "routing_predictions_1"),
]


def only(figures: list[Figure]) -> Figure:
    (figure,) = figures
    return figure


def rows_of(chart: Any) -> pd.DataFrame:
    """All rows of data that a chart holds."""
    frames = [pd.DataFrame(rows) for rows in specification(chart)["datasets"].values()]
    return pd.concat(frames, ignore_index=True)


def titles_of(chart: Any) -> list[str]:
    """Titles of the panels, from the outermost."""
    found: list[str] = []

    def visit(part: Any) -> None:
        if isinstance(part, dict):
            title = part.get("title")
            if isinstance(title, str) and ("width" in part or "hconcat" in part):
                found.append(title)
            if isinstance(title, dict):
                found.append(f"{title['text']}: {title.get('subtitle', '')}")
            for value in part.values():
                visit(value)
        elif isinstance(part, list):
            for value in part:
                visit(value)

    visit({name: part for name, part in specification(chart).items() if name != "config"})
    return found


@pytest.fixture(scope="module")
def routing() -> ReportData:
    return make_routing()


@pytest.fixture(scope="module")
def figures(routing: ReportData) -> dict[str, Figure]:
    return {figure.name: figure for figure in all_figures(routing)}


def test_all_figures_are_there_and_can_be_drawn(figures: dict[str, Figure]) -> None:
    assert list(figures) == NAMES
    for figure in figures.values():
        svg = vl_convert.vegalite_to_svg(specification(figure.chart), allowed_base_urls=[])
        assert "NaN" not in svg


def test_phases_with_their_neurons(routing: ReportData, figures: dict[str, Figure]) -> None:
    layers = routing_rows(routing, "routing_layers")
    shown = phase_words(layers[layers["model"] == "gpt2"]).set_index(["layer", "what"])
    assert shown["text"].unstack().loc[11].to_dict() == {
        "handler": "2123",
        "consensus": "7",
        "gateway": "2821",
    }
    assert shown["text"].unstack().loc[3].tolist() == ["", "746", ""]
    assert shown.loc[(10, "gateway"), "text"] == ""
    phases = shown["phase"].groupby("layer").first().tolist()
    assert phases[:5] == ["decision", "scaffold", "scaffold", "scaffold", "diffuse"]
    assert titles_of(figures["routing_phases"].chart) == ["gpt2 @ main", "gpt2_random @ main"]


def test_linear_share_of_both_models_in_percent(figures: dict[str, Figure]) -> None:
    rows = rows_of(figures["routing_linear_share"].chart)
    shown = rows.set_index(["model", "layer"])["linear"]
    assert shown["gpt2 @ main", 11] == pytest.approx(84)
    assert shown["gpt2_random @ main", 0] == pytest.approx(93)


def test_the_gradient_with_both_intervals(routing: ReportData, figures: dict[str, Figure]) -> None:
    levels = routing_rows(routing, "routing_levels")
    means = level_means(levels[levels["layer"] == 11]).set_index(["quantity", "level"])
    rates = means.loc["exception rate"]
    assert rates["mean"].tolist() == pytest.approx([100 * rate for rate in EXCEPTION_RATES])
    first = rates.loc[3]
    assert (first["token_low"], first["token_high"]) == pytest.approx((27.451, 29.149))
    assert (first["document_low"], first["document_high"]) == pytest.approx((26.036, 30.564))
    norms = means.loc["|MLP output|"]
    assert norms["mean"].tolist() == list(NORMS)
    assert norms.loc[0, "document_high"] == pytest.approx(1.08 * 194.1)
    drawn = rows_of(figures["routing_gradient_1"].chart)
    shares = drawn["share"].dropna()
    assert len(shares) == sum(size + 1 for size in CONSENSUS.values())
    assert titles_of(figures["routing_gradient_1"].chart) == [f"layer {at}" for at in CONSENSUS]


def test_levels_without_tokens_have_a_place_and_no_mean(figures: dict[str, Figure]) -> None:
    rows = rows_of(figures["routing_gradient_1"].chart)
    rates = rows[rows["quantity"] == "exception rate"]
    assert rates["mean"].isna().sum() == 1
    assert rates.loc[rates["mean"].isna(), "level"].tolist() == [1]


def test_histogram_of_random_splits_by_hand() -> None:
    bins = split_bins(pd.Series([0.0, 0.024, 0.026, 0.5, 0.51, 1.0, np.nan]))
    assert bins.to_numpy().tolist() == [[0, 2.5, 2], [2.5, 5, 1], [50, 52.5, 2], [97.5, 100, 1]]


def test_random_splits_and_their_p(routing: ReportData, figures: dict[str, Figure]) -> None:
    titles = titles_of(figures["routing_splits_1"].chart)
    assert titles == [
        "layer 7: 41 of 1,000 splits reach it: p = 0.042",
        "layer 8: 2 of 1,000 splits reach it: p = 0.003",
        "layer 10: 0 of 1,000 splits reach it: p = 0.001",
        "layer 11: 0 of 1,000 splits reach it: p = 0.001",
    ]
    assert split_p(41, 1000) == 42 / 1001
    assert math.isnan(split_p(float("nan"), 0))
    assert math.isnan(split_p(0, 0))
    rows = rows_of(figures["routing_splits_1"].chart)
    assert rows["splits"].sum() == 4 * SPLITS
    assert sorted(rows["observed"].dropna()) == pytest.approx([28.1, 62.2, 70.5, 94.2])
    ranges = make_splits().query("layer == 8")["range"]
    highest = split_bins(ranges).set_index("low")["splits"]
    assert highest[10.0] == ((ranges >= 0.1) & (ranges < 0.125)).sum()
    layer = quorum_layers(routing).set_index("layer").loc[8]
    assert split_words(layer) == "2 of 1,000 splits reach it: p = 0.003"


def test_changes_of_perplexity_in_percent(figures: dict[str, Figure]) -> None:
    rows = pd.DataFrame(
        {
            "level": [np.nan, 1, 0],
            "change": [0.1, 0.0, np.log(1.433)],
            "low": [-0.05, np.nan, 0.3],
            "high": [0.25, np.nan, 0.4],
        }
    )
    shown = changes(rows)
    assert shown["level"].tolist() == ["0", "1", "all"]
    assert shown["value"].tolist() == pytest.approx([43.3, 0, 10.5170918])
    assert shown["low"].iloc[2] == pytest.approx(-4.8770575)
    assert shown["high"].iloc[2] == pytest.approx(28.4025417)
    assert np.isnan(shown["low"].iloc[1])
    drawn = rows_of(figures["routing_removal_1"].chart)
    every = drawn[drawn["level"] == "all"]["value"]
    assert len(every) == 3 * len(CONSENSUS)
    assert every.max() == pytest.approx(EVERYWHERE)
    assert drawn["value"].max() == pytest.approx(CHANGES[0])


def test_each_layer_has_a_row_with_a_panel_for_each_intervention(
    figures: dict[str, Figure],
) -> None:
    titles = titles_of(figures["routing_removal_1"].chart)
    assert titles == [
        title
        for layer in CONSENSUS
        for title in (
            f"layer {layer}",
            "MLP removed: ",
            "handler zeroed: ",
            "handler clamped on: ",
        )
    ]


def test_changes_by_powers_of_ten_have_a_logarithmic_axis() -> None:
    removal = make_removal().query("layer == 11 and intervention == 'remove_mlp'")
    removal.loc[removal["level"].eq(0), ["change", "low", "high"]] = [
        np.log(301),
        np.log(201),
        np.log(451),
    ]
    figure = only(figure_routing_removal.figures(make_routing(removal=removal), PALETTE))
    assert str(specification(figure.chart)).count("'symlog'") == 3
    svg = vl_convert.vegalite_to_svg(specification(figure.chart), allowed_base_urls=[])
    assert ">10k<" in svg


def test_other_thresholds(routing: ReportData, figures: dict[str, Figure]) -> None:
    rows = routing_rows(routing, "routing_thresholds")
    shown = threshold_words(rows[rows["model"] == "gpt2"]).set_index(["layer", "threshold"])
    assert shown.loc[(11, "0.1"), "text"] == "7 · 93"
    assert shown.loc[(11, "1"), "text"] == "6 · 84"
    assert shown.loc[(7, "0.5"), ["phase", "text"]].tolist() == ["diffuse", ""]
    assert "datum.value == '0.1'" in str(specification(figures["routing_thresholds"].chart))


def test_predictions_of_three_things(routing: ReportData) -> None:
    rows = routing_rows(routing, "routing_predictions")
    rows = rows[rows["layer"] == 11]
    quarter = series_rows(rows, "most nonlinear quarter of the tokens").set_index("series")
    assert quarter["value"].to_dict() == pytest.approx(
        {
            "firing or not": 79.2,
            "activation values": 78.8,
            "tree of depth 3 on firing": 80.7,
        }
    )
    assert set(quarter["reference"]) == {75.0}
    norm = series_rows(rows, "norm of the MLP's output").set_index("series")
    assert norm["value"].to_dict() == pytest.approx(
        {"firing or not": 0.22, "activation values": 0.36}
    )
    assert norm["reference"].isna().all()
    fifth = series_rows(rows, "fifth of |delta|")
    assert fifth["value"].tolist() == pytest.approx([40])
    assert fifth["reference"].tolist() == pytest.approx([20])


def test_settings_are_in_the_order_of_their_numbers(figures: dict[str, Figure]) -> None:
    chart = specification(figures["routing_predictions_1"].chart)
    orders = [re.findall(r"'sort': (\[[^]]*\])", str(panel)) for panel in chart["concat"]]
    assert orders[3][0] == str([str(degree) for degree in range(2, 8)])
    assert orders[4][0] == str(["1", "2", "4", "8", "16"])
    assert orders[5][0] == str(["2", "4", "8"])


def test_panels_are_of_what_there_is() -> None:
    rows = make_predictions()
    some = make_routing(routing_predictions=rows[rows["analysis"] == "polynomial"])
    figure = only(figure_routing_predictions.figures(some, PALETTE))
    assert titles_of(figure.chart) == ["delta by polynomials (R²)"]
    none = make_routing(routing_predictions=rows.assign(value=np.nan))
    assert figure_routing_predictions.figures(none, PALETTE) == []


def test_r2_has_room_in_a_cell() -> None:
    values = (0.257, -0.001, -9.876, -12.4, -3999.9, -39999.9, -1.2e12)
    assert [r2_words(value) for value in values] == [
        *("0.26", "0.00", "−9.88", "−12", "−4000", "−4e4", "−1e12"),
    ]


def test_of_many_layers_the_widest_are_drawn() -> None:
    layers = pd.DataFrame({"layer": range(20), "range": np.linspace(0.5, 0.1, 20)})
    layers.loc[3, "range"] = np.nan
    shown, note = widest(layers)
    assert shown == [0, 1, 2, 4, 5, 6, 7, 8]
    assert len(shown) == MAX_LAYERS
    assert note.startswith(" The 8 layers with the widest range of 20 with a quorum are drawn")
    assert widest(layers.head(2)) == ([0, 1], "")
