"""Tables beyond those of effects: contrasts, matched controls, single neurons, single pairs."""

import pandas as pd

from sweeper.report import numbers
from sweeper.report.collect_examples import EXAMPLE_COLUMNS
from sweeper.report.data import CHECKPOINT, CONTRAST_COLUMNS, ReportData, checkpoint_name, complete
from sweeper.report.figure_dissociation import part_name
from sweeper.report.figure_share import clamped_shares
from sweeper.report.figure_tokens import readable
from sweeper.report.neurons import (
    MIN_COUNT,
    NEURON,
    NUM_TOKENS,
    SIGNS,
    SIMILAR,
    TOKEN_COLUMNS,
    separated_tokens,
    sign_shares,
)
from sweeper.report.text_table import Row, TextTable, text_table

DISSOCIATED = ("target_minus_control_on_grammar", "target_minus_control_on_other")
NATS = "nats per token"
DIGITS = 4
"""Behind the point of increases and of distances."""


def _names(row: Row, *columns: str) -> dict[str, str]:
    return {name: str(row[name]) for name in (*CHECKPOINT, *columns)}


def contrast_tables(data: ReportData) -> list[TextTable]:
    """Every part of every contrast with interval and p-values."""
    note = (
        f"Intervals hold {data.percent}. p is two-sided; p directed is of the two one-sided tests "
        "that make a dissociation double (the target does more harm on grammar, the control on the "
        "other tasks), and p Holm the same after Holm; of a difference p Holm is p after Holm over "
        "tasks. p random compares the target with its random controls, not with another control, "
        "and cannot be below its floor."
    )
    contrasts = complete(data.contrasts, CONTRAST_COLUMNS)
    return text_table("contrasts", "Contrasts", contrasts, _contrast_row, note)


def _contrast_row(row: Row) -> dict[str, str]:
    metric = str(row["metric"])
    has_controls = not numbers.is_missing(row["p_random"])
    return _names(row, "contrast", "metric") | {
        "metric": numbers.metric_name(metric),
        "part": part_name(str(row["part"])),
        "tasks": str(row["tasks"]),
        "target": str(row["target"]),
        "control": str(row["control"]),
        "estimate": numbers.effect(metric, row["estimate"]),
        "interval": numbers.effect_interval(metric, row["low"], row["high"]),
        "bootstrap interval": numbers.effect_interval(
            metric, row["bootstrap_low"], row["bootstrap_high"]
        ),
        "p": numbers.probability(row["p"]),
        "p directed": numbers.probability(row["p_directed"]),
        "p Holm": numbers.probability(row["p_holm"]),
        "p random": numbers.p_value(row["p_random"], row["p_floor"] if has_controls else None),
        "items": numbers.count(row["num_items"]),
        "clusters": numbers.count(row["num_clusters"]),
    }


def verdicts(data: ReportData) -> list[str]:
    """One sentence for each dissociation: whether it is double, and by which p-values."""
    rows = complete(data.contrasts, CONTRAST_COLUMNS)
    level = 1 - data.confidence
    found = []
    for (model, revision, name, target, control), parts in rows[
        rows["kind"] == "dissociation"
    ].groupby([*CHECKPOINT, "contrast", "target", "control"], sort=False):
        adjusted = parts[parts["part"].isin(DISSOCIATED)].set_index("part")["p_holm"].astype(float)
        values = [float(adjusted.get(part, float("nan"))) for part in DISSOCIATED]
        shown = " and ".join(numbers.probability(value) for value in values)
        # NaN compares as false: too little data is no dissociation.
        holds = all(value <= level for value in values)
        verdict = "a double dissociation" if holds else "no double dissociation"
        found.append(
            f"{name}, {checkpoint_name(str(model), str(revision))}: {verdict} at {level:.2g} "
            f"({target} worse on grammar, {control} worse on the other tasks: p after Holm {shown})"
        )
    return found


MATCH_COLUMNS = [
    *(*CHECKPOINT, "condition", "matched_to", "statistic", "fraction", "num_neurons"),
    *("num_windows", "target_increase", "target_low", "target_high", "increase", "low", "high"),
    *("difference", "difference_low", "difference_high", "tolerance", "chosen", "reached"),
    "outcome",
]


