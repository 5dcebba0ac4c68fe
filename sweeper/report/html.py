"""The report as one HTML page that needs nothing from outside."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sweeper.report import facts, numbers, words
from sweeper.report.all_tables import layer_effect_rows
from sweeper.report.data import (
    ALL_ITEMS,
    CHECKPOINT,
    ESTIMATE_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    unswept,
)
from sweeper.report.dynamics_tables import dynamics_tables
from sweeper.report.examples import example_groups, script
from sweeper.report.figure import Figure
from sweeper.report.firing_tables import SUMMARY, firing_tables
from sweeper.report.routing_data import without_quorum
from sweeper.report.routing_tables import routing_tables
from sweeper.report.step_tables import step_tables
from sweeper.report.study_tables import (
    balance_tables,
    contrast_tables,
    match_tables,
    neuron_tables,
    verdicts,
)
from sweeper.report.tables import baseline_rows, effect_rows
from sweeper.report.text_table import NBSP, TEXT_COLUMNS, TextTable

MAX_FAILURES = 100
"""Most failed cells listed on the page."""
EFFECT = "effect with cluster interval"
HEADLINE = [
    *("condition", "baseline", "value", EFFECT, "bootstrap interval", "two-way interval"),
    *("p Holm", "p", "items", "clusters", "seeds"),
]
LAYERED = [
    *("condition", "baseline", "value", EFFECT, "simultaneous band", "p Holm"),
    *("items", "clusters", "seeds"),
]
TWO_LINES = {"p", "value", EFFECT}
CONTRASTED = [*CHECKPOINT, "contrast", "metric", "target", "control"]
MATCHED = [*CHECKPOINT, "condition", "matched to"]
"""Columns by which a table is cut on the page; their values are the captions."""
MAX_OPEN = 40
"""Longest table that is not folded away."""


@dataclass(frozen=True, kw_only=True)
class HtmlTable:
    """A table of text with a caption."""

    caption: str
    columns: list[str]
    rows: list[list[str]]

    def style(self, index: int) -> str:
        """Class of a column: text reads from the left, and some numbers come in two lines."""
        column = self.columns[index]
        return "text" if column in TEXT_COLUMNS else "lines" if column in TWO_LINES else "number"

    @property
    def is_long(self) -> bool:
        """Whether the page folds it away."""
        return len(self.rows) > MAX_OPEN


@dataclass(frozen=True, kw_only=True)
class HtmlFigure:
    """A figure with its picture as inline SVG."""

    title: str
    caption: str
    svg: Markup


def render(data: ReportData, figures: Sequence[tuple[Figure, str]]) -> str:
    """The page.

    Args:
        data: what is reported.
        figures: figures with their SVG text.
    """
    # Names from datasets, errors and jobs come from strangers: everything is escaped.
    environment = Environment(
        loader=PackageLoader("sweeper.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context = _run(data) | _results(data) | _study(data) | _cells(data)
    shown = [_inline(figure, svg) for figure, svg in figures]
    return environment.get_template("template.html").render(**context, figures=shown)


def _inline(figure: Figure, svg: str) -> HtmlFigure:
    # Vega numbers its clip paths from zero in every picture; on one page they would collide.
    text = re.sub(r'(\bid="|url\(#)', rf"\g<1>{figure.name}-", svg)
    return HtmlFigure(title=figure.title, caption=figure.caption, svg=Markup(text))


def _run(data: ReportData) -> dict[str, Any]:
    specs = data.job.get("model", {})
    origins = [
        (name, data.origins[name], words.used_fallback(specs.get(name, {}), data.origins[name]))
        for name in data.origins
    ]
    return {
        "name": data.job.get("name", "run"),
        "written_at": f"{data.written_at:%Y-%m-%d %H:%M} UTC",
        "models": words.models(data.job),
        "conditions": words.conditions(data.job),
        "tasks": words.tasks(data.job),
        "census": words.census(data.job),
        "profiles": words.profiles(data.job),
        "firing_text": words.firing(data.job),
        "routing_text": words.routing(data.job),
        "origins": origins,
        "job": yaml.safe_dump(dict(data.job), sort_keys=False, allow_unicode=True),
        "percent": data.percent,
        "is_imported": data.job.get("kind") == "import",
    }


def _results(data: ReportData) -> dict[str, Any]:
    estimates = unswept(complete(data.estimates, ESTIMATE_COLUMNS))
    baselines = baseline_rows(data.levels)
    effects = _in_lines(effect_rows(estimates))
    whole = pd.concat([_baseline_text(baselines), effects[effects["group"] == ALL_ITEMS]])
    grouped = effects[effects["group"] != ALL_ITEMS].sort_values("group", kind="stable")
    layers = _in_lines(layer_effect_rows(data))
    return {
        "headline": _tables_by_panel(whole, HEADLINE),
        "groups": _tables_by_panel(grouped, ["group", *HEADLINE]),
        "layers": _tables_by_panel(layers[layers["group"] == ALL_ITEMS], LAYERED),
    }


def _in_lines(effects: pd.DataFrame) -> pd.DataFrame:
    """Put an effect above its interval, and a p-value above its floor."""
    pairs = effects[["effect", "cluster interval"]].itertuples(index=False)
    both = [f"{_unbroken(effect)}\n{_unbroken(interval)}" for effect, interval in pairs]
    p = [_unbroken(text).replace(f"{NBSP}(", "\n(") for text in effects["p"]]
    return effects.assign(**{EFFECT: both, "p": p})


def _study(data: ReportData) -> dict[str, Any]:
    """Contrasts, matched controls, single neurons and single examples."""
    groups = example_groups(data)
    text, digest = script() if groups else ("", "")
    return {
        "verdicts": verdicts(data),
        "contrasts": _split(contrast_tables(data), CONTRASTED),
        "dynamics": _by_model([*step_tables(data), *dynamics_tables(data)]),
        "controls": _split([*match_tables(data), *balance_tables(data)], MATCHED),
        "neurons": _split(neuron_tables(data), CHECKPOINT),
        "firing": _firing(data),
        "routing": _routing(data),
        "examples": groups,
        "script": Markup(text),
        "script_hash": digest,
    }


def _firing(data: ReportData) -> list[tuple[list[HtmlTable], str]]:
    """A table of all checkpoints, and those of each."""
    return [
        part
        for table in firing_tables(data)
        for part in ([_together(table)] if table.name == SUMMARY else _split([table], CHECKPOINT))
    ]


def _together(table: TextTable) -> tuple[list[HtmlTable], str]:
    """A table that is not cut."""
    columns, rows = list(table.frame.columns), table.frame.to_numpy().tolist()
    return [HtmlTable(caption=table.title, columns=columns, rows=rows)], table.note


def _routing(data: ReportData) -> list[tuple[list[HtmlTable], str]]:
    """Which checkpoints have no quorum, and the tables of all."""
    sentences: list[tuple[list[HtmlTable], str]] = [([], text) for text in without_quorum(data)]
    return sentences + _split(routing_tables(data), CHECKPOINT)


def _split(tables: Sequence[TextTable], by: Sequence[str]) -> list[tuple[list[HtmlTable], str]]:
    """Tables for the page, each with its note and cut into one for each value of some columns."""
    return [
        (
            [
                HtmlTable(
                    caption=_caption(table.title, *map(str, names)),
                    columns=[column for column in table.frame.columns if column not in by],
                    rows=rows.drop(columns=list(by)).to_numpy().tolist(),
                )
                for names, rows in table.frame.groupby(list(by), sort=False)
            ],
            table.note,
        )
        for table in tables
    ]


def _by_model(tables: Sequence[TextTable]) -> list[tuple[list[HtmlTable], str]]:
    """Tables for the page, each with its note and cut into one for each model."""
    return [
        (
            [
                HtmlTable(
                    caption=f"{table.title} — {model}",
                    columns=[column for column in table.frame.columns if column != "model"],
                    rows=rows.drop(columns="model").to_numpy().tolist(),
                )
                for model, rows in table.frame.groupby("model", sort=False)
            ],
            table.note,
        )
        for table in tables
    ]


def _caption(title: str, model: str, revision: str, *names: str) -> str:
    return " — ".join(
        [f"{title}: {', '.join(names)}" if names else title, checkpoint_name(model, revision)]
    )


def _baseline_text(baselines: pd.DataFrame) -> pd.DataFrame:
    """Baselines over all items as rows beside those of the effects."""
    blank = dict.fromkeys(HEADLINE, numbers.DASH)
    rows = [
        blank
        | {name: str(row[name]) for name in (*CHECKPOINT, "task", "group", "condition")}
        | {
            "metric": numbers.metric_name(row["metric"]),
            "value": _value_with_interval(row),
            "items": numbers.count(row["num_items"]),
            "clusters": numbers.count(row["num_clusters"]),
        }
        for row in baselines[baselines["group"] == ALL_ITEMS].to_dict("records")
    ]
    return pd.DataFrame(rows)


def _value_with_interval(row: dict[Any, Any]) -> str:
    value = numbers.level(row["metric"], row["value"])
    interval = numbers.level_interval(row["metric"], row["cluster_low"], row["cluster_high"])
    return value if interval == numbers.DASH else f"{value}\n{_unbroken(interval)}"


def _unbroken(text: str) -> str:
    return text.replace(" ", NBSP)


def _tables_by_panel(rows: pd.DataFrame, columns: list[str]) -> list[HtmlTable]:
    return [
        HtmlTable(
            caption=f"{task}: {metric} — {checkpoint_name(str(model), str(revision))}",
            columns=columns,
            rows=of_panel[columns].to_numpy().tolist(),
        )
        for (model, revision, task, metric), of_panel in rows.groupby(
            [*CHECKPOINT, "task", "metric"], sort=False
        )
    ]


def _cells(data: ReportData) -> dict[str, Any]:
    named = facts.named_cells(data)
    failed = facts.failures(named)
    return {
        "progress": facts.progress(named),
        "noise": _whole(facts.noise(named), "Noise floor"),
        "changes": _whole(facts.changes(named), "Values changed by each clamp, sums over seeds"),
        "failures": _whole(failed.head(MAX_FAILURES), "Failed cells"),
        "num_failures": len(failed),
        "versions": facts.versions(named),
        "computing": facts.computing(named),
    }


def _whole(frame: pd.DataFrame, caption: str) -> HtmlTable | None:
    if frame.empty:
        return None
    rows = [[str(value) for value in row] for row in frame.itertuples(index=False)]
    return HtmlTable(caption=caption, columns=list(frame.columns), rows=rows)
