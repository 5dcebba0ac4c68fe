"""Tables of when neurons fire: dead ones, detectors and what they suppress, positional ones."""

import numpy as np
import pandas as pd

from sweeper.aggregate.firing import chance_information
from sweeper.records import ALL_CORPORA
from sweeper.report import numbers
from sweeper.report.data import CHECKPOINT, ReportData, of_checkpoints
from sweeper.report.figure_firing import corpora_by_layer
from sweeper.report.figure_ngrams import least_note, suppressing
from sweeper.report.figure_positional import KINDS, LEAST_INFORMATION, kinds_of
from sweeper.report.figure_tokens import readable
from sweeper.report.firing_data import N_NAMES, NEURON, FiringData
from sweeper.report.text_table import Row, TextTable, text_table

MAX_LISTED = 5
"""Most n-grams of a detector that are written out."""
SUMMARY = "firing_kinds"
"""Name of the table with a row for each checkpoint."""
WAYS = ("promoted", "suppressed")
ALIVE = (
    "Dead: never active over the text. Active at: mean over the other neurons of the share of "
    "tokens at which they are active."
)


def firing_tables(data: ReportData) -> list[TextTable]:
    """Those that the page shows."""
    return [
        *_kinds(data),
        *_corpora(data.firing),
        *_detectors(data),
        *_listed(data.firing),
        *_positional(data.firing),
    ]


def firing_layer_tables(data: ReportData) -> list[TextTable]:
    """Those that stand in files only: all numbers of the figures over layers."""
    by_layer = corpora_by_layer(data.firing.by_layer)
    return [
        *text_table(
            "firing_by_layer", "Dead neurons by layer and corpus", by_layer, _layer_row, ALIVE
        ),
        *text_table(
            "ngrams_by_layer",
            "How many n-grams explain a neuron",
            _wide(data.firing.explained),
            _explained_row,
            "Alive neurons by how many n-grams make up 95 % of their activations.",
        ),
    ]


def _names(row: Row) -> dict[str, str]:
    return {name: str(row[name]) for name in CHECKPOINT}


def _kinds(data: ReportData) -> list[TextTable]:
    """How many neurons of each kind every checkpoint has."""
    note = (
        "Over all corpora and layers. A dead neuron is never active. A detector is active for few "
        f"n-grams only, and nearly always for those.{least_note(data.job)} It suppresses its "
        "trigger where its output weights, in gated MLPs with the mean factor of the activations, "
        "lower the logits of the tokens that it detects. A positional neuron shares more than "
        f"{LEAST_INFORMATION} nats beyond chance with the position in the window; by chance: what "
        "as many windows give a neuron whose activity has nothing to do with it, about "
        "1 / (2 windows). Fewer than 10 windows tell of no neuron that it is positional. A dash: "
        "not measured, or none."
    )
    together = data.firing.by_layer[data.firing.by_layer["corpus"] == ALL_CORPORA]
    rows = [
        _kinds_row(data.firing, (str(model), str(revision)), of_checkpoint)
        for (model, revision), of_checkpoint in together.groupby(CHECKPOINT, sort=False)
    ]
    if not rows:
        return []
    frame = pd.DataFrame(rows)
    return [TextTable(name=SUMMARY, title="Kinds of neurons", frame=frame, note=note)]


def _kinds_row(
    firing: FiringData, checkpoint: tuple[str, str], together: pd.DataFrame
) -> dict[str, str]:
    detectors = of_checkpoints(firing.detectors_by_layer, [checkpoint])
    positional = of_checkpoints(firing.positional_by_layer, [checkpoint])
    return {
        **dict(zip(CHECKPOINT, checkpoint, strict=True)),
        **_dead_of(together),
        **_detectors_of(detectors),
        **_positional_of(positional, together),
    }


def _dead_of(rows: pd.DataFrame) -> dict[str, str]:
    dead, total = int(rows["dead"].sum()), int(rows["num_neurons"].sum())
    shares = rows["dead"].to_numpy(np.float64) / rows["num_neurons"].to_numpy(np.float64)
    layer = numbers.index(rows["layer"].iloc[int(shares.argmax())])
    worst = f"{numbers.share(float(shares.max()))} (layer {layer})" if dead else numbers.DASH
    return {
        "neurons": numbers.count(total),
        "dead": f"{dead:,} ({numbers.share(dead / total)})",
        "most dead in a layer": worst,
    }