def match_tables(data: ReportData) -> list[TextTable]:
    """Achieved match of every control matched by perplexity, and the search that led there."""
    matches = complete(data.matches, MATCH_COLUMNS)
    chosen = matches[matches["chosen"].astype(bool)]
    note = (
        "A matched control is the smallest bottom set by the statistic whose clamp raises mean NLL "
        f"as much as its target does. Increases and their difference in {NATS}, each with the 95 % "
        "t interval over windows of the text of the match. Where none is matched the nearest share "
        "is given."
    )
    return [
        *text_table("matches", "Controls matched by perplexity", chosen, _match_row, note),
        *text_table(
            "match_search",
            "Shares tried for controls matched by perplexity",
            matches.sort_values([*CHECKPOINT, "condition", "fraction"]),
            _trial_row,
            f"Increases in {NATS} with the 95 % t interval over windows.",
        ),
    ]


def _with_interval(row: Row, value: str, low: str, high: str) -> str:
    shown = numbers.fixed(row[value], DIGITS, signed=True)
    ends = [numbers.fixed(row[end], DIGITS) for end in (low, high)]
    return shown if numbers.DASH in ends else f"{shown} [{ends[0]}, {ends[1]}]"


def _match_row(row: Row) -> dict[str, str]:
    reached = bool(row["reached"])
    return _names(row, "condition") | {
        "matched to": str(row["matched_to"]),
        "matched": "yes" if reached else f"no: {row['outcome']}",
        "statistic": str(row["statistic"]),
        "share": numbers.share(row["fraction"]),
        "neurons": numbers.count(row["num_neurons"]),
        "target increase": _with_interval(row, "target_increase", "target_low", "target_high"),
        "achieved increase": _with_interval(row, "increase", "low", "high"),
        "difference": _with_interval(row, "difference", "difference_low", "difference_high"),
        "tolerance": numbers.share(row["tolerance"]),
        "windows": numbers.count(row["num_windows"]),
    }


def _trial_row(row: Row) -> dict[str, str]:
    return _names(row, "condition") | {
        "matched to": str(row["matched_to"]),
        "share": numbers.share(row["fraction"]),
        "neurons": numbers.count(row["num_neurons"]),
        "increase": _with_interval(row, "increase", "low", "high"),
        "difference": _with_interval(row, "difference", "difference_low", "difference_high"),
        "nearest": numbers.yes_or_no(row["chosen"]),
    }


BALANCE_COLUMNS = [
    *(*CHECKPOINT, "condition", "matched_to", "statistic", "num_pairs", "before", "after"),
    *("difference", "difference_low", "difference_high"),
]


def balance_tables(data: ReportData) -> list[TextTable]:
    """How like their targets the sets matched by moments are."""
    note = (
        "In standard deviations of the layer. Distance before: of a target's neuron from a random "
        "one of its layer; after: from the one that it is paired with. Difference: mean of control "
        "minus target, with its 95 % t interval over layers."
    )
    balance = complete(data.balance, BALANCE_COLUMNS)
    return text_table("balance", "Controls matched by moments", balance, _balance_row, note)


def _balance_row(row: Row) -> dict[str, str]:
    return _names(row, "condition") | {
        "matched to": str(row["matched_to"]),
        "statistic": str(row["statistic"]),
        "pairs": numbers.count(row["num_pairs"]),
        "distance before": numbers.fixed(row["before"], DIGITS),
        "distance after": numbers.fixed(row["after"], DIGITS),
        "difference": _with_interval(row, "difference", "difference_low", "difference_high"),
    }


def share_tables(data: ReportData) -> list[TextTable]:
    """Perplexity of every condition beside the share of neurons that it clamps."""
    note = f"Perplexity with its cluster-robust {data.percent} interval; sets in % of all neurons."
    rows = clamped_shares(data)
    title = "Perplexity by share of clamped neurons"
    return text_table("perplexity_by_share", title, rows, _share_row, note)


