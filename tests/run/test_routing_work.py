"""The routing analysis against plain Hugging Face modules with hooks, lstsq and explicit loops."""

from collections import Counter, defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from records_factory import cell, unit
from tiny_models import load_folder

from sweeper.neurons.routing import findings, passes, roles
from sweeper.neurons.routing.passes import groups
from sweeper.neurons.routing.prediction import predictions
from sweeper.records import content_hash
from sweeper.run import routing_work
from sweeper.run.fresh_data import StaleDataError
from sweeper.run.routing_work import routing
from sweeper.run.rows import arrow
from sweeper.score import corpus as corpora
from sweeper.score.memory import TokenBudget
from sweeper.spec.corpus import FileCorpus
from sweeper.spec.routing import RoutingSpec
from sweeper.store.schemas import TABLES

LENGTH, WINDOWS, FIT, PREDICTED, THRESHOLD = 64, 24, 600, 1000, 0.05
SPEC = RoutingSpec(
    corpus="text",
    length=LENGTH,
    windows=WINDOWS,
    threshold=THRESHOLD,
    thresholds=[0.01, THRESHOLD, 0.3],
    fit_tokens=FIT,
    splits=30,
    resamples=200,
    predicted_tokens=0,
)
PREDICTING = SPEC.model_copy(update={"predicted_tokens": PREDICTED, "thresholds": []})
LAX = {
    "HANDLER_SHIFT": 0.05,
    "HANDLER_RATE": 0.8,
    "CONSENSUS_SHIFT": -0.05,
    "CONSENSUS_RATE": 0.2,
    "LEAST_SEEN": 5,
    "GATEWAY_PATTERNS": 12,
}
"""Bounds of the roles under which small models have some."""
PATHS = {"gpt2": ("transformer.h", "mlp.act"), "llama": ("model.layers", "mlp.act_fn")}


@pytest.fixture
def lax(monkeypatch):
    for name, value in LAX.items():
        monkeypatch.setattr(roles, name, value)


@pytest.fixture
def unit_of(shared, tmp_path):
    """Function from a model and a specification to the unit over real text."""
    raw = (shared / "data" / "wikitext2" / "raw" / "wiki.test.raw").read_text()
    file = tmp_path / "text.txt"
    file.write_text(raw[:12_000])
    corpus = FileCorpus(path=str(file))

    def build(model, spec=SPEC):
        return unit(
            "routing",
            (cell("routing-key", kind="routing", task="text", condition="routing"),),
            checkpoint=model.checkpoint,
            task=spec.model_dump(),
            corpus=corpus.model_dump(),
            data_fingerprint=corpora.fingerprint(corpus),
        )

    return build


@pytest.fixture
def analysed(unit_of, lax):
    def run(model, spec=SPEC, positions=200):
        return routing(model, unit_of(model, spec), TokenBudget(positions), "")

    return run


def windows_of(model, unit):
    """Token windows, cut by hand."""
    ids = model.tokenizer(Path(unit.corpus["path"]).read_text())["input_ids"]
    cut = [ids[first : first + LENGTH] for first in range(0, len(ids), LENGTH)]
    return [window for window in cut if len(window) > 1][:WINDOWS]


def everything(model, rows, layer, fires="activation"):
    """MLP inputs, outputs, and values of all neurons, by hooks on the whole MLP."""
    layers, activation = PATHS[model.checkpoint.model_type]
    block = model.model.get_submodule(f"{layers}.{layer}")
    kept = {"x": [], "y": [], "values": []}

    def keep_mlp(_module, inputs, output):
        kept["x"].append(inputs[0])
        kept["y"].append(output)

    def keep_output(_module, _inputs, output):
        kept["values"].append(output)

    def keep_input(_module, inputs):
        kept["values"].append(inputs[0])

    handles = [block.mlp.register_forward_hook(keep_mlp)]
    if fires == "activation":
        handles.append(block.get_submodule(activation).register_forward_hook(keep_output))
    else:
        handles.append(block.mlp.down_proj.register_forward_pre_hook(keep_input))
    try:
        with torch.no_grad():
            for row in rows:
                model.model(input_ids=torch.tensor([row]))
    finally:
        for handle in handles:
            handle.remove()
    return {k: torch.cat([v[0] for v in vs]).double().numpy() for k, vs in kept.items()}


