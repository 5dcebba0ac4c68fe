"""Tables of a routing analysis: layers, neurons, levels, patterns, removal, predictions."""

from typing import Any

import pandas as pd

from sweeper.report import numbers
from sweeper.report.data import CHECKPOINT, ReportData
from sweeper.report.figure_routing_gradient import QUANTITIES, WAYS
from sweeper.report.figure_routing_removal import EVERY
from sweeper.report.figure_tokens import readable
from sweeper.report.routing_data import (
    INTERVENTIONS,
    SWITCHED,
    percent_change,
    routing_rows,
    split_p,
)
from sweeper.report.text_table import Row, TextTable, text_table

RESAMPLED = (
    "Token interval: 95 % percentiles of resampled tokens, as if they were independent; document "
    "interval: of resampled documents, which are the windows of the text. Roles, means and "
    "intervals come from the same tokens: intervals leave out that the neurons were selected there."
)
PREDICTED = {
    "quarter by firing": ("firing", "binary", "accuracy", "value"),
    "quarter by values": ("firing", "continuous", "accuracy", "value"),
    "quarter by tree": ("tree", "binary", "accuracy", "value"),
    "quarter, commonest": ("firing", "binary", "accuracy", "reference"),
    "fifth by tree": ("tree", "quintiles", "accuracy", "value"),
    "fifth, commonest": ("tree", "quintiles", "accuracy", "reference"),
    "R² of norm by firing": ("firing", "binary", "r2", "value"),
    "R² of norm by values": ("firing", "continuous", "r2", "value"),
}
"""Column -> analysis, setting and metric, and which of their numbers."""
BY_NUMBER = {
    "polynomial": (
        "routing_polynomials",
        "Delta by polynomials of the input",
        "degree {}",
        "Held-out R² of delta, what an affine map leaves of the output, from powers of the input's "
        "principal components up to a degree, at the tenth of the tokens with the largest |delta|. "
        "Powers of each of at most 50 components alone: without products of different components, "
        "of which there would be a quarter of a billion at degree 7: what depends on several "
        "together stays unexplained. Below 0: worse than their mean.",
    ),
    "branches": (
        "routing_branches",
        "Delta by a cubic for each cluster of tokens",
        "k = {}",
        "Held-out R² of delta at the tenth of the tokens with the largest |delta|, cut into k "
        "clusters of k-means by their inputs, each with a cubic of its own. Below 0: worse than "
        "their mean.",
    ),
    "branches_spectral": (
        "routing_branches_spectral",
        "Delta by a cubic for each spectral cluster of tokens",
        "k = {}",
        "As by k-means, with spectral clusters of at most 2,000 tokens; other tokens and those "
        "held out are of the cluster of the nearest of these. Below 0: worse than their mean.",
    ),
}
"""Analysis -> name, title, column and note of its table."""


def routing_tables(data: ReportData) -> list[TextTable]:
    """Every table of the routing analysis that the data can fill, in reading order."""
    return [
        *_layers(data),
        *_neurons(data),
        *_levels(data),
        *_patterns(data),
        *_removal(data),
        *_predictions(data),
        *_by_number(data, "polynomial"),
        *_by_number(data, "branches"),
        *_by_number(data, "branches_spectral"),
        *_thresholds(data),
    ]


def _names(row: Row) -> dict[str, str]:
    named = {name: str(row[name]) for name in CHECKPOINT}
    return named | {"layer": numbers.index(row["layer"])}


def _percent(value: object, digits: int = 1) -> str:
    return numbers.DASH if numbers.is_missing(value) else numbers.fixed(100 * value, digits)  # type: ignore[operator]


def _percents(row: Row, name: str, way: str) -> str:
    low, high = (row[f"{name}_{way}_{end}"] for end in ("low", "high"))
    if numbers.is_missing(low) or numbers.is_missing(high):
        return numbers.DASH
    return numbers.between(100 * low, 100 * high, 1)


def _layers(data: ReportData) -> list[TextTable]:
    note = (
        "Scaffold: a gateway and no quorum; decision: a quorum, an exception handler and consensus "
        "neurons; diffuse: neither. Range: of the exception rate over consensus levels with at "
        "least 50 tokens, in percentage points; not known with fewer than two such levels. "
        f"{RESAMPLED} Monotonic: over all levels with tokens. Exclusivity: 1 - both / either, mean "
        "of the handler with each consensus neuron. Splits: how many random splits into as many "
        "neurons as the consensus has, and one, reach that range; p = (those + 1) / (splits + 1). "
        "Linear share: what the best affine map explains of the output."
    )
    rows = routing_rows(data, "routing_layers")
    return text_table("routing_layers", "Routing by layer", rows, _layer_row, note)


