"""Items that are added up as the store is read, against the same items in one frame."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sweeper.aggregate import Comparison, contrast, estimate, levels, pairing, seed_effects
from sweeper.aggregate.contrasts import with_outcomes
from sweeper.aggregate.sources import StoredItems
from sweeper.store import Store, compact
from sweeper.store.schemas import ITEMS, OUTCOMES

GROUPS, CLUSTERS, ITEMS_PER_CLUSTER = 3, 12, 7
SEEDS = 4
PLACE = ["cell_key", "item_id"]


def fill_up(study, rng):
    """Pairs, windows, words and a harness task under a target, its random controls and layers."""
    num = CLUSTERS * ITEMS_PER_CLUSTER
    clusters = [f"c{n % CLUSTERS}" for n in range(num)]
    groups = [f"g{(n * n) % GROUPS}" for n in range(num)]
    ids = [f"i{n}" for n in rng.permutation(num)]
    tokens = rng.integers(1, 30, num).tolist()
    arms = [("baseline", None, {}), ("top", None, {"num_neurons": 5})]
    arms += [("random", seed, {"control_of": "top", "num_neurons": 5}) for seed in range(SEEDS)]
    arms += [(f"swept[{n}-{n}]", None, {"family": "swept", "layers": (n, n)}) for n in range(3)]
    for condition, seed, named in arms:
        correct = (rng.random(num) < 0.7).tolist()
        margins = rng.normal(0.3, 1.0, num).tolist()
        logprobs = (-rng.gamma(9.0, 1.0, num)).tolist()
        study.pairs(
            condition, correct, margins, clusters=clusters, groups=groups, ids=ids,
            seed=seed, task="pairs", **named,
        )  # fmt: skip
        study.windows(condition, logprobs[:9], tokens[:9], seed=seed, task="windows", **named)
        study.words(
            condition, logprobs, tokens, groups=groups, clusters=clusters,
            seed=seed, task="words", **named,
        )  # fmt: skip
        rows = zip(ids[:20], margins, correct, logprobs, tokens, strict=False)
        harness = [
            {"item_id": i, "group": "h", "cluster": i, "margin": m, "correct": c, "logprob": x}
            | {"num_tokens": t}
            for i, m, c, x, t in rows
        ]
        study._cell(condition, harness, "lm_eval", seed=seed, task="harness", **named)


def outcomes_of(items, manifest, rng):
    """Further metrics of the harness task: one that all have, and one that some cells lack."""
    cells = manifest.loc[manifest["task"] == "harness", "cell_key"]
    rows = items.loc[items["cell_key"].isin(cells), PLACE].assign(averaged=True)
    norm = rows.assign(metric="acc_norm", value=rng.random(len(rows)))
    some = rows[rows["cell_key"] != cells.iloc[3]].assign(metric="f1", value=0.5)
    log = rows.assign(metric="perplexity", value=1.0, averaged=False)
    return pd.concat([norm, some, log], ignore_index=True)


def put(store, items, outcomes=None, *, shuffled=(), rng=None):
    """Commit cells three at a time, their rows mixed; the rows of some in an order of their own."""
    keys = items["cell_key"].unique().tolist()
    for number in range(0, len(keys), 3):
        mine = keys[number : number + 3]
        rows = items[items["cell_key"].isin(mine)]
        parts = [
            part.sample(frac=1, random_state=3) if key in shuffled else part
            for key, part in rows.groupby("cell_key", sort=False)
        ]
        frame = pd.concat(parts)
        if rng is not None:
            # Rows of three cells mixed, those of each still in their order.
            order = rng.permutation(np.repeat(np.arange(len(parts)), [len(p) for p in parts]))
            nth = pd.Series(order).groupby(order).cumcount().to_numpy()
            frame = pd.concat([parts[c].iloc[[n]] for c, n in zip(order, nth, strict=True)])
        tables = {"items": as_table(frame, ITEMS)}
        if outcomes is not None:
            tables["outcomes"] = as_table(
                outcomes[outcomes["cell_key"].isin(mine)].assign(group="h", cluster="x"), OUTCOMES
            )
        store.writer.commit(f"a{number}", "u", "r", tables, dict.fromkeys(mine, "done"))
    store.refresh()


def as_table(frame, schema):
    full = frame.reindex(columns=[name for name in schema.names if name != "attempt"])
    full = full.assign(item=np.arange(len(full)))
    if "num_tokens" in full:
        full["num_tokens"] = full["num_tokens"].fillna(1).astype(int)
    columns = {}
    for name in full:
        field = schema.field(name)
        values = [None if pd.isna(value) else value for value in full[name]]
        if pa.types.is_boolean(field.type):
            values = [None if value is None else bool(value) for value in values]
        columns[name] = pa.array(values, field.type)
    return pa.table(columns)


def same(found, expected):
    pd.testing.assert_frame_equal(found, expected, rtol=0, atol=1e-12)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"), create=True)


@pytest.mark.parametrize("is_packed", [False, True])
def test_every_table_of_results_is_the_one_of_the_frame(study, store, monkeypatch, is_packed):
    rng = np.random.default_rng(5)
    fill_up(study, rng)
    manifest, cells = study.manifest, study.cells
    further = outcomes_of(study.items, manifest, rng)
    keys = manifest.loc[manifest["condition"] == "swept[1-1]", "cell_key"]
    put(store, study.items, further, shuffled=set(keys), rng=rng)
    if is_packed:
        compact(store.uri)
        store.refresh()
    # Few at once, so that there are several parts to be put together.
    monkeypatch.setattr(pairing, "VALUES_AT_ONCE", 200)
    monkeypatch.setattr(pairing, "ROWS_AT_ONCE", 70)
    frame, stored = with_outcomes(study.items, further), StoredItems(store)
    expected = estimate(manifest, frame, cells, resamples=100)
    assert set(expected["metric"]) >= {"accuracy", "margin", "nll", "shifted", "acc_norm"}
    assert "f1" not in set(expected["metric"])
    same(estimate(manifest, stored, cells, resamples=100), expected)
    same(levels(manifest, stored, resamples=100), levels(manifest, frame, resamples=100))
    same(seed_effects(manifest, stored), seed_effects(manifest, frame))
    compared = [
        Comparison(name="d", target="top", control="random", metric="accuracy"),
        Comparison(
            name="dd", target="top", control="random", metric="accuracy",
            tasks=("pairs",), others=("harness",),
        ),
    ]  # fmt: skip
    same(
        contrast(manifest, stored, compared, resamples=100),
        contrast(manifest, frame, compared, resamples=100),
    )


def test_only_cells_of_the_run_that_are_done_have_items(study, store):
    fill_up(study, np.random.default_rng(6))
    put(store, study.items)
    manifest = study.manifest
    some = manifest[~manifest["condition"].isin(["top", "swept[0-0]"])]
    same(levels(some, StoredItems(store), resamples=50), levels(some, study.items, resamples=50))
    without = manifest[~manifest["is_baseline"]]
    assert estimate(without, StoredItems(store), study.cells).empty
    same(
        levels(without, StoredItems(store), resamples=50),
        levels(without, study.items, resamples=50),
    )
    assert levels(manifest, StoredItems(Store(store.uri + "2", create=True))).empty


def test_a_cell_whose_attempt_has_items_of_others_only_has_none(study, store):
    """As after an import of results with samples of some tasks only."""
    key = study._cell("baseline", [], "lm_eval", task="bare")
    study._cell("top", [], "lm_eval", task="bare")
    full = study.pairs("baseline", [1, 0], clusters=["a", "b"])
    store.writer.commit(
        "a1", "u", "r", {"items": as_table(study.items, ITEMS)}, {key: "done", full: "done"}
    )
    store.refresh()
    found = levels(study.manifest, StoredItems(store), resamples=50)
    same(found, levels(study.manifest, study.items, resamples=50))
    assert set(found["task"]) == {"t"}


def test_what_was_added_up_is_kept_until_there_are_more_cells(study, store, monkeypatch):
    fill_up(study, np.random.default_rng(7))
    put(store, study.items)
    read = []
    original = Store.stream
    monkeypatch.setattr(
        Store, "stream", lambda self, *a, **k: read.append(a) or original(self, *a, **k)
    )
    stored = StoredItems(store)
    manifest = study.manifest
    estimate(manifest, stored, study.cells, resamples=50)
    once = len(read)
    # Which cells there are, and the three tasks that are no harness's.
    assert once == 1 + 3
    levels(manifest, stored, resamples=50)
    seed_effects(manifest, stored)
    assert len(read) == once
    levels(manifest[manifest["condition"] != "top"], stored, resamples=50)
    assert len(read) == once + 3


def broken(items, key, how):
    """Items with something wrong in one cell."""
    mine = (items["cell_key"] == key).to_numpy()
    first = int(np.flatnonzero(mine)[0])
    items = items.copy()
    if how == "missing":
        return items.drop(index=items.index[first])
    if how == "doubled":
        return pd.concat([items, items.iloc[[first]]], ignore_index=True)
    if how == "renamed":
        items.loc[items.index[first], "item_id"] = "stranger"
    elif how == "moved":
        items.loc[items.index[first], "cluster"] = "c1" if items["cluster"][first] != "c1" else "c2"
    elif how == "nan":
        items.loc[items.index[first], ["margin", "logprob"]] = np.nan
    else:
        items.loc[items.index[first], "num_tokens"] = 999
    return items


@pytest.mark.parametrize("condition", ["baseline", "top"])
@pytest.mark.parametrize(
    ("task", "how", "text"),
    [
        ("pairs", "missing", "different items"),
        ("pairs", "doubled", "repeat an item"),
        ("pairs", "renamed", "different items"),
        ("pairs", "moved", "different items"),
        ("pairs", "nan", r"items\.margin of cell .* holds missing"),
        ("words", "nan", r"items\.logprob of cell .* holds missing"),
        ("words", "tokens", "num_tokens is not the same positive number"),
    ],
)
def test_what_cannot_be_paired_is_said_as_for_frames(study, store, condition, task, how, text):
    fill_up(study, np.random.default_rng(8))
    manifest = study.manifest
    mine = manifest[(manifest["condition"] == condition) & (manifest["task"] == task)]
    items = broken(study.items, mine["cell_key"].item(), how)
    put(store, items)
    for source in (items, StoredItems(store)):
        with pytest.raises(ValueError, match=text):
            levels(manifest, source, resamples=50)


def test_the_stream_gives_whole_cells_and_little_at_once(study, store, monkeypatch):
    fill_up(study, np.random.default_rng(9))
    put(store, study.items)
    whole = store.table("items", columns=PLACE)
    keys = [key for key in study.items["cell_key"].unique() if "words" in key]
    for _ in range(2):
        found = list(Store(store.uri).stream("items", keys, PLACE, encoded=["cell_key"]))
        assert all(pa.types.is_dictionary(part["cell_key"].type) for part in found)
        cells = [set(part["cell_key"].to_pylist()) for part in found]
        assert sum(map(len, cells)) == len(set.union(*cells)) == len(keys)
        assert len(found) > 3
        rows = pa.concat_tables(part.cast(whole.schema) for part in found)
        frame = whole.to_pandas()
        expected = frame[frame["cell_key"].isin(keys)].sort_values(PLACE, ignore_index=True)
        same(rows.to_pandas().sort_values(PLACE, ignore_index=True), expected)
        # The same out of one large file.
        monkeypatch.setattr("sweeper.store.index.PIECE_ROWS", 100)
        compact(store.uri)