def _detectors_of(rows: pd.DataFrame) -> dict[str, str]:
    sums = rows.groupby("n")[["num_detectors", "num_told", "num_suppressing"]].sum()
    found = {
        f"{name} detectors": numbers.count(sums["num_detectors"].get(n))
        for n, name in N_NAMES.items()
    }
    told = int(sums["num_told"].get(1, 0))
    share = int(sums["num_suppressing"].get(1, 0)) / told if told else None
    return found | {"suppress their trigger": numbers.share(share)}


def _positional_of(rows: pd.DataFrame, by_layer: pd.DataFrame) -> dict[str, str]:
    windows = int(by_layer["num_windows"].max())
    strong = int(rows.loc[rows["strong"].astype(bool), "num_neurons"].sum())
    every = int(rows["num_neurons"].sum())
    return {
        "positional": numbers.count(every) if windows else numbers.DASH,
        "of them strong": numbers.count(strong) if windows else numbers.DASH,
        "windows": numbers.count(windows),
        "by chance": numbers.fixed(chance_information(windows), 4),
    }


def _corpora(firing: FiringData) -> list[TextTable]:
    """Dead neurons and activation frequency of each corpus."""
    rows = corpora_by_layer(firing.by_layer)
    if rows.empty:
        return []
    sums = rows.assign(
        alive=rows["num_neurons"] - rows["dead"],
        active=(rows["num_neurons"] - rows["dead"]) * rows["frequency"].astype(float).fillna(0.0),
    )
    found = sums.groupby([*CHECKPOINT, "corpus"], sort=False).agg(
        num_tokens=("num_tokens", "max"),
        num_windows=("num_windows", "max"),
        num_neurons=("num_neurons", "sum"),
        dead=("dead", "sum"),
        alive=("alive", "sum"),
        active=("active", "sum"),
    )
    found["frequency"] = (found["active"] / found["alive"]).where(found["alive"] > 0)
    title = "Dead neurons by corpus"
    return text_table("firing", title, found.reset_index(), _corpus_row, ALIVE)


def _corpus_row(row: Row) -> dict[str, str]:
    return _names(row) | {
        "corpus": str(row["corpus"]),
        "tokens": numbers.count(row["num_tokens"]),
        "whole windows": numbers.count(row["num_windows"]),
        "neurons": numbers.count(row["num_neurons"]),
        "dead": numbers.count(row["dead"]),
        "share dead": numbers.share(row["dead"] / row["num_neurons"]),
        "active at": numbers.share(row["frequency"]),
    }


def _layer_row(row: Row) -> dict[str, str]:
    return _names(row) | {
        "corpus": str(row["corpus"]),
        "layer": numbers.index(row["layer"]),
        "neurons": numbers.count(row["num_neurons"]),
        "dead": numbers.count(row["dead"]),
        "share dead": numbers.share(row["percent_dead"] / 100),
        "active at": numbers.share(row["frequency"]),
    }


def _wide(explained: pd.DataFrame) -> pd.DataFrame:
    """One row per n and layer, with a column for each group of neurons."""
    if explained.empty:
        return explained
    names = list(dict.fromkeys(explained["bin"]))
    index = [*CHECKPOINT, "n", "layer"]
    table = explained.pivot_table(
        index=index, columns="bin", values="num_neurons", aggfunc="sum", sort=False
    )
    return table[names].reset_index()


def _explained_row(row: Row) -> dict[str, str]:
    known = {*CHECKPOINT, "n", "layer"}
    counts = {str(name): numbers.count(value) for name, value in row.items() if name not in known}
    kind = {"kind": f"{N_NAMES[int(row['n'])]}s", "layer": numbers.index(row["layer"])}
    return _names(row) | kind | counts


def _detectors(data: ReportData) -> list[TextTable]:
    """Detectors of each layer, and the n-grams that they cover together."""
    note = (
        "n-grams: different ones that the layer's detectors cover. Cumulative: in this layer and "
        "all before. New: in none of the layers before. New to previous: not in the layer before. "
        f"Suppress: share of the layer's token detectors with Wilson's {data.percent} interval for "
        "independent neurons. Layers without detectors are left out."
    )
    firing = data.firing
    rows = firing.detectors_by_layer[firing.detectors_by_layer["num_detectors"] > 0]
    shares = suppressing(rows, data.confidence)[[*CHECKPOINT, "n", "layer", "share", "low", "high"]]
    frame = rows.merge(shares, on=[*CHECKPOINT, "n", "layer"], how="left")
    return text_table("detectors", "Detectors by layer", frame, _detector_row, note)


