"""Tables of the firing census, from the store to the page."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from firing_frames import CORPORA, curve_of, firing_rows, ngram_rows
from statsmodels.stats.proportion import proportion_confint

from sweeper.aggregate.firing import (
    detectors_by_layer,
    explained_by_layer,
    firing_by_layer,
    positional_neurons,
)
from sweeper.report import collect_firing, words
from sweeper.report.all_tables import all_tables
from sweeper.report.collect_firing import NUM_CURVES, NUM_DETECTORS
from sweeper.report.data import ReportData
from sweeper.report.firing_data import FiringData
from sweeper.report.html import render
from sweeper.report.text_table import TextTable, latex, markdown
from sweeper.store import Store
from sweeper.store.schemas import TABLES

LAYERS, WIDTH, LENGTH = 6, 60, 32
REVISIONS = ("step0", "step1000")
JOB = {
    "firing": {
        "corpora": list(CORPORA),
        "length": LENGTH,
        "windows": 100,
        "threshold": 0.0,
        "ngrams": [1, 2, 3],
        "most_ngrams": 50,
        "tokens": 5,
        "parts": "auto",
    }
}
Frames = dict[str, pd.DataFrame]


def frames_of(seed: int) -> Frames:
    """The five tables of one checkpoint."""
    rng = np.random.default_rng(seed)
    firing = firing_rows(LAYERS, WIDTH, seed)
    ngrams, detected, projected = ngram_rows(LAYERS, WIDTH, seed)
    places = positional_neurons(firing)
    curves = [curve_of(kind, LENGTH, rng).tolist() for kind in places["type"]]
    positions = places[["layer", "neuron"]].assign(frequency=curves)
    ngrams["suppresses"] = ngrams["suppresses"].astype("boolean")
    return {
        "firing": firing.assign(strong=firing["strong"].astype("boolean")),
        "positions": positions,
        "ngrams": ngrams,
        "detected": detected.assign(projection=None),
        "projections": projected,
    }


def write(store: Store, key: str, frames: Frames) -> None:
    tables = {}
    for name, frame in frames.items():
        table = pa.Table.from_pandas(frame.assign(cell_key=key), preserve_index=False)
        # Columns that no report reads are left empty.
        for field in TABLES[name]:
            if field.name not in {*table.column_names, "attempt"}:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        tables[name] = table
    store.writer.commit(f"attempt-{key}", f"unit-{key}", "run", tables, {key: "done"})


@pytest.fixture(scope="module")
def truth() -> dict[str, Frames]:
    return {revision: frames_of(seed) for seed, revision in enumerate(REVISIONS)}


@pytest.fixture(scope="module")
def store(truth: dict[str, Frames], tmp_path_factory: pytest.TempPathFactory) -> Store:
    found = Store(str(tmp_path_factory.mktemp("store")), create=True)
    for revision, frames in truth.items():
        write(found, f"f-{revision}", {name: frames[name] for name in ("firing", "positions")})
        names = ("ngrams", "detected", "projections")
        write(found, f"n-{revision}", {name: frames[name] for name in names})
    found.refresh()
    return found


def manifest_of(*kinds: str) -> pd.DataFrame:
    rows = [
        {"cell_key": f"{kind[0]}-{revision}", "kind": kind, "model": "m", "revision": revision}
        for revision in REVISIONS
        for kind in kinds
    ]
    return pd.DataFrame(rows, columns=["cell_key", "kind", "model", "revision"])


@pytest.fixture(scope="module")
def firing(store: Store) -> FiringData:
    return collect_firing.collect_firing(store, manifest_of("firing", "ngrams"), JOB)


@pytest.fixture(scope="module")
def report(firing: FiringData, empty: ReportData) -> ReportData:
    steps = [{"model": "m", "revision": r, "step": int(r[4:])} for r in REVISIONS]
    return replace(empty, firing=firing, checkpoints=pd.DataFrame(steps), job=empty.job | JOB)


@pytest.fixture(scope="module")
def tables(report: ReportData) -> dict[str, TextTable]:
    return {table.name: table for table in all_tables(report)}


def of(frame: pd.DataFrame, revision: str) -> pd.DataFrame:
    here = frame[frame["revision"] == revision]
    return here.drop(columns=["model", "revision"]).reset_index(drop=True)


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_is_collected_is_what_the_tables_say(
    firing: FiringData, truth: dict[str, Frames], revision: str
) -> None:
    frames, layers = truth[revision], range(LAYERS)
    wanted = {
        "by_layer": firing_by_layer(frames["firing"]),
        "explained": explained_by_layer(frames["ngrams"], layers, 50),
        "detectors_by_layer": detectors_by_layer(frames["ngrams"], frames["detected"], layers),
        "positional": positional_neurons(frames["firing"]),
    }
    for name, frame in wanted.items():
        found = of(getattr(firing, name), revision)[list(frame.columns)]
        pd.testing.assert_frame_equal(found, frame, check_dtype=False)


def test_the_most_informative_neurons_have_their_curves(
    firing: FiringData, truth: dict[str, Frames]
) -> None:
    curves = of(firing.curves, REVISIONS[1])
    places = positional_neurons(truth[REVISIONS[1]]["firing"])
    known = truth[REVISIONS[1]]["positions"].set_index(["layer", "neuron"])["frequency"]
    for kind, here in curves.groupby("type"):
        best = places[places["type"] == kind].nlargest(NUM_CURVES, "information")
        assert here["information"].tolist() == best["information"].tolist()
        assert here["rank"].tolist() == list(range(len(best)))
    for row in curves.to_dict("records"):
        assert row["frequency"] == pytest.approx(known[row["layer"], row["neuron"]], abs=1e-6)


def test_the_detectors_active_most_often_are_listed(
    firing: FiringData, truth: dict[str, Frames], monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    found = truth["step0"]["ngrams"]
    found = found[found["detector"]]
    for n, here in of(firing.detectors, "step0").groupby("n"):
        most = found[found["n"] == n].nlargest(NUM_DETECTORS, "activations")
        assert here["activations"].tolist() == most["activations"].tolist()
    monkeypatch.setattr(collect_firing, "NUM_DETECTORS", 2)
    few = collect_firing.collect_firing(store, manifest_of("firing", "ngrams"), JOB)
    assert of(few.detectors, "step0").groupby("n").size().tolist() == [2, 2, 2]
    neurons = set(few.detectors["neuron"])
    assert set(few.detected["neuron"]) <= neurons
    assert set(few.projections["neuron"]) <= neurons


def test_single_neurons_are_of_the_checkpoints_that_are_drawn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.report.data.MAX_CHECKPOINTS", 1)
    few = collect_firing.collect_firing(store, manifest_of("firing", "ngrams"), JOB)
    for frame in (few.positional, few.curves, few.detectors, few.detected, few.projections):
        assert set(frame["revision"]) == {"step1000"}
    for frame in (few.by_layer, few.explained, few.detectors_by_layer, few.positional_by_layer):
        assert set(frame["revision"]) == set(REVISIONS)


def test_cells_that_are_missing_or_not_done(store: Store) -> None:
    only = collect_firing.collect_firing(store, manifest_of("firing"), JOB)
    assert not only.by_layer.empty
    assert only.detectors_by_layer.empty
    assert only.detectors.empty
    unknown = manifest_of("firing", "ngrams").assign(cell_key="other")
    for manifest in (unknown, manifest_of()):
        nothing = collect_firing.collect_firing(store, manifest, JOB)
        assert all(getattr(nothing, name).empty for name in vars(FiringData()))
    assert collect_firing.collect_firing(store, manifest_of("firing"), {}).by_layer.empty


def test_kinds_of_neurons(tables: dict[str, TextTable], truth: dict[str, Frames]) -> None:
    frame = tables["firing_kinds"].frame
    assert frame["revision"].tolist() == list(REVISIONS)
    for row in frame.to_dict("records"):
        frames = truth[row["revision"]]
        together = frames["firing"].query("corpus == 'all'")
        dead = together[together["active"] == 0]
        share = len(dead) / (LAYERS * WIDTH)
        assert row["neurons"] == f"{LAYERS * WIDTH:,}"
        assert row["dead"] == f"{len(dead)} ({100 * share:.3g} %)"
        worst = dead.groupby("layer").size()
        assert row["most dead in a layer"].endswith(f"(layer {worst.idxmax()})")
        found = frames["ngrams"].query("detector")
        assert row["token detectors"] == str((found["n"] == 1).sum())
        assert row["trigram detectors"] == str((found["n"] == 3).sum())
        told = found.loc[found["n"] == 1, "suppresses"].astype(float)
        assert row["suppress their trigger"] == f"{100 * told.mean():.3g} %"
        assert row["positional"] == str(together["positional"].astype(bool).sum())
        assert row["of them strong"] == str(together["strong"].fillna(False).astype(bool).sum())
        assert (row["windows"], row["by chance"]) == ("300", "0.0017")


def test_each_corpus_and_all_of_them(
    tables: dict[str, TextTable], truth: dict[str, Frames]
) -> None:
    frame = tables["firing"].frame.query("revision == 'step0'").set_index("corpus")
    assert set(frame.index) == {*CORPORA, "all corpora together"}
    rows = truth["step0"]["firing"].query("corpus == 'europarl'")
    assert frame.loc["europarl", "dead"] == str((rows["active"] == 0).sum())
    alive = rows[rows["active"] > 0]
    mean = 100 * (alive["active"] / alive["num_tokens"]).mean()
    assert frame.loc["europarl", "active at"] == f"{mean:.3g} %"
    assert frame.loc["europarl", "tokens"] == "100,000"


def test_detectors_by_layer(tables: dict[str, TextTable], firing: FiringData) -> None:
    frame = tables["detectors"].frame
    known = firing.detectors_by_layer.query("num_detectors > 0")
    assert len(frame) == len(known)
    row = frame.query("revision == 'step0' and kind == 'tokens'").iloc[0]
    first = known.query("revision == 'step0' and n == 1").iloc[0]
    assert row["layer"] == str(first["layer"])
    for column, name in (
        *(("detectors", "num_detectors"), ("n-grams", "covered"), ("cumulative", "cumulative")),
        *(("new", "new"), ("new to previous", "new_to_previous")),
    ):
        assert row[column] == str(first[name])
    found, told = int(first["num_suppressing"]), int(first["num_told"])
    low, high = proportion_confint(found, told, method="wilson")
    assert row["suppress"] == f"{100 * found / told:.3g} %"
    assert row["suppress interval"] == f"[{100 * low:.2f}, {100 * high:.2f}]"
    assert set(frame.query("kind == 'bigrams'")["suppress"]) == {"–"}


def test_detectors_with_their_tokens(
    tables: dict[str, TextTable], firing: FiringData, truth: dict[str, Frames]
) -> None:
    frame = tables["token_detectors"].frame
    first = of(firing.detectors, "step0").query("n == 1").iloc[0]
    row = frame.iloc[0]
    assert (row["layer"], row["neuron"]) == (str(first["layer"]), str(first["neuron"]))
    here = f"layer == {first['layer']} and neuron == {first['neuron']}"
    texts = truth["step0"]["detected"].query(f"{here} and n == 1")["text"].tolist()
    shown = [text.replace(" ", "·").replace("\n", "\\n") for text in texts]
    assert row["detects"] == ", ".join(shown)
    projected = truth["step0"]["projections"].query(f"{here} and direction == 'promoted'")
    assert len(row["promoted"].split(", ")) == len(projected) == 5
    assert row["suppresses"] == ("yes" if first["projection"] < 0 else "no")
    longer = tables["trigram_detectors"].frame
    assert "promoted" not in longer.columns
    assert longer["detects"].str.contains(r" and \d+ more$").any()


def test_positional_neurons_by_layer(
    tables: dict[str, TextTable], truth: dict[str, Frames]
) -> None:
    frame = tables["positional"].frame.query("revision == 'step1000'").set_index("layer")
    places = positional_neurons(truth["step1000"]["firing"])
    for layer, here in places.groupby("layer"):
        row = frame.loc[str(layer)]
        assert row["positional"] == str(len(here))
        strong = (here["type"] == "both_extremes") & here["strong"]
        assert row.get("both extremes, strong", "0") == str(strong.sum())
        assert row["highest information"] == f"{here['information'].max():.3f}"


def test_tables_by_layer_are_in_the_files(tables: dict[str, TextTable]) -> None:
    layers = tables["firing_by_layer"].frame
    assert len(layers) == len(REVISIONS) * LAYERS * (len(CORPORA) + 1)
    ngrams = tables["ngrams_by_layer"].frame
    assert len(ngrams) == len(REVISIONS) * LAYERS * 3
    counts = ngrams[["1", "2–5", "6–50", "more than 50"]].astype(int)
    assert set(counts.sum(axis=1)) == {WIDTH}


def test_a_layer_without_positional_neurons_is_none_not_nan(report: ReportData) -> None:
    for table in all_tables(report):
        assert not table.frame.isna().any().any(), table.name
        for text in (markdown(table), latex(table)):
            assert "nan" not in text.lower().split()


def test_the_page(report: ReportData, empty: ReportData) -> None:
    page = render(report, [])
    assert '<h2 id="firing">When neurons fire</h2>' in page
    assert "Detectors of tokens — m @ step0" in page
    assert "Kinds of neurons" in page
    assert "<h3>Firing census</h3>" in page
    assert "Dead neurons by layer and corpus" not in page
    without = render(empty, [])
    assert "When neurons fire" not in without
    assert "Firing census" not in without


def test_all_corpora_are_not_repeated_where_there_is_one(empty: ReportData) -> None:
    rows = firing_rows(3, 20, corpora=("only",)).query("corpus == 'only' or corpus == 'all'")
    by_layer = firing_by_layer(rows).assign(model="m", revision="main")
    data = replace(empty, firing=FiringData(by_layer=by_layer))
    found = {table.name: table.frame for table in all_tables(data)}
    assert found["firing"]["corpus"].tolist() == ["only"]
    kinds = found["firing_kinds"].iloc[0]
    assert (kinds["token detectors"], kinds["suppress their trigger"]) == ("–", "–")
    assert kinds["positional"] == "0"


def test_the_census_in_words() -> None:
    spec: dict[str, Any] = {**JOB["firing"], "corpora": ["topics", "w"]}
    corpora = {"topics": {"kind": "topics"}, "w": {"kind": "file", "path": "wiki.raw"}}
    text = words.firing({"firing": spec, "corpus": corpora})
    assert text is not None
    assert "up to 100 windows of 32 tokens of each of Python's own" in text
    assert "wiki.raw; a neuron is active where its activation exceeds 0;" in text
    assert text.endswith("; n-grams of lengths 1, 2, 3")
    different = {"threshold": {"relu": 0.0, "silu": 0.1}, "ngrams": []}
    several = words.firing({"firing": {**spec, **different}})
    assert several is not None
    assert several.endswith("exceeds 0 (relu), 0.1 (silu); no n-grams")
    assert words.firing({}) is None