class Brute:
    """A layer, analysed as the protocol says it."""

    def __init__(self, kept, threshold=THRESHOLD):
        self.x, self.y, self.values = kept["x"], kept["y"], kept["values"]
        fitted = -(-FIT // LENGTH) * LENGTH
        design = np.column_stack([self.x, np.ones(len(self.x))])
        solution = np.linalg.lstsq(design[:fitted], self.y[:fitted], rcond=1e-7)[0]
        self.deltas = self.y - design @ solution
        self.residuals = np.sqrt((self.deltas**2).sum(1))
        self.norms = np.sqrt((self.y**2).sum(1))
        self.fires = self.values > threshold
        order = np.argsort(self.residuals, kind="stable")
        n = len(order)
        self.regimes = {
            "linear": order[: round(0.25 * n)],
            "barely": order[round(0.5 * n) : round(0.7 * n)],
            "highly": order[round(0.95 * n) :],
        }
        self.rates = {name: self.fires[own].mean(0) for name, own in self.regimes.items()}
        self.rate = self.fires.mean(0)

    def quorum(self):
        shift = self.rates["highly"] - self.rates["linear"]
        by_size = sorted(range(len(shift)), key=lambda f: -abs(shift[f]))[:30]
        rare = [
            f
            for f in by_size
            if shift[f] > LAX["HANDLER_SHIFT"] and self.rate[f] < LAX["HANDLER_RATE"]
        ]
        usual = [
            f
            for f in range(len(shift))
            if shift[f] < LAX["CONSENSUS_SHIFT"] and self.rate[f] > LAX["CONSENSUS_RATE"]
        ]
        if not rare or not usual:
            return None
        return max(rare, key=lambda f: shift[f]), sorted(usual, key=lambda f: shift[f])[:7]


@pytest.mark.parametrize(
    ("name", "fires"), [("stories", "activation"), ("stories", "product"), ("gpt2", "activation")]
)
def test_equals_hooks_lstsq_and_loops(analysed, unit_of, stories, tiny_model, name, fires):
    model = stories if name == "stories" else tiny_model(name)
    found = analysed(model, SPEC.model_copy(update={"fires": fires}))
    rows = windows_of(model, unit_of(model))
    layers = found.tables["routing_layers"].set_index("layer")
    assert found.num_items == len(layers) == model.checkpoint.num_layers
    assert layers["handler"].notna().any(), "the test needs a quorum"
    tokens = sum(map(len, rows))
    assert (layers["num_tokens"] == tokens).all()
    assert (layers["num_documents"] == len(rows)).all()
    fitted = -(-FIT // LENGTH) * LENGTH
    assert found.num_tokens == tokens + fitted
    for layer in layers.index:
        brute = Brute(everything(model, rows, layer, fires))
        _check_layer(layers.loc[layer], brute)
        mine = {
            table: frame[frame["layer"] == layer]
            for table, frame in found.tables.items()
            if len(frame)
        }
        _check_neurons(mine["routing_neurons"], brute)
        if brute.quorum() is not None:
            _check_levels(mine["routing_levels"], brute, len(rows))
            _check_range(layers.loc[layer], mine, brute)
        _check_patterns(mine["routing_patterns"], brute, rows, model.tokenizer)


def _check_layer(row, brute):
    centred = brute.y - brute.y.mean(0)
    share = 1 - (brute.residuals**2).sum() / (centred**2).sum()
    assert row["linear_share"] == pytest.approx(share, abs=1e-4)
    quorum = brute.quorum()
    if quorum is None:
        assert row["phase"] == ("diffuse" if np.isnan(row["gateway"]) else "scaffold")
        assert np.isnan(row["handler"])
        return
    assert row["phase"] == "decision"
    assert (row["handler"], row["num_consensus"]) == (quorum[0], len(quorum[1]))
    assert row["handler_rate"] == pytest.approx(brute.rate[quorum[0]], abs=2e-3)


def _check_neurons(table, brute):
    quorum = brute.quorum()
    by_role = {role: group for role, group in table.groupby("role")}
    assert by_role["candidate"]["place"].tolist() == list(range(8))
    gap = np.abs(brute.rates["barely"] - brute.rates["linear"])
    np.testing.assert_allclose(
        gap[by_role["candidate"]["neuron"]], np.sort(gap)[::-1][:8], atol=0.01
    )
    for row in table.itertuples():
        assert row.rate == pytest.approx(brute.rate[row.neuron], abs=2e-3)
        for name in ("linear", "barely", "highly"):
            few = 2 / len(brute.regimes[name])  # tokens that rounding moves over an edge
            rate = brute.rates[name][row.neuron]
            assert getattr(row, f"rate_{name}") == pytest.approx(rate, abs=few + 1e-9)
    if quorum is None:
        assert "consensus" not in by_role
        return
    assert by_role["handler"]["neuron"].tolist() == [quorum[0]]
    assert by_role["consensus"]["neuron"].tolist() == quorum[1]
    handler = brute.fires[:, quorum[0]]
    for row in by_role["consensus"].itertuples():
        own = brute.fires[:, row.neuron]
        both, either = (handler & own).sum(), (handler | own).sum()
        assert row.exclusivity == pytest.approx(1 - both / either, abs=5e-3)


def _levels(brute):
    handler, consensus = brute.quorum()
    return brute.fires[:, consensus].sum(1), brute.fires[:, handler]


def _check_levels(table, brute, num_documents):
    level_of, handler = _levels(brute)
    assert table["level"].tolist() == list(range(len(brute.quorum()[1]) + 1))
    assert table["share"].sum() == pytest.approx(1)
    for row in table.itertuples():
        own = level_of == row.level
        assert abs(row.tokens - own.sum()) <= 1
        if own.sum() < 20:
            continue
        assert row.exception_rate == pytest.approx(handler[own].mean(), abs=2e-3 + 1 / own.sum())
        assert row.output_norm == pytest.approx(brute.norms[own].mean(), rel=0.01)
        assert row.residual == pytest.approx(brute.residuals[own].mean(), rel=0.01)
        for name in ("exception_rate", "output_norm", "residual"):
            for way in ("token", "document"):
                low, high = (getattr(row, f"{name}_{way}_{end}") for end in ("low", "high"))
                assert low <= getattr(row, name) <= high


def _check_range(row, mine, brute):
    level_of, handler = _levels(brute)
    owns = [handler[level_of == own] for own in np.unique(level_of)]
    rates = [own.mean() for own in owns if len(own) >= 50]
    assert row["range"] == pytest.approx(max(rates) - min(rates), abs=0.03)
    steps = np.diff(mine["routing_levels"]["exception_rate"].dropna())
    assert row["monotonic"] == bool((steps >= 0).all() or (steps <= 0).all())
    consensus = mine["routing_neurons"].query("role == 'consensus'")
    assert row["exclusivity"] == pytest.approx(consensus["exclusivity"].mean())
    assert row["range_token_low"] <= row["range_token_high"]
    splits = mine.get("routing_splits", pd.DataFrame({"range": []}))["range"]
    assert row["num_splits"] == splits.notna().sum()
    if row["num_splits"]:
        assert row["splits_reaching"] == (splits >= row["range"]).sum()
        assert row["best_split"] == splits.max()


def _check_patterns(table, brute, rows, tokenizer):
    ids = np.concatenate(rows)
    assert table["rank"].tolist() == list(range(len(table)))
    assert len(table) <= 20
    assert table["enrichment"].is_monotonic_decreasing
    for row in table.itertuples():
        bits = [(row.pattern >> place) & 1 for place in range(8)]
        same = (brute.fires[:, row.neurons] == bits).all(1)
        assert abs(row.count - same.sum()) <= 2
        assert row.count >= LAX["LEAST_SEEN"]
        counts = Counter(ids[same].tolist())
        commonest = [number for _, number in counts.most_common(len(row.tokens))]
        if row.count == same.sum():
            of_text = defaultdict(set)  # several tokens may look alike
            for token, number in counts.items():
                of_text[tokenizer.decode([token])].add(number)
            expected = zip(row.tokens, commonest, strict=True)
            assert all(number in of_text[text] for text, number in expected)


def test_other_thresholds(analysed, unit_of, stories):
    found = analysed(stories)
    rows = windows_of(stories, unit_of(stories))
    table = found.tables["routing_thresholds"]
    assert len(table) == len(SPEC.thresholds) * stories.checkpoint.num_layers
    own = table[table["threshold"] == THRESHOLD].set_index("layer")
    assert (own["overlap"].dropna() == 1).all()
    layers = found.tables["routing_layers"].set_index("layer")
    for name in ("phase", "handler", "num_consensus", "gateway", "range"):
        pd.testing.assert_series_equal(own[name], layers[name], check_dtype=False)
    kept = [everything(stories, rows, layer) for layer in layers.index]
    for row in table.itertuples():
        brute, base = (Brute(kept[row.layer], at) for at in (row.threshold, THRESHOLD))
        quorum, known = brute.quorum(), base.quorum()
        assert row.num_consensus == (0 if quorum is None else len(quorum[1]))
        if quorum is not None:
            assert row.handler == quorum[0]
        if known is not None:
            same = set() if quorum is None else set(quorum[1]) & set(known[1])
            assert row.overlap == pytest.approx(len(same) / len(known[1]))


def test_what_else_the_job_says_draws_nothing_anew(analysed, stories):
    one = analysed(stories)
    other = analysed(stories, SPEC.model_copy(update={"thresholds": [THRESHOLD, 0.01]}))
    for name in ("routing_layers", "routing_levels", "routing_splits", "routing_patterns"):
        pd.testing.assert_frame_equal(one.tables[name], other.tables[name])


def test_splits_are_as_large_as_the_quorum_that_they_are_compared_with(
    analysed, stories, monkeypatch
):
    asked, plain = [], findings.random_splits

    def random_splits(fires, num_consensus, number, seed):
        asked.append(num_consensus)
        return plain(fires, num_consensus, number, seed)

    monkeypatch.setattr(findings, "random_splits", random_splits)
    monkeypatch.setattr(roles, "MOST_CONSENSUS", 3)
    layers = analysed(stories).tables["routing_layers"]
    assert asked == [3] * (layers["phase"] == "decision").sum() != []


def test_a_text_too_short_for_a_range(analysed, stories):
    layers = analysed(stories, SPEC.model_copy(update={"windows": 1})).tables["routing_layers"]
    quorums = layers[layers["phase"] == "decision"]
    assert len(quorums)
    unknown = ["range", "range_token_low", "range_document_high", "splits_reaching"]
    assert quorums[unknown].isna().all(axis=None)


@pytest.mark.parametrize("fires", ["activation", "product"])
def test_predictors_in_numbers_of_16_bits_get_the_bits_that_are_kept(
    tiny_folder, unit_of, lax, monkeypatch, fires
):
    model = load_folder("llama", tiny_folder("llama"), dtype="bfloat16")
    kept, given = {}, []

    def keep_tokens(*args):
        for one in passes.keep_tokens(*args):
            kept[one.layer] = one
            yield one

    def noted(values_NK, fires_NK, *others):
        given.append(fires_NK)
        return predictions(values_NK, fires_NK, *others)

    monkeypatch.setattr(routing_work, "keep_tokens", keep_tokens)
    monkeypatch.setattr(routing_work, "predictions", noted)
    spec = PREDICTING.model_copy(update={"fires": fires})
    found = routing(model, unit_of(model, spec), TokenBudget(200), "")
    neurons = found.tables["routing_neurons"]
    assert len(given) == len(kept) == 3
    for layer, fires_NK in enumerate(given):
        own = neurons[neurons["layer"] == layer]
        has_quorum = "handler" in set(own["role"])
        roles_of = ("consensus", "handler") if has_quorum else ("candidate",)
        chosen = [n for role in roles_of for n in own.loc[own["role"] == role, "neuron"]]
        expected = kept[layer].fires.of(chosen)[:, : len(fires_NK)].T
        np.testing.assert_array_equal(fires_NK, expected)


def drawn_for(model, unit):
    return {"checkpoint": model.checkpoint.fingerprint, "corpus": unit.data_fingerprint}


def test_predictions_are_of_these_neurons_and_tokens(analysed, unit_of, tiny_model):
    model = tiny_model("gpt2")
    found = analysed(model, PREDICTING)
    rows = windows_of(model, unit_of(model))
    table = found.tables["routing_predictions"]
    fitted, probed = (-(-number // LENGTH) * LENGTH for number in (FIT, PREDICTED))
    assert found.num_tokens == sum(map(len, rows)) + fitted + probed
    assert (table["num_tokens"] == probed).all()
    brute = Brute(everything(model, rows, 1))
    neurons = found.tables["routing_neurons"].query("layer == 1")
    role = "candidate" if brute.quorum() is None else "consensus"
    chosen = neurons.query("role == @role")["neuron"].tolist()
    if role == "consensus":
        chosen += neurons.query("role == 'handler'")["neuron"].tolist()
    expected = predictions(
        brute.values[:probed, chosen],
        brute.fires[:probed, chosen],
        brute.x[:probed],
        brute.deltas[:probed],
        brute.norms[:probed],
        int(content_hash({**drawn_for(model, unit_of(model)), "layer": 1})[:8], 16),
    )
    mine = table[table["layer"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        mine[["analysis", "setting", "metric"]], expected[["analysis", "setting", "metric"]]
    )
    of_firing = mine["analysis"].isin(["firing", "tree"])
    np.testing.assert_allclose(mine["value"][of_firing], expected["value"][of_firing], atol=0.02)
    np.testing.assert_allclose(mine["reference"], expected["reference"], atol=0.01)
    np.testing.assert_allclose(mine["value"], expected["value"], rtol=0.05, atol=0.05)


def test_little_memory_and_small_batches_change_nothing(analysed, stories, monkeypatch):
    whole = analysed(stories)
    few = partial(groups, most_bytes=150_000)
    monkeypatch.setattr(routing_work, "groups", few)
    cut = analysed(stories, positions=LENGTH)
    assert cut.num_tokens > whole.num_tokens
    for name, table in whole.tables.items():
        columns = [c for c in table if c not in ("tokens", "neurons")]
        pd.testing.assert_frame_equal(
            cut.tables[name][columns], table[columns], rtol=1e-2, atol=1e-2
        )


def test_rows_fit_the_tables(analysed, stories, tiny_model, monkeypatch):
    for found in (analysed(stories), analysed(tiny_model("gpt2"), PREDICTING)):
        for name, frame in found.tables.items():
            stored = arrow(frame.assign(cell_key="k"), TABLES[name])
            assert stored.num_rows == len(frame)
    monkeypatch.setattr(roles, "CONSENSUS_SHIFT", -1.0)  # no shift goes beyond that
    found = analysed(tiny_model("gpt2"))
    for name in ("routing_levels", "routing_splits"):
        assert arrow(found.tables[name].assign(cell_key="k"), TABLES[name]).num_rows == 0
    layers = arrow(found.tables["routing_layers"].assign(cell_key="k"), TABLES["routing_layers"])
    assert layers["handler"].null_count == layers["range"].null_count == 3


def test_what_can_be_left_out(analysed, stories, caplog):
    spec = SPEC.model_copy(update={"splits": 0, "thresholds": []})
    found = analysed(stories, spec)
    for name in ("routing_predictions", "routing_thresholds", "routing_splits"):
        assert found.tables[name].empty
    assert (found.tables["routing_layers"]["num_splits"] == 0).all()
    assert not caplog.records
    analysed(stories, spec.model_copy(update={"predicted_tokens": 100}))
    assert "128 tokens are too few to predict nonlinearity" in caplog.text


def test_text_that_does_not_fit(unit_of, stories, tmp_path):
    with pytest.raises(StaleDataError, match="on the driver"):
        routing(stories, replace(unit_of(stories), data_fingerprint="x"), TokenBudget(100), "")
    file = tmp_path / "empty.txt"
    file.write_text("")
    corpus = FileCorpus(path=str(file))
    empty = replace(
        unit_of(stories),
        corpus=corpus.model_dump(),
        data_fingerprint=corpora.fingerprint(corpus),
    )
    with pytest.raises(ValueError, match="no window of at least 2 tokens"):
        routing(stories, empty, TokenBudget(100), "")
