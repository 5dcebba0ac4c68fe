"""Tables of effects: for the terminal, and as rows of text for files and the page."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweeper.report import numbers
from sweeper.report.data import (
    ALL_ITEMS,
    CHECKPOINT,
    ESTIMATE_COLUMNS,
    LEVEL_COLUMNS,
    complete,
    unswept,
)

PANEL = [*CHECKPOINT, "task", "metric"]
"""What has a baseline of its own."""


def effect_rows(estimates: pd.DataFrame) -> pd.DataFrame:
    """Turn estimates into rows of text for people.

    Accuracy is in % and percentage points, ``nll`` is shown as perplexity with the factor on it
    and the interval of that factor. NaN is a dash; the counts stand beside it.

    Args:
        estimates: columns are the fields of :class:`sweeper.records.Estimate`.

    Returns:
        One row per estimate, in the same order, all columns strings.
    """
    frame = complete(estimates, ESTIMATE_COLUMNS)
    rows = [_effect_row(row) for row in frame.to_dict("records")]
    return pd.DataFrame(rows, columns=list(_effect_row(dict.fromkeys(ESTIMATE_COLUMNS))))


def _effect_row(row: dict[Any, Any]) -> dict[str, str]:
    metric = str(row["metric"])
    names = {key: str(row[key]) for key in (*CHECKPOINT, "task")}

    def interval(kind: str) -> str:
        return numbers.effect_interval(metric, row[f"{kind}_low"], row[f"{kind}_high"])

    return names | {
        "metric": numbers.metric_name(metric),
        "group": str(row["group"]),
        "condition": str(row["condition"]),
        "baseline": numbers.level(metric, row["baseline"]),
        "value": numbers.level(metric, row["value"]),
        "effect": numbers.effect(metric, row["effect"]),
        "cluster interval": interval("cluster"),
        "bootstrap interval": interval("bootstrap"),
        "seed interval": interval("seed"),
        "two-way interval": interval("two_way"),
        "p": numbers.p_value(row["p_random"], row["p_floor"]),
        "p cluster": numbers.probability(row["p_cluster"]),
        "p Holm": numbers.probability(row["p_holm"]),
        "items": numbers.count(row["num_items"]),
        "clusters": numbers.count(row["num_clusters"]),
        "seeds": numbers.seeds(row["num_seeds"]),
    }


def baseline_rows(levels: pd.DataFrame) -> pd.DataFrame:
    """The levels of baselines."""
    levels = complete(levels, LEVEL_COLUMNS)
    return levels[levels["is_baseline"].astype(bool)]


def panels(estimates: pd.DataFrame, levels: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """The (model, revision, task, metric) with anything to show for all items, in order."""
    frames = [complete(levels, LEVEL_COLUMNS), complete(estimates, ESTIMATE_COLUMNS)]
    found: dict[tuple[str, str, str, str], None] = {}
    for frame in frames:
        whole = frame[frame["group"] == ALL_ITEMS]
        for model, revision, task, metric in whole[PANEL].itertuples(index=False):
            found[(str(model), str(revision), str(task), str(metric))] = None
    return list(found)


def in_panel(frame: pd.DataFrame, panel: tuple[str, str, str, str]) -> pd.DataFrame:
    """Rows of a panel that hold for all its items."""
    keep = frame["group"] == ALL_ITEMS
    for column, name in zip(PANEL, panel, strict=True):
        keep &= frame[column] == name
    return frame[keep]


def terminal_table(
    estimates: pd.DataFrame, levels: pd.DataFrame, confidence: float = 0.95
) -> RenderableType:
    """Tables of a run for the terminal, one per task and metric, readable in 80 columns.

    Args:
        estimates: columns are the fields of :class:`sweeper.records.Estimate`.
        levels: columns are the fields of :class:`sweeper.aggregate.levels.Level`.
        confidence: of the intervals, for the heading.
    """
    frame = complete(estimates, ESTIMATE_COLUMNS)
    estimates = unswept(frame)
    baselines = baseline_rows(levels)
    tables: list[RenderableType] = [
        _panel_table(panel, in_panel(estimates, panel), in_panel(baselines, panel), confidence)
        for panel in panels(estimates, levels)
    ]
    left_out = len(frame) - len(estimates)
    if left_out:
        tables.append(Text(f"Effects of groups of layers: {left_out}, in the report.", "dim"))
    return Group(*tables) if tables else Text("No estimates yet.")


def _panel_table(
    panel: tuple[str, str, str, str],
    estimates: pd.DataFrame,
    baselines: pd.DataFrame,
    confidence: float,
) -> Table:
    table = _empty_table(panel, confidence)
    last = pd.concat([baselines, estimates]).iloc[-1]
    table.caption = Text(_sizes(last))
    for row in baselines.to_dict("records"):
        metric, value = str(row["metric"]), numbers.level(str(row["metric"]), row["value"])
        interval = numbers.level_interval(metric, row["cluster_low"], row["cluster_high"])
        table.add_row(Text(row["condition"]), value, numbers.DASH, Text(interval), numbers.DASH)
    shown = effect_rows(estimates)
    for words, drawn in zip(shown.to_dict("records"), estimates["num_seeds"] > 0, strict=True):
        table.add_row(
            Text(words["condition"]),
            words["value"],
            words["effect"],
            Text(_intervals(words, bool(drawn))),
            words["p"],
        )
    return table


def _empty_table(panel: tuple[str, str, str, str], confidence: float) -> Table:
    model, revision, task, metric = panel
    table = Table(
        box=box.SIMPLE_HEAD,
        # Text, not str: rich reads brackets in a plain string as markup.
        title=Text(f"\n{task}: {numbers.metric_name(metric)}, {model} @ {revision}", style="bold"),
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("condition", overflow="fold", min_width=12)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("effect", justify="right", no_wrap=True)
    table.add_column(f"{100 * confidence:g} % interval", no_wrap=True)
    table.add_column("p against random", no_wrap=True)
    return table


def _intervals(words: Mapping[Any, str], drawn: bool) -> str:
    """The interval over items, and over seeds where the condition has any."""
    over_items = f"{words['cluster interval']} items"
    return f"{over_items}\n{words['seed interval']} seeds" if drawn else over_items


def _sizes(row: pd.Series) -> str:
    items, clusters = numbers.count(row["num_items"]), numbers.count(row["num_clusters"])
    return f"{items} items in {clusters} clusters"
