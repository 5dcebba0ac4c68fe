"""Figures of the firing census hold the numbers of the frames."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert
from firing_frames import make_firing
from statsmodels.stats.proportion import proportion_confint

from sweeper.report import (
    figure_firing,
    figure_firing_steps,
    figure_ngrams,
    figure_positional,
    over_layers,
)
from sweeper.report.data import ReportData
from sweeper.report.figure import Figure
from sweeper.report.figures import MAKERS, specification
from sweeper.report.firing_data import FiringData
from sweeper.report.firing_tables import firing_tables
from sweeper.report.theme import Palette

MAKING = (figure_firing, figure_ngrams, figure_positional, figure_firing_steps)
PALETTE = Palette((), frozenset())
STEPS = (0, 64, 143000)
ONE = {"model": "m", "revision": "main"}


def data_of(firing: FiringData, steps: tuple[int | None, ...] = ()) -> ReportData:
    nothing = pd.DataFrame()
    revisions = [(f"step{step}", step) for step in steps]
    checkpoints = [{"model": "p", "revision": name, "step": step} for name, step in revisions]
    return ReportData(
        estimates=nothing,
        levels=nothing,
        neurons=nothing,
        selected=nothing,
        cells=nothing,
        manifest=nothing,
        job={},
        firing=firing,
        checkpoints=pd.DataFrame(checkpoints),
    )


def by_hand() -> FiringData:
    """Two layers of ten neurons, two corpora, a handful of detectors and positional neurons."""
    layers = [
        ("a", 0, 100, 2, 10, 4, 0.25),
        ("b", 0, 300, 6, 10, 6, 0.5),
        ("all", 0, 400, 8, 10, 3, 0.3),
        ("a", 1, 100, 2, 10, 0, 0.1),
        ("b", 1, 300, 6, 10, 1, 0.2),
        ("all", 1, 400, 8, 10, 0, 0.15),
    ]
    columns = ["corpus", "layer", "num_tokens", "num_windows", "num_neurons", "dead", "frequency"]
    bins = ("1", "2–5", "6–50", "more than 50")
    counts = {0: (2, 1, 0, 4), 1: (0, 0, 3, 7)}
    explained = [
        {"n": 1, "layer": layer, "bin": name, "num_neurons": number}
        for layer, of_layer in counts.items()
        for name, number in zip(bins, of_layer, strict=True)
    ]
    detectors = [(1, 0, 3, 3, 2, 4, 4, 4, 4), (1, 1, 0, 0, 0, 0, 4, 0, 0)]
    names = [
        *("n", "layer", "num_detectors", "num_told", "num_suppressing"),
        *("covered", "cumulative", "new", "new_to_previous"),
    ]
    positional = [
        (0, 3, 0.3, "oscillatory", True),
        (0, 7, 0.1, "oscillatory", False),
        (1, 5, 0.2, "other", False),
    ]
    place = ["layer", "neuron", "information", "type", "strong"]
    neurons = pd.DataFrame(positional, columns=place).assign(**ONE)
    frequency = [np.linspace(0, 1, 600), np.linspace(1, 0, 600), np.full(600, 0.5)]
    counted = [(0, "oscillatory", True, 1, 0.3), (0, "oscillatory", False, 1, 0.1)]
    counted += [(1, "other", False, 1, 0.2)]
    types = ["layer", "type", "strong", "num_neurons", "information"]
    return FiringData(
        by_layer=pd.DataFrame(layers, columns=columns).assign(**ONE),
        explained=pd.DataFrame(explained).assign(**ONE),
        detectors_by_layer=pd.DataFrame(detectors, columns=names).assign(**ONE),
        positional=neurons,
        positional_by_layer=pd.DataFrame(counted, columns=types).assign(**ONE),
        curves=neurons.assign(rank=[0, 1, 0], frequency=frequency),
    )


def draw(data: ReportData) -> dict[str, Figure]:
    return {figure.name: figure for make in MAKING for figure in make.figures(data, PALETTE)}


@pytest.fixture(scope="module")
def hand() -> dict[str, Figure]:
    return draw(data_of(by_hand()))


def rows_of(chart: Any) -> pd.DataFrame:
    """All rows of data that a chart holds, each once."""
    frames = [pd.DataFrame(rows) for rows in specification(chart)["datasets"].values()]
    return pd.concat(frames, ignore_index=True).drop_duplicates()


def encodings(part: Any, channel: str) -> list[dict[str, Any]]:
    """Every encoding of a specification on a channel."""
    if isinstance(part, list):
        return [found for inner in part for found in encodings(inner, channel)]
    if not isinstance(part, dict):
        return []
    here = [part["encoding"][channel]] if channel in part.get("encoding", {}) else []
    return here + [found for inner in part.values() for found in encodings(inner, channel)]


def test_which_figures_there_are_and_that_they_are_registered(hand: dict[str, Figure]) -> None:
    assert list(hand) == [
        *("dead_neurons", "activation_frequency", "ngrams_1", "detectors_1", "suppression"),
        *("positional_1", "positional_curves_1"),
    ]
    registered = [maker for maker in MAKERS if maker in [module.figures for module in MAKING]]
    assert registered == [module.figures for module in MAKING]


def test_dead_and_alive_in_percent(hand: dict[str, Figure]) -> None:
    dead = rows_of(hand["dead_neurons"].chart).dropna(subset=["corpus"])
    found = dead.set_index(["corpus", "layer"])["percent_dead"].to_dict()
    together = "all corpora together"
    assert found == {
        **{("a", 0): 40, ("b", 0): 60, (together, 0): 30},
        **{("a", 1): 0, ("b", 1): 10, (together, 1): 0},
    }
    alive = rows_of(hand["activation_frequency"].chart).dropna(subset=["corpus"])
    values = alive.set_index(["corpus", "layer"])["percent_active"]
    assert values[together, 0] == pytest.approx(30)
    assert values["b", 1] == pytest.approx(20)


def test_a_single_corpus_is_not_drawn_twice() -> None:
    firing = by_hand()
    single = firing.by_layer[firing.by_layer["corpus"] != "b"]
    rows = figure_firing.corpora_by_layer(single)
    assert set(rows["corpus"]) == {"a"}
    assert len(rows) == 2


def test_corpora_are_told_apart_by_shape_as_well(hand: dict[str, Figure]) -> None:
    chart = specification(hand["dead_neurons"].chart)
    for channel in ("color", "shape"):
        for encoding in encodings(chart, channel):
            assert encoding["scale"]["domain"] == ["all corpora together", "a", "b"]
            assert len(set(encoding["scale"]["range"])) == 3
    assert len(encodings(chart, "shape")) == 1


def test_layers_stand_in_order_on_a_numeric_axis() -> None:
    firing = make_firing({("m", "main"): (14, 12)})
    for name, figure in draw(data_of(firing)).items():
        for axis in encodings(specification(figure.chart), "x"):
            if axis.get("title") == "layer":
                assert axis["type"] == "quantitative", name
                assert axis["axis"]["values"] == list(range(0, 14, 2)), name
                assert axis["scale"]["domain"] == [-0.6, 13.6], name


def test_numbers_of_neurons_by_how_many_ngrams_explain_them(hand: dict[str, Figure]) -> None:
    rows = rows_of(hand["ngrams_1"].chart).dropna(subset=["bin"])
    found = rows.groupby("layer")["num_neurons"].apply(list).to_dict()
    assert found == {0: [2, 1, 0, 4], 1: [0, 0, 3, 7]}
    scale = encodings(specification(hand["ngrams_1"].chart), "color")[0]["scale"]
    assert scale["domain"] == ["1", "2–5", "6–50", "more than 50"]


def test_detectors_and_what_they_detect(hand: dict[str, Figure]) -> None:
    rows = rows_of(hand["detectors_1"].chart).dropna(subset=["line"])
    found = rows.groupby("line")["number"].apply(list).to_dict()
    assert found == {
        "detectors": [3, 0],
        "detected in the layer": [4, 0],
        "in none of the layers before": [4, 0],
        "not in the layer before": [4, 0],
        "in this layer or one before": [4, 4],
    }
    panels = specification(hand["detectors_1"].chart)["concat"]
    titles = ["Detectors of tokens", "Detected tokens", "Detected tokens so far"]
    assert [panel["title"] for panel in panels] == titles


def test_suppression_has_the_interval_of_wilson(hand: dict[str, Figure]) -> None:
    rows = rows_of(hand["suppression"].chart).dropna(subset=["share"])
    low, high = proportion_confint(2, 3, method="wilson")
    assert rows[["layer", "share", "low", "high"]].to_numpy().tolist() == [
        pytest.approx([0, 200 / 3, 100 * low, 100 * high])
    ]
    text = json.dumps(specification(hand["suppression"].chart))
    assert "m @ main: 66.7 % of 3 detectors" in text


def test_circles_tell_type_and_strength_without_colour(hand: dict[str, Figure]) -> None:
    chart = specification(hand["positional_1"].chart)
    rows = rows_of(hand["positional_1"].chart).dropna(subset=["kind"])
    assert rows.set_index("kind")["information"].to_dict() == {
        "oscillatory, strong": 0.3,
        "oscillatory, weak": 0.1,
        "other": 0.2,
    }
    # Jitter leaves every mark in its layer.
    assert rows["place"].round().tolist() == [0, 0, 1]
    (fill,), (shape,) = encodings(chart, "fill"), encodings(chart, "shape")
    strong, weak, other = fill["scale"]["range"]
    assert strong != "#FFFFFF"
    assert weak == other == "#FFFFFF"
    assert shape["scale"]["range"][0] == shape["scale"]["range"][1] != shape["scale"]["range"][2]
    assert "about 0.0625 in 8 windows" in hand["positional_1"].caption


def test_many_positional_neurons_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_positional, "MAX_MARKED", 2)
    figure = draw(data_of(by_hand()))["positional_1"]
    assert len(rows_of(figure.chart).dropna(subset=["kind"])) == 2
    assert "2 of 3 neurons drawn" in figure.caption


def test_curves_are_means_of_neighbours(hand: dict[str, Figure]) -> None:
    curve = figure_positional.thinned_curve(np.arange(600.0))
    assert len(curve) == 200
    assert curve["position"].tolist() == curve["frequency"].tolist()
    assert curve["position"].tolist()[:2] == [1, 4]
    uneven = figure_positional.thinned_curve(np.array([*np.zeros(300), 1.0]))
    assert len(uneven) == 151
    assert uneven.iloc[-1].tolist() == [300, 1.0]
    rows = specification(hand["positional_curves_1"].chart)["vconcat"]
    titles = [panel["title"] for row in rows for panel in row["hconcat"]]
    assert [title["text"] for title in titles] == [
        "layer 0, neuron 3",
        "layer 0, neuron 7",
        "layer 1, neuron 5",
    ]
    assert titles[1]["subtitle"] == "oscillatory, weak, I = 0.10"
    assert "mean of 3 positions" in hand["positional_curves_1"].caption


@pytest.fixture(scope="module")
def training() -> ReportData:
    return data_of(make_firing({("p", f"step{step}"): (4, 30) for step in STEPS}), STEPS)


def test_over_training_steps(training: ReportData) -> None:
    (figure,) = figure_firing_steps.figures(training, PALETTE)
    rows = rows_of(figure.chart)
    assert sorted(set(rows["step"])) == list(STEPS)
    firing = training.firing
    together = firing.by_layer[firing.by_layer["corpus"] == "all"]
    for step in STEPS:
        name = f"step{step}"
        here = rows[rows["revision"] == name].set_index("kind")["number"]
        dead = together[together["revision"] == name]
        assert here["dead"] == pytest.approx(100 * dead["dead"].sum() / (4 * 30))
        found = firing.detectors_by_layer[firing.detectors_by_layer["revision"] == name]
        for n, kind in ((1, "tokens"), (2, "bigrams"), (3, "trigrams")):
            assert here[kind] == found.loc[found["n"] == n, "num_detectors"].sum()
        types = firing.positional[firing.positional["revision"] == name]["type"]
        for kind, label in figure_positional.TYPES.items():
            assert here[label] == (types == kind).sum()
    axis = encodings(specification(figure.chart), "x")[0]
    assert (axis["field"], axis["scale"]["type"]) == ("step", "symlog")


def test_revisions_without_steps_are_in_the_jobs_order(training: ReportData) -> None:
    backwards = training.checkpoints.assign(step=None).iloc[::-1].reset_index(drop=True)
    (figure,) = figure_firing_steps.figures(replace(training, checkpoints=backwards), PALETTE)
    axis = encodings(specification(figure.chart), "x")[0]
    assert axis["field"] == "revision"
    assert axis["sort"] == [f"step{step}" for step in reversed(STEPS)]


def test_one_revision_is_no_training(hand: dict[str, Figure]) -> None:
    assert "firing_over_steps" not in hand


def test_without_a_census_there_is_nothing() -> None:
    assert draw(data_of(FiringData())) == {}


def test_a_census_without_ngrams_and_positions() -> None:
    firing = FiringData(by_layer=by_hand().by_layer)
    assert list(draw(data_of(firing))) == ["dead_neurons", "activation_frequency"]


def test_no_detectors_no_empty_panels() -> None:
    firing = by_hand()
    none = dict.fromkeys(
        ["num_detectors", "num_told", "num_suppressing", "covered", "cumulative", "new"], 0
    )
    without = replace(firing, detectors_by_layer=firing.detectors_by_layer.assign(**none))
    names = list(draw(data_of(without)))
    assert "ngrams_1" in names
    assert not {"detectors_1", "suppression"} & set(names)


def test_all_dead_has_no_activation_frequency_but_no_error() -> None:
    rows = by_hand().by_layer.assign(dead=10, frequency=float("nan"))
    figures = draw(data_of(FiringData(by_layer=rows)))
    assert set(rows_of(figures["dead_neurons"].chart)["percent_dead"].dropna()) == {100}
    vl_convert.vegalite_to_svg(specification(figures["activation_frequency"].chart))


def test_marks_are_thinned_over_many_layers() -> None:
    rows = pd.DataFrame({"layer": range(96)})
    (points,) = over_layers.points_of(rows).to_dict()["datasets"].values()
    assert [row["layer"] for row in points] == list(range(0, 96, 3))
    (every,) = over_layers.points_of(rows.head(32)).to_dict()["datasets"].values()
    assert len(every) == 32


def test_all_can_be_drawn() -> None:
    firing = make_firing({("m", "main"): (6, 40)}, length=64)
    for figure in draw(data_of(firing)).values():
        svg = vl_convert.vegalite_to_svg(specification(figure.chart), allowed_base_urls=[])
        assert "NaN" not in svg


@pytest.mark.parametrize(("least", "told"), [(1, False), (8, True)])
def test_captions_tell_how_often_a_detector_is_active_at_least(least: int, told: bool) -> None:
    data = replace(data_of(by_hand()), job={"firing": {"least_activations": least}})
    line = "active fewer than 8 times is no detector"
    for name in ("detectors_1", "suppression"):
        assert (line in draw(data)[name].caption) == told
    (kinds, *_) = firing_tables(data)
    assert (line in kinds.note) == told
