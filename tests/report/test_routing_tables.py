"""The tables, the page and the collecting of a routing analysis."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pandas as pd
import pyarrow as pa
import pytest
from routing_frames import (
    CONSENSUS,
    make_layers,
    make_routing,
    make_splits,
)

from sweeper.report import words
from sweeper.report.collect_routing import collect_routing
from sweeper.report.data import ReportData
from sweeper.report.figures import all_figures
from sweeper.report.html import render
from sweeper.report.routing_data import routing_rows, without_quorum
from sweeper.report.routing_tables import routing_tables
from sweeper.report.text_table import TextTable, latex, markdown
from sweeper.spec.condition import FiringLabel, NgramLabel, RoutingLabel
from sweeper.store import Store
from sweeper.store.analysis_schemas import ANALYSES


@pytest.fixture(scope="module")
def routing() -> ReportData:
    return make_routing()


@pytest.fixture(scope="module")
def tables(routing: ReportData) -> dict[str, TextTable]:
    return {table.name: table for table in routing_tables(routing)}


def row_of(table: TextTable, **wanted: str) -> dict[str, str]:
    """The only row of a table with these words."""
    frame = table.frame
    for column, word in wanted.items():
        frame = frame[frame[column] == word]
    (row,) = frame.to_dict("records")
    return {str(column): str(word) for column, word in row.items()}


def test_without_any_quorum_one_sentence_and_no_empty_charts() -> None:
    layers = make_layers().query("model == 'gpt2_random'")
    nothing = pd.DataFrame()
    tables = ("routing_neurons", "routing_levels", "routing_patterns", "routing_splits", "removal")
    data = make_routing(
        routing_layers=layers,
        routing_predictions=nothing,
        routing_thresholds=nothing,
        **dict.fromkeys(tables, nothing),
    )
    assert [figure.name for figure in all_figures(data)] == [
        "routing_phases",
        "routing_linear_share",
    ]
    (sentence,) = without_quorum(data)
    assert sentence.startswith("gpt2_random @ main: none of 12 layers has a quorum")
    assert [table.name for table in routing_tables(data)] == ["routing_layers"]
    assert sentence in render(data, [])


def test_only_checkpoints_without_a_quorum_are_told(routing: ReportData) -> None:
    (sentence,) = without_quorum(routing)
    assert sentence.startswith("gpt2_random @ main")


def test_no_routing_no_section(empty: ReportData) -> None:
    bare = {name: ANALYSES[name].empty_table().to_pandas() for name in make_routing().routing}
    for data in (empty, replace(empty, routing=bare)):
        assert all_figures(data) == []
        assert routing_tables(data) == []
        assert without_quorum(data) == []
        page = render(data, [])
        assert 'id="routing"' not in page
        assert "<h3>Routing</h3>" not in page


def test_layers_in_a_table(tables: dict[str, TextTable]) -> None:
    row = row_of(tables["routing_layers"], model="gpt2", layer="7")
    assert row["handler"] == "1990"
    assert row["handler rate"] == "11.3 %"
    assert row["exclusivity"] == "95.8 %"
    assert row["range"] == "28.1"
    assert row["token interval"] == "[27.7, 28.5]"
    assert row["document interval"] == "[27.0, 29.2]"
    assert row["splits"] == "41 of 1,000"
    assert row["best split"] == "53.5"
    assert row["p splits"] == "0.042 (floor 0.001)"
    assert row["tokens"] == "500,000"
    bare = row_of(tables["routing_layers"], model="gpt2_random", layer="7")
    for column in ("handler", "gateway", "range", "token interval", "splits", "p splits"):
        assert bare[column] == "–"
    assert bare["phase"] == "diffuse"
    few = row_of(tables["routing_layers"], model="gpt2", layer="0")
    assert (few["range"], few["splits"], few["p splits"]) == ("33.4", "–", "–")


def test_levels_and_neurons_in_tables(tables: dict[str, TextTable]) -> None:
    row = row_of(tables["routing_levels"], layer="11", level="0")
    assert row["exception rate"] == "94.7"
    assert row["exception rate, token interval"] == "[91.9, 97.5]"
    assert row["|MLP output|"] == "194.10"
    assert row["|MLP output|, document interval"] == "[178.57, 209.63]"
    bare = row_of(tables["routing_levels"], layer="10", level="1")
    assert (bare["tokens"], bare["exception rate"], bare["|delta|"]) == ("0", "–", "–")
    roles = tables["routing_neurons"].frame["role"].tolist()
    assert roles == ["handler", *["consensus"] * 7, "gateway"]
    assert tables["routing_neurons"].frame["neuron"].tolist()[:3] == ["2123", "2", "2361"]


def test_patterns_tell_who_fires_and_at_what(tables: dict[str, TextTable]) -> None:
    frame = tables["routing_patterns"].frame
    assert frame["firing neurons"].tolist() == ["2821, 4", "2821, 14, 611", "2821", "none"]
    assert frame["enrichment"].tolist() == ["∞", "2.125", "1.417", "1.062"]
    assert frame["most frequent tokens"][0].startswith("·the, ,, \\n, ·of, ·|pipe, ·<b>, ·Ant")
    assert r"\|pipe" in markdown(tables["routing_patterns"])
    assert "<b>" not in markdown(tables["routing_patterns"])


def test_removal_in_a_table(tables: dict[str, TextTable]) -> None:
    table = tables["routing_removal"]
    levels = table.frame[table.frame["layer"] == "11"]["level"].tolist()
    assert levels == [*map(str, range(8)), "all"] * 3
    row = row_of(table, layer="11", level="0", intervention="MLP removed")
    assert row["perplexity"] == "32.30"
    assert row["change (%)"] == "+43.30"
    low, high = (100 * (1.433**power - 1) for power in (0.85, 1.15))
    assert row["interval (%)"] == f"[{low:.2f}, {high:.2f}]"
    assert row["KL"] == "0.4140"
    assert row["probability ratio"] == "0.800"
    assert row["rank change"] == "+52.3"
    assert row["documents"] == "64"


def test_predictions_in_tables(tables: dict[str, TextTable]) -> None:
    row = row_of(tables["routing_predictions"], layer="11")
    assert row["quarter by firing"] == "79.20 %"
    assert row["quarter by values"] == "78.80 %"
    assert row["quarter by tree"] == "80.70 %"
    assert (row["quarter, commonest"], row["fifth, commonest"]) == ("75.00 %", "20.00 %")
    assert (row["R² of norm by firing"], row["R² of norm by values"]) == ("0.220", "0.360")
    polynomials = tables["routing_polynomials"].frame
    assert list(polynomials.columns[3:]) == [*(f"degree {n}" for n in range(2, 8)), "tokens"]
    assert row_of(tables["routing_polynomials"], layer="11")["degree 7"] == "0.210"
    low = row_of(tables["routing_polynomials"], layer="3")
    assert (low["degree 2"], low["degree 7"]) == ("−0.384", "−40,000")
    branches = row_of(tables["routing_branches"], layer="11")
    assert (branches["k = 1"], branches["k = 16"], branches["tokens"]) == (
        "0.210",
        "0.060",
        "2,000",
    )
    spectral = tables["routing_branches_spectral"]
    assert list(spectral.frame.columns[3:]) == ["k = 2", "k = 4", "k = 8", "tokens"]
    assert row_of(spectral, layer="11")["k = 8"] == "0.200"
    assert "spectral clusters of at most 2,000 tokens" in spectral.note
    assert "without products of different components" in tables["routing_polynomials"].note
    for name in ("routing_layers", "routing_levels"):
        assert "documents, which are the windows of the text" in tables[name].note
        assert "come from the same tokens" in tables[name].note
    assert "levels with at least 50 tokens" in tables["routing_layers"].note


def test_thresholds_in_a_table(tables: dict[str, TextTable]) -> None:
    row = row_of(tables["routing_thresholds"], model="gpt2", layer="8", threshold="0.1")
    assert (row["consensus"], row["range"], row["overlap"]) == ("3", "61.2", "100 %")


def test_tables_as_latex_have_rows_as_long_as_their_heads(tables: dict[str, TextTable]) -> None:
    for table in tables.values():
        text = latex(table)
        rows = [
            line for line in text.splitlines() if line.endswith(r"\\") and "caption" not in line
        ]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
        assert not set(text) & set("−–²∞·")


def test_the_page_has_a_section(routing: ReportData) -> None:
    page = render(routing, [])
    assert '<h2 id="routing">Routing</h2>' in page
    assert "gpt2_random @ main: none of 12 layers has a quorum" in page
    assert "Consensus gradient — gpt2 @ main" in page
    assert "·&lt;b&gt;" in page
    assert "<b>" not in page
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()


def test_the_job_in_words(routing: ReportData) -> None:
    assert words.routing(routing.job) == (
        "up to 489 windows of 1024 tokens of wiki.train.raw; a neuron fires where its activation "
        "exceeds 0.1; MLPs and handlers are taken out on up to 64 of them"
    )
    assert words.routing({}) is None
    assert words.routing({"routing": None}) is None


def stored(store: Store, frames: dict[str, pd.DataFrame], key: str) -> None:
    """Commit the tables of one cell."""
    tables = {}
    for name, frame in frames.items():
        schema = ANALYSES[name]
        schema = schema.remove(schema.get_field_index("attempt"))
        rows = frame.assign(cell_key=key).reindex(columns=schema.names)
        tables[name] = pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
    store.writer.commit(f"attempt-{key}", f"unit-{key}", "run", tables, {key: "done"})


def manifest_of(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["cell_key", "kind", "model", "revision"])


def test_collected_in_the_order_of_the_job(tmp_path: Path, routing: ReportData) -> None:
    store = Store(str(tmp_path / "store"), create=True)
    known = {name: frame for name, frame in routing.routing.items() if name != "removal"}
    for key, model in (("a", "gpt2_random"), ("b", "gpt2")):
        parts = {name: frame[frame["model"] == model] for name, frame in known.items()}
        stored(store, parts, key)
    stored(store, {"removal": routing.routing["removal"]}, "c")
    store.refresh()
    manifest = manifest_of(
        [
            ("b", "routing", "gpt2", "main"),
            ("c", "removal", "gpt2", "main"),
            ("a", "routing", "gpt2_random", "main"),
            ("z", "routing", "not yet", "main"),
        ]
    )
    found = collect_routing(store, manifest)
    assert found["routing_layers"]["model"].drop_duplicates().tolist() == ["gpt2", "gpt2_random"]
    data = make_routing(**found)
    for table, expected in zip(routing_tables(data), routing_tables(routing), strict=True):
        assert table.frame.equals(expected.frame), table.name
    assert routing_rows(data, "removal")["level"].isna().sum() == 3 * len(CONSENSUS)


def test_splits_only_of_checkpoints_that_are_drawn(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), create=True)
    layers = make_layers().query("model == 'gpt2' and layer == 11")
    splits = make_splits().query("layer == 11").head(2)
    for step in range(8):
        stored(store, {"routing_layers": layers, "routing_splits": splits}, f"key{step}")
    store.refresh()
    rows = [(f"key{step}", "routing", "gpt2", f"step{step}") for step in range(8)]
    found = collect_routing(store, manifest_of(rows))
    assert found["routing_layers"]["revision"].nunique() == 8
    assert found["routing_splits"]["revision"].nunique() == 6
    assert collect_routing(store, manifest_of([])) == {}


def test_sets_by_label_in_words() -> None:
    neurons = {"kind": "labelled", "label": "consensus", "layers": [7, 11]}
    job = {"condition": {"quiet": {"operation": "zero", "neurons": neurons}}}
    ((name, sentence),) = words.conditions(job)
    assert name == "quiet"
    assert sentence == "pre-activations set to 0: consensus neurons, layers 7, 11"
    labels = (FiringLabel, NgramLabel, RoutingLabel)
    assert set(words.LABELS) == {label for part in labels for label in get_args(part)}