def _layer_row(row: Row) -> dict[str, str]:
    splits = row["num_splits"]
    p = split_p(row["splits_reaching"], splits)
    known = not numbers.is_missing(p)
    reaching = f"{numbers.count(row['splits_reaching'])} of {numbers.count(splits)}"
    return _names(row) | {
        "phase": str(row["phase"]),
        "handler": numbers.index(row["handler"]),
        "handler rate": numbers.share(row["handler_rate"]),
        "consensus": numbers.count(row["num_consensus"]),
        "gateway": numbers.index(row["gateway"]),
        "exclusivity": numbers.share(row["exclusivity"]),
        "range": _percent(row["range"]),
        "token interval": _percents(row, "range", "token"),
        "document interval": _percents(row, "range", "document"),
        "monotonic": numbers.yes_or_no(row["monotonic"]),
        "splits": reaching if known else numbers.DASH,
        "best split": _percent(row["best_split"]),
        "p splits": numbers.p_value(p, 1 / (1 + float(splits)) if known else None),
        "linear share": numbers.share(row["linear_share"]),
        "tokens": numbers.count(row["num_tokens"]),
        "documents": numbers.count(row["num_documents"]),
    }


def _neurons(data: ReportData) -> list[TextTable]:
    note = (
        "Share of tokens at which a neuron fires: of all, and of those in three regimes of "
        "|delta| (linear: lowest quarter; barely nonlinear: 50 to 70 %; highly: highest 5 %). "
        "Exclusivity: of a consensus neuron with the handler."
    )
    rows = routing_rows(data, "routing_neurons")
    return text_table("routing_neurons", "Neurons with a role in routing", rows, _neuron_row, note)


def _neuron_row(row: Row) -> dict[str, str]:
    return _names(row) | {
        "role": str(row["role"]),
        "neuron": numbers.index(row["neuron"]),
        "rate": numbers.share(row["rate"]),
        "rate, linear": numbers.share(row["rate_linear"]),
        "rate, barely": numbers.share(row["rate_barely"]),
        "rate, highly": numbers.share(row["rate_highly"]),
        "exclusivity": numbers.share(row["exclusivity"]),
    }


def _levels(data: ReportData) -> list[TextTable]:
    note = (
        "Level: how many consensus neurons fire at a token. Exception rate in %: share of the "
        f"level's tokens at which the handler fires. {RESAMPLED}"
    )
    rows = routing_rows(data, "routing_levels")
    return text_table("routing_levels", "Consensus gradient", rows, _level_row, note)


def _level_row(row: Row) -> dict[str, str]:
    shown = _names(row) | {
        "level": numbers.index(row["level"]),
        "tokens": numbers.count(row["tokens"]),
        "share": numbers.share(row["share"]),
    }
    for column, name in QUANTITIES.items():
        is_rate = column == "exception_rate"
        shown[name] = _percent(row[column]) if is_rate else numbers.fixed(row[column], 2)
        for way in WAYS:
            low, high = (row[f"{column}_{way}_{end}"] for end in ("low", "high"))
            interval = _percents(row, column, way) if is_rate else numbers.between(low, high, 2)
            shown[f"{name}, {way} interval"] = interval
    return shown


def _patterns(data: ReportData) -> list[TextTable]:
    note = (
        "Which of a layer's eight candidates of a gateway fire, for the patterns most enriched at "
        "barely nonlinear tokens. Enrichment: their share there over their share among linear "
        "tokens. A dot stands for a space."
    )
    rows = routing_rows(data, "routing_patterns")
    return text_table("routing_patterns", "Enriched patterns of firing", rows, _pattern_row, note)


def _pattern_row(row: Row) -> dict[str, str]:
    pattern = int(row["pattern"])
    firing = [str(neuron) for bit, neuron in enumerate(row["neurons"]) if pattern >> bit & 1]
    return _names(row) | {
        "rank": numbers.index(row["rank"]),
        "firing neurons": ", ".join(firing) or "none",
        "count": numbers.count(row["count"]),
        "enrichment": numbers.level("", row["enrichment"]),
        "most frequent tokens": ", ".join(readable(str(token)) for token in row["tokens"]),
    }


def _removal(data: ReportData) -> list[TextTable]:
    note = (
        f"At the tokens that follow those of a level. {SWITCHED} Change of perplexity: exp(change "
        "of the mean loss) - 1, with its 95 % cluster-robust t interval over documents. KL: of the "
        "model's distribution from the changed one's, in nats. Probability ratio: mean probability "
        "of the correct token, changed over unchanged. Rank change: mean change of its rank."
    )
    rows = routing_rows(data, "removal")
    title = "What a layer with a quorum does for the next token"
    return text_table("routing_removal", title, rows, _removal_row, note)


