"""All figures of a report, and writing them to files."""

from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from sweeper.atomic import write_atomically
from sweeper.report import (
    figure_census,
    figure_conditions,
    figure_dissociation,
    figure_drift,
    figure_effects,
    figure_emergence,
    figure_firing,
    figure_firing_steps,
    figure_layers,
    figure_neurons,
    figure_ngrams,
    figure_pos,
    figure_positional,
    figure_routing,
    figure_routing_gradient,
    figure_routing_predictions,
    figure_routing_removal,
    figure_share,
    figure_sizes,
    figure_steps,
    figure_tokens,
    figure_trajectory,
    figure_wd_accuracy,
)
from sweeper.report.data import (
    ESTIMATE_COLUMNS,
    LEVEL_COLUMNS,
    ReportData,
    complete,
    random_conditions,
    swept,
    with_family,
)
from sweeper.report.figure import Figure
from sweeper.report.theme import CONFIG, Chart, Palette

PNG_SCALE = 2.0

MAKERS = (
    figure_effects.figures,
    figure_conditions.figures,
    figure_dissociation.figures,
    figure_share.figures,
    figure_pos.figures,
    figure_layers.figures,
    figure_steps.figures,
    figure_trajectory.figures,
    figure_emergence.figures,
    figure_drift.figures,
    figure_wd_accuracy.figures,
    figure_census.figures,
    figure_sizes.figures,
    figure_neurons.figures,
    figure_tokens.figures,
    figure_firing.figures,
    figure_ngrams.figures,
    figure_positional.figures,
    figure_firing_steps.figures,
    figure_routing.figures,
    figure_routing_gradient.figures,
    figure_routing_removal.figures,
    figure_routing_predictions.figures,
)
"""Every kind of figure, in reading order: (data, palette) -> those that the data can carry."""


def all_figures(data: ReportData) -> list[Figure]:
    """Every figure that the data can carry, in reading order."""
    palette = _palette(data)
    return [figure for make in MAKERS for figure in make(data, palette)]


def _palette(data: ReportData) -> Palette:
    """Every condition that appears anywhere, the job's first; one for a family."""
    estimates = with_family(complete(data.estimates, ESTIMATE_COLUMNS))
    levels = with_family(complete(data.levels, LEVEL_COLUMNS))
    seen = dict.fromkeys(
        [
            *map(str, estimates["family"].unique()),
            *map(str, levels.loc[~levels["is_baseline"].astype(bool), "family"].unique()),
            *map(str, complete(data.selected, ["condition"])["condition"].unique()),
        ]
    )
    ordered = dict.fromkeys([*data.job.get("condition", {}), *seen])
    names = tuple(name for name in ordered if name in seen)
    drawn = [*random_conditions(estimates), *random_conditions(levels)]
    return Palette(names, frozenset(drawn), frozenset(map(str, swept(estimates)["family"])))


def specification(chart: Chart) -> dict[str, Any]:
    """The chart as Vega-Lite with the common theme; data of any length are inlined."""
    with alt.data_transformers.disable_max_rows():
        return {**chart.to_dict(), "config": CONFIG}


def save(chart: Chart, folder: Path, name: str) -> dict[str, Path]:
    """Write a chart as SVG, PNG and PDF; nothing is fetched from anywhere.

    Returns:
        Kind of file ("svg", "png", "pdf") -> its path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    svg = vl_convert.vegalite_to_svg(specification(chart), allowed_base_urls=[])
    content: dict[str, bytes] = {
        "svg": svg.encode(),
        "png": vl_convert.svg_to_png(svg, scale=PNG_SCALE),
        "pdf": vl_convert.svg_to_pdf(svg),
    }
    paths = {kind: folder / f"{name}.{kind}" for kind in content}
    for kind, path in paths.items():
        write_atomically(path, content[kind])  # in place of a link, never through it
    return paths