def _share_row(row: Row) -> dict[str, str]:
    ends = [numbers.level("", row[end]) for end in ("low", "high")]
    interval = numbers.DASH if numbers.DASH in ends else f"[{ends[0]}, {ends[1]}]"
    return _names(row, "task", "condition", "set", "operation") | {
        "share": numbers.share(row["share"]),
        "baseline": numbers.level("", row["baseline"]),
        "perplexity": numbers.level("", row["value"]),
        "interval": interval,
    }


def neuron_tables(data: ReportData) -> list[TextTable]:
    """Signs of similar inputs, and the tokens at both ends, of every profiled neuron."""
    return [
        *text_table(
            "sign_shares",
            "Signs of a neuron's pre-activations on similar inputs",
            _with_wd(sign_shares(data.neuron_pairs), data),
            _sign_row,
            f"{SIMILAR} 0 counts as positive. Distance of outputs: their median, in units of the "
            "median of random pairs.",
        ),
        *text_table(
            "separated_tokens",
            "Tokens that neurons separate",
            _with_wd(_token_ends(data), data),
            _ends_row,
            f"Tokens with the {NUM_TOKENS} lowest and the {NUM_TOKENS} highest mean "
            f"pre-activations (in brackets) among those that occur {MIN_COUNT} times or more. A "
            "dot stands for a space.",
        ),
    ]


def _with_wd(rows: pd.DataFrame, data: ReportData) -> pd.DataFrame:
    census = complete(data.neurons, [*NEURON, "wd"])[[*NEURON, "wd"]].drop_duplicates(NEURON)
    if rows.empty or census.empty:
        return rows.assign(wd=float("nan"))
    return rows.merge(census, on=NEURON, how="left")


def _neuron(row: Row) -> dict[str, str]:
    named = {name: numbers.count(row[name]) for name in ("layer", "neuron")}
    return _names(row) | named | {"WD": numbers.fixed(row["wd"], 3)}


def _sign_row(row: Row) -> dict[str, str]:
    return _neuron(row) | {
        "similar pairs": numbers.count(row["num_similar"]),
        **{sign: numbers.share(row[sign]) for sign in SIGNS},
        "distance of outputs": numbers.fixed(row["apart"], 2),
    }


def _token_ends(data: ReportData) -> pd.DataFrame:
    """One row per neuron with the frames of its two ends."""
    rows = separated_tokens(complete(data.neuron_tokens, TOKEN_COLUMNS))
    found = [
        dict(zip(NEURON, names, strict=True))
        | {end: _listed(group[group["end"] == end]) for end in ("lowest", "highest")}
        for names, group in rows.groupby(NEURON, sort=False)
    ]
    return pd.DataFrame(found, columns=[*NEURON, "lowest", "highest"])


def _listed(tokens: pd.DataFrame) -> str:
    pairs = tokens[["text", "mean"]].itertuples(index=False)
    return ", ".join(f"{readable(str(text))} ({numbers.fixed(mean, 2)})" for text, mean in pairs)


def _ends_row(row: Row) -> dict[str, str]:
    return _neuron(row) | {end: str(row[end]) for end in ("lowest", "highest")}


def example_tables(data: ReportData) -> list[TextTable]:
    """Single pairs most changed by a clamp."""
    note = (
        "Margin: log-probability of the acceptable sentence minus that of the other one, in nats "
        "(per token where the task compares means)."
    )
    examples = complete(data.examples, EXAMPLE_COLUMNS)
    return text_table("examples", "Pairs most changed by a clamp", examples, _example_row, note)


def _example_row(row: Row) -> dict[str, str]:
    def sentence(name: str) -> str:
        return numbers.DASH if numbers.is_missing(row[name]) else str(row[name])

    return _names(row, "task", "condition", "group") | {
        "pair": str(row["item_id"]),
        "sentence": sentence("text"),
        "other sentence": sentence("text_bad"),
        "margin before": numbers.fixed(row["baseline_margin"], 2, signed=True),
        "margin": numbers.fixed(row["margin"], 2, signed=True),
        "change": numbers.fixed(row["change"], 2, signed=True),
    }