def _removal_row(row: Row) -> dict[str, str]:
    low, high = (percent_change(row[end]) for end in ("low", "high"))
    return _names(row) | {
        "intervention": INTERVENTIONS.get(str(row["intervention"]), str(row["intervention"])),
        "level": EVERY if numbers.is_missing(row["level"]) else numbers.index(row["level"]),
        "tokens": numbers.count(row["tokens"]),
        "documents": numbers.count(row["num_documents"]),
        "perplexity": numbers.level("nll", row["nll"]),
        "change (%)": numbers.fixed(percent_change(row["change"]), 2, signed=True),
        "interval (%)": numbers.between(low, high, 2),
        "KL": numbers.fixed(row["kl"], 4),
        "probability ratio": numbers.fixed(row["probability_ratio"], 3),
        "rank change": numbers.fixed(row["rank_change"], 1, signed=True),
    }


def _predictions(data: ReportData) -> list[TextTable]:
    note = (
        "Held out, from the routing neurons: consensus neurons and handler, without a quorum the "
        "candidates of a gateway. Quarter: accuracy of finding the tokens with the largest "
        "|delta|, by logistic regression on firing or on values, and by a tree of depth 3 on "
        "firing; fifth: of telling the fifths of |delta|, by a tree of depth 5; commonest: of "
        "always saying the commonest class. R² of |MLP output|: by ridge regression."
    )
    rows = routing_rows(data, "routing_predictions")
    rows = rows[rows["analysis"].isin(["firing", "tree"])]
    wide = _one_row_each(rows)
    title = "Nonlinearity predicted by firing and by values"
    return text_table("routing_predictions", title, wide, _prediction_row, note)


def _one_row_each(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per layer; ``found``: analysis, setting, metric and which number -> number."""
    keys = [*CHECKPOINT, "layer"]
    each = ["analysis", "setting", "metric"]
    wide = []
    for names, part in rows.groupby(keys, sort=False):
        found = {
            (*(str(row[name]) for name in each), number): row[number]
            for row in part.to_dict("records")
            for number in ("value", "reference")
        }
        row = dict(zip(keys, names, strict=True))
        wide.append(row | {"found": found, "num_tokens": part["num_tokens"].max()})
    return pd.DataFrame(wide)


def _prediction_row(row: Row) -> dict[str, str]:
    shown = _names(row)
    for column, key in PREDICTED.items():
        value = row["found"].get(key)
        shown[column] = (
            numbers.level("accuracy", value) if "accuracy" in key else numbers.fixed(value, 3)
        )
    return shown | {"tokens": numbers.count(row["num_tokens"])}


def _by_number(data: ReportData, analysis: str) -> list[TextTable]:
    """Held-out R² by layer, a column for each setting of an analysis that is a number."""
    name, title, column, note = BY_NUMBER[analysis]
    rows = routing_rows(data, "routing_predictions")
    rows = rows[rows["analysis"] == analysis]
    settings = sorted(set(rows["setting"]), key=int)

    def row(values: Row) -> dict[str, str]:
        each = [(analysis, setting, "r2", "value") for setting in settings]
        found = [values["found"].get(key) for key in each]
        shown = [_r2(value) for value in found]
        titled = [column.format(setting) for setting in settings]
        last = {"tokens": numbers.count(values["num_tokens"])}
        return _names(values) | dict(zip(titled, shown, strict=True)) | last

    return text_table(name, title, _one_row_each(rows), row, note)


def _r2(value: Any) -> str:
    """R² has no lower bound; far below 0 only its size matters."""
    far = not numbers.is_missing(value) and value < -10
    return numbers.level("", value) if far else numbers.fixed(value, 3)


def _thresholds(data: ReportData) -> list[TextTable]:
    note = (
        "Roles sought again where a neuron counts as firing above another threshold. Overlap: "
        "share of the consensus neurons under the job's own threshold that are found again. "
        "Range in percentage points."
    )
    rows = routing_rows(data, "routing_thresholds")
    title = "Routing under other thresholds"
    return text_table("routing_thresholds", title, rows, _threshold_row, note)


def _threshold_row(row: Row) -> dict[str, str]:
    return _names(row) | {
        "threshold": f"{row['threshold']:g}",
        "phase": str(row["phase"]),
        "handler": numbers.index(row["handler"]),
        "consensus": numbers.count(row["num_consensus"]),
        "gateway": numbers.index(row["gateway"]),
        "range": _percent(row["range"]),
        "overlap": numbers.share(row["overlap"]),
    }
