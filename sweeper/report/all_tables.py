"""All tables of a report, as text."""

import pandas as pd

from sweeper.report import facts, numbers
from sweeper.report.data import (
    ALL_ITEMS,
    ESTIMATE_COLUMNS,
    LEVEL_COLUMNS,
    ReportData,
    complete,
    swept,
    unswept,
)
from sweeper.report.dynamics_tables import dynamics_tables
from sweeper.report.firing_tables import firing_layer_tables, firing_tables
from sweeper.report.routing_tables import routing_tables
from sweeper.report.step_tables import step_tables
from sweeper.report.study_tables import (
    balance_tables,
    contrast_tables,
    example_tables,
    match_tables,
    neuron_tables,
    share_tables,
)
from sweeper.report.tables import effect_rows
from sweeper.report.text_table import TextTable


def all_tables(data: ReportData) -> list[TextTable]:
    """Every table that the data can fill, in reading order."""
    return [
        *_effects(data),
        *_levels(data),
        *contrast_tables(data),
        *step_tables(data),
        *dynamics_tables(data),
        *share_tables(data),
        *match_tables(data),
        *balance_tables(data),
        *neuron_tables(data),
        *example_tables(data),
        *firing_tables(data),
        *firing_layer_tables(data),
        *routing_tables(data),
        *_cells(data),
    ]


def _kept(name: str, title: str, frame: pd.DataFrame, note: str = "") -> list[TextTable]:
    return [] if frame.empty else [TextTable(name=name, title=title, frame=frame, note=note)]


def _effects(data: ReportData) -> list[TextTable]:
    frame = complete(data.estimates, ESTIMATE_COLUMNS)
    plain = unswept(frame)
    whole, grouped = plain[plain["group"] == ALL_ITEMS], plain[plain["group"] != ALL_ITEMS]
    note = (
        f"Paired per item against the same model's baseline; intervals hold {data.percent}. "
        "p compares with the random controls, p cluster is of the cluster-robust t test, p Holm "
        "the same after Holm over the conditions and tasks of a model."
    )
    return [
        *_kept("effects", "Effects over all items", effect_rows(whole), note),
        *_kept("effects_by_group", "Effects by phenomenon", effect_rows(grouped), note),
        *_kept("effects_by_layers", "Effects of groups of layers", layer_effect_rows(data), note),
    ]


def layer_effect_rows(data: ReportData) -> pd.DataFrame:
    """Effects of groups of layers as rows of text, with their simultaneous bands."""
    frame = swept(complete(data.estimates, ESTIMATE_COLUMNS))
    rows = effect_rows(frame)
    bands = [
        numbers.effect_interval(str(metric), low, high)
        for metric, low, high in frame[["metric", "band_low", "band_high"]].itertuples(index=False)
    ]
    rows.insert(list(rows.columns).index("cluster interval") + 1, "simultaneous band", bands)
    return rows


def _levels(data: ReportData) -> list[TextTable]:
    frame = complete(data.levels, LEVEL_COLUMNS)
    whole = unswept(frame[frame["group"] == ALL_ITEMS])
    rows = [
        {
            **{name: str(row[name]) for name in ("model", "revision", "task")},
            "metric": numbers.metric_name(str(row["metric"])),
            "condition": str(row["condition"]),
            "value": numbers.level(str(row["metric"]), row["value"]),
            "cluster interval": numbers.level_interval(
                str(row["metric"]), row["cluster_low"], row["cluster_high"]
            ),
            "items": numbers.count(row["num_items"]),
            "clusters": numbers.count(row["num_clusters"]),
            "seeds": numbers.seeds(row["num_seeds"]),
        }
        for row in whole.to_dict("records")
    ]
    note = f"Values themselves, not effects; cluster-robust {data.percent} intervals."
    return _kept("levels", "Values under each condition", pd.DataFrame(rows), note)


def _cells(data: ReportData) -> list[TextTable]:
    named = facts.named_cells(data)
    return [
        *_kept("noise", "Noise floor", facts.noise(named)),
        *_kept("changes", "Values changed by each clamp, sums over seeds", facts.changes(named)),
        *_kept("failures", "Failed cells", facts.failures(named)),
    ]