def _detector_row(row: Row) -> dict[str, str]:
    ends = [row["low"], row["high"]]
    interval = numbers.level_interval("accuracy", *ends)
    return _names(row) | {
        "kind": f"{N_NAMES[int(row['n'])]}s",
        "layer": numbers.index(row["layer"]),
        "detectors": numbers.count(row["num_detectors"]),
        "n-grams": numbers.count(row["covered"]),
        "cumulative": numbers.count(row["cumulative"]),
        "new": numbers.count(row["new"]),
        "new to previous": numbers.count(row["new_to_previous"]),
        "suppress": numbers.share(row["share"]),
        "suppress interval": interval,
    }


def _listed(firing: FiringData) -> list[TextTable]:
    """The detectors that are active most often."""
    note = (
        f"Those that are active most often; at most {MAX_LISTED} n-grams of each are written out, "
        "the most frequent ones first. A dot stands for a space."
    )
    of_tokens = (
        " Promoted, suppressed: tokens whose logits the neuron's output weights raise and lower "
        "most. Logit: mean change of the logits of the detected tokens per unit of activation. In "
        "gated MLPs all of it with the mean factor of the activations on the detected tokens."
    )
    by_neuron = [*NEURON, "n"]
    detected = {
        names: _texts(group) for names, group in firing.detected.groupby(by_neuron, sort=False)
    }
    projected = {
        names: _texts(group.sort_values("rank"))
        for names, group in firing.projections.groupby([*NEURON, "direction"], sort=False)
    }

    def row(values: Row) -> dict[str, str]:
        neuron = tuple(values[name] for name in NEURON)
        return _listed_row(values) | {
            "detects": _some(detected.get((*neuron, values["n"]), [])),
            **(
                {way: ", ".join(projected.get((*neuron, way), [])) for way in WAYS}
                if values["n"] == 1
                else {}
            ),
        }

    tables = []
    for n in sorted(firing.detectors["n"].unique()):
        rows = firing.detectors[firing.detectors["n"] == n]
        name, title = f"{N_NAMES[int(n)]}_detectors", f"Detectors of {N_NAMES[int(n)]}s"
        tables += text_table(name, title, rows, row, note + of_tokens if n == 1 else note)
    return tables


def _texts(rows: pd.DataFrame) -> list[str]:
    return [readable(str(text)) for text in rows["text"]]


def _some(texts: list[str]) -> str:
    more = len(texts) - MAX_LISTED
    return ", ".join(texts[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _listed_row(row: Row) -> dict[str, str]:
    known = {
        "layer": numbers.index(row["layer"]),
        "neuron": numbers.index(row["neuron"]),
        "times active": numbers.count(row["activations"]),
    }
    if row["n"] != 1:
        return _names(row) | known
    return (
        _names(row)
        | known
        | {
            "logit": numbers.fixed(row["projection"], 3, signed=True),
            "suppresses": numbers.yes_or_no(row["suppresses"]),
        }
    )


def _positional(firing: FiringData) -> list[TextTable]:
    """Positional neurons of each layer by type and strength."""
    rows = firing.positional_by_layer
    if rows.empty:
        return []
    counted = rows.assign(kind=kinds_of(rows))
    index = [*CHECKPOINT, "layer"]
    wide = counted.pivot_table(
        index=index, columns="kind", values="num_neurons", aggfunc="sum", fill_value=0, sort=False
    )
    most = rows.groupby(index, sort=False)["information"].max().rename("most")
    names = [name for name in KINDS if name in wide.columns]
    frame = wide[names].assign(every=wide.sum(axis=1)).join(most).reset_index()

    def row(values: Row) -> dict[str, str]:
        return _names(values) | {
            "layer": numbers.index(values["layer"]),
            "positional": numbers.count(values["every"]),
            **{name: numbers.count(values[name]) for name in names},
            "highest information": numbers.fixed(values["most"], 3),
        }

    note = (
        "Types by the curve of activation frequency over positions; strong: it reaches exactly the "
        "0 or 1 that make its type, weak: it comes close. Information in nats. Layers without "
        "positional neurons are left out."
    )
    return text_table("positional", "Positional neurons by layer", frame, row, note)
