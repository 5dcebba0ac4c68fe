import copy
import itertools
import logging

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy.special import log_softmax, rel_entr
from tiny_models import build_tiny, load_folder

from sweeper.clamp.fork import Fork
from sweeper.models.families import FAMILIES
from sweeper.neurons.passes import Unseen, read
from sweeper.neurons.routing import removal as module
from sweeper.neurons.routing.passes import watching_mlps
from sweeper.neurons.routing.removal import removal
from sweeper.neurons.routing.removal_sums import clustered
from sweeper.neurons.routing.roles import Quorum
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Texts
from sweeper.score.tokens import windows

TEXT = """Once upon a time there was a little girl named Lily. She loved to play outside in the
park with her friends. One day she saw a big red ball and wanted to play with it. But the ball was
too high in the tree, and Tom, the boy from the old house, was not there to help her. """
MLPS = {
    "llama": ("model.layers.{}.mlp", "model.layers.{}.mlp.gate_proj"),
    "gpt2": ("transformer.h.{}.mlp", "transformer.h.{}.mlp.c_fc"),
}
THRESHOLD = 0.05
NUMBERS = ["nll", "change", "kl", "probability_ratio", "rank_change"]
BASELINE = Condition(name="baseline", seed=None, operation=None)


class Plain:
    """A model of transformers in double precision, with its MLPs hooked by hand."""

    def __init__(self, model, rows):
        self.model = copy.deepcopy(model.model).double()
        self.paths = MLPS[model.model.config.model_type]
        self.rows = rows

    def hooked(self, layer, which, hook):
        return self.model.get_submodule(self.paths[which].format(layer)).register_forward_hook(hook)

    def logs(self):
        """(windows, places, vocabulary) log-probabilities."""
        with torch.inference_mode():
            logits = [self.model(torch.tensor([row])).logits[0, :-1] for row in self.rows]
        return log_softmax(torch.stack(logits).numpy(), axis=-1)

    def pre_activations(self, layer):
        """(windows, places, neurons)."""
        seen = []
        handle = self.hooked(layer, 1, lambda _m, _i, output: seen.append(output[0, :-1]))
        self.logs()
        handle.remove()
        return torch.stack(seen).numpy()

    def without_mlp(self, layer):
        handle = self.hooked(layer, 0, lambda _m, _i, output: torch.zeros_like(output))
        logs = self.logs()
        handle.remove()
        return logs

    def with_neuron(self, layer, neuron, value):
        def hook(_module, _inputs, output):
            changed = output.clone()
            changed[..., neuron] = value
            return changed

        handle = self.hooked(layer, 1, hook)
        logs = self.logs()
        handle.remove()
        return logs


ACT = {
    "llama": lambda a: a / (1 + np.exp(-a)),
    "gpt2": lambda a: 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))),
}


def chosen_quorum(fires, num_consensus):
    """Neurons that fire often enough, and seldom enough, for all levels to have tokens."""
    rates = fires.mean((0, 1))
    consensus = np.argsort(np.abs(rates - 0.55), kind="stable")[:num_consensus]
    rest = np.where(np.isin(np.arange(len(rates)), consensus), 9, np.abs(rates - 0.15))
    return Quorum(handler=int(np.argmin(rest)), consensus=tuple(map(int, consensus)))


def expected_rows(plain, layer, quorum, act):
    """The table of one layer by loops over tokens."""
    pre = plain.pre_activations(layer)
    fires = act(pre) > THRESHOLD
    on = pre[..., quorum.handler][fires[..., quorum.handler]].mean()
    base = plain.logs()
    changed = {
        "remove_mlp": plain.without_mlp(layer),
        "handler_zero": plain.with_neuron(layer, quorum.handler, 0.0),
        "handler_on": plain.with_neuron(layer, quorum.handler, on),
    }
    rows = []
    for name, logs in changed.items():
        tokens = []
        for window, row in enumerate(plain.rows):
            for place in range(len(row) - 1):
                target = row[place + 1]
                p, q = base[window, place], logs[window, place]
                tokens.append(
                    {
                        "window": window,
                        "level": sum(fires[window, place, neuron] for neuron in quorum.consensus),
                        "nll": -p[target],
                        "change": p[target] - q[target],
                        "kl": rel_entr(np.exp(p), np.exp(q)).sum(),
                        "before": np.exp(p[target]),
                        "after": np.exp(q[target]),
                        "rank_change": list(np.argsort(-q)).index(target)
                        - list(np.argsort(-p)).index(target),
                    }
                )
        table = pd.DataFrame(tokens)
        for level in [*range(len(quorum.consensus) + 1), None]:
            own = table if level is None else table[table["level"] == level]
            rows.append(
                {
                    "layer": layer,
                    "intervention": name,
                    "level": level,
                    "tokens": len(own),
                    "num_documents": own["window"].nunique(),
                    **{n: own[n].mean() for n in ("nll", "change", "kl", "rank_change")},
                    "probability_ratio": own["after"].mean() / own["before"].mean(),
                    **robust(own),
                }
            )
    return rows


def robust(own):
    """statsmodels' cluster-robust interval of the mean."""
    if own["window"].nunique() < 2:
        return {"low": np.nan, "high": np.nan}
    ols = sm.OLS(own["change"].to_numpy(), np.ones(len(own)))
    groups = pd.factorize(own["window"])[0]
    fitted = ols.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    low, high = fitted.conf_int()[0]
    return {"low": low, "high": high}


def assert_same(found, expected, atol):
    assert found["level"].isna().tolist() == expected["level"].isna().tolist()
    assert found["level"].dropna().tolist() == expected["level"].dropna().tolist()
    for name in ("layer", "intervention", "tokens", "num_documents"):
        assert found[name].tolist() == expected[name].tolist()
    for name in [*NUMBERS, "low", "high"]:
        # A rank may move by one where two tokens are equally probable but for rounding.
        tolerance = 0.05 if name == "rank_change" else atol
        np.testing.assert_allclose(
            found[name], expected[name], atol=tolerance, rtol=1e-3, err_msg=name
        )


def random_rows(num=6, length=17):
    rng = np.random.default_rng(0)
    return [rng.integers(3, 100, size=length).tolist() for _ in range(num)]


def story_rows(model, num=6, length=32):
    rows = windows(model.tokenizer, TEXT * 4, length, length, num)
    assert [len(row) for row in rows] == [length] * num
    return rows


def quorums_of(plain, act, layers):
    return {
        layer: chosen_quorum(act(plain.pre_activations(layer)) > THRESHOLD, number)
        for layer, number in layers.items()
    }


@pytest.mark.parametrize(
    ("model_type", "layers"), [("llama", {1: 3, 4: 2}), ("gpt2", {0: 2, 2: 3})]
)
def test_equals_plain_transformers_in_double_precision(request, tiny_model, model_type, layers):
    trained = model_type == "llama"
    model = request.getfixturevalue("stories") if trained else tiny_model(model_type)
    rows = story_rows(model) if trained else random_rows()
    plain, act = Plain(model, rows), ACT[model_type]
    quorums = quorums_of(plain, act, layers)
    found = removal(model, rows, quorums, TokenBudget(4096), threshold=THRESHOLD)
    expected = [
        row for at, quorum in quorums.items() for row in expected_rows(plain, at, quorum, act)
    ]
    assert len(found) == sum(3 * (number + 2) for number in layers.values())
    assert_same(found, pd.DataFrame(expected), atol=2e-5)
    assert (found["tokens"] > 0).mean() >= (1 if trained else 0.8)
    assert found["low"].notna().any()
    whole = found[found["level"].isna()].set_index(["layer", "intervention"])
    assert (whole["tokens"] == len(rows) * (len(rows[0]) - 1)).all()
    assert (whole["kl"] > 0).all()
    if trained:
        assert (whole["change"].xs("remove_mlp", level="intervention") > 0.01).all()


QUORUMS = {
    0: Quorum(handler=3, consensus=(5, 6)),
    1: Quorum(handler=7, consensus=(0, 1, 2)),
    2: Quorum(handler=9, consensus=(4,)),
}
"""Neurons of small random models, whose values are small."""
LOW = 0.001


def assert_close(one, other):
    assert one[["layer", "intervention"]].equals(other[["layer", "intervention"]])
    assert one["tokens"].tolist() == other["tokens"].tolist()
    for name in [*NUMBERS, "low", "high"]:
        tolerance = 0.05 if name == "rank_change" else 3e-5
        np.testing.assert_allclose(one[name], other[name], atol=tolerance, err_msg=name)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_all_at_once_are_one_condition_at_a_time(tiny_model, model_type):
    model, rows = tiny_model(model_type), random_rows(num=5, length=12)
    together = removal(model, rows, QUORUMS, TokenBudget(4096), threshold=LOW)
    # A budget of one position: one window, one copy, one condition.
    alone = removal(model, rows, QUORUMS, TokenBudget(1), threshold=LOW)
    assert_close(together, alone)
    whole = together[together["level"].isna()].set_index(["layer", "intervention"])
    conditions = [
        BASELINE,
        Condition(
            name="m",
            seed=None,
            operation="remove_mlp",
            neurons={1: tuple(range(model.sites[1].size))},
        ),
        Condition(name="z", seed=None, operation="zero", neurons={1: (7,)}),
    ]
    scored = [score_texts(model, Texts(rows=rows), [one], TokenBudget(64))[0] for one in conditions]
    nll = [-np.concatenate(scores.logprobs).mean() for scores in scored]
    for name, value in zip(("remove_mlp", "handler_zero"), nll[1:], strict=True):
        assert whole.loc[(1, name), "nll"] == pytest.approx(nll[0], abs=3e-5)
        assert whole.loc[(1, name), "change"] == pytest.approx(value - nll[0], abs=3e-5)


def test_layers_are_independent_of_one_another(tiny_model):
    model, rows = tiny_model("llama"), random_rows()
    together = removal(model, rows, QUORUMS, TokenBudget(4096), threshold=LOW)
    apart = [
        removal(model, rows, {layer: quorum}, TokenBudget(64), threshold=LOW)
        for layer, quorum in QUORUMS.items()
    ]
    assert_close(together, pd.concat(apart, ignore_index=True))


def test_lower_layers_are_computed_once(tiny_model, monkeypatch):
    """Baseline and nine conditions, and each layer passed by those that have parted so far."""
    counted = []
    original = Fork.forward

    def forward(self, batch, members, *args):
        counted.append(self.num_layer_passes(members))
        return original(self, batch, members, *args)

    monkeypatch.setattr(Fork, "forward", forward)
    removal(tiny_model("llama"), random_rows(), QUORUMS, TokenBudget(4096), threshold=LOW)
    # Of layer 0 the unclamped copy (handlers at 0 are derived from it), one without MLP, one with
    # the handler on; then these three and the handler at 0, and so forth.
    assert counted == [3 + (3 + 3) + (6 + 3)]


def test_the_product_of_a_gated_mlp(tiny_model):
    model, rows = tiny_model("llama"), random_rows()
    plain, act = Plain(model, rows), ACT["llama"]
    units, pre, ups = [], plain.pre_activations(1), []
    up = plain.model.model.layers[1].mlp.up_proj
    handle = up.register_forward_hook(lambda _m, _i, output: ups.append(output[0, :-1]))
    plain.logs()
    handle.remove()
    units = act(pre) * torch.stack(ups).numpy()
    quorum = chosen_quorum(units > THRESHOLD, 3)
    found = removal(model, rows, {1: quorum}, TokenBudget(64), threshold=THRESHOLD, fires="product")
    levels = (units[..., quorum.consensus] > THRESHOLD).sum(-1)
    counts = found[found["intervention"] == "remove_mlp"].set_index("level")["tokens"]
    assert counts.loc[[0, 1, 2, 3]].tolist() == np.bincount(levels.ravel(), minlength=4).tolist()
    on = pre[..., quorum.handler][units[..., quorum.handler] > THRESHOLD].mean()
    changed = plain.with_neuron(1, quorum.handler, on)
    base, targets = plain.logs(), np.array(rows)[:, 1:, None]
    change = (np.take_along_axis(base, targets, 2) - np.take_along_axis(changed, targets, 2)).mean()
    whole = found[found["level"].isna()].set_index("intervention")
    assert whole.loc["handler_on", "change"] == pytest.approx(change, abs=1e-5)


def test_memory_running_out_makes_batches_smaller(tiny_model, monkeypatch):
    model, rows = tiny_model("llama"), random_rows()
    expected = removal(model, rows, QUORUMS, TokenBudget(4096), threshold=LOW)
    original = module.compare

    def compare(loaded, hidden, targets):
        if len(hidden) * len(targets) > 60:
            raise torch.OutOfMemoryError("out of memory")
        return original(loaded, hidden, targets)

    monkeypatch.setattr(module, "compare", compare)
    budget = TokenBudget(4096)
    assert_close(removal(model, rows, QUORUMS, budget, threshold=LOW), expected)
    assert 1 <= budget.positions < 64
    monkeypatch.setattr(module, "compare", lambda *_: compare(None, [0], range(61)))
    with pytest.raises(torch.OutOfMemoryError):
        removal(model, rows, QUORUMS, budget, threshold=LOW)
    handles = [site.pre_activation._forward_hooks for site in model.sites]
    assert not any(handles)


@pytest.mark.parametrize("at", [1, 2, 5])
def test_memory_that_runs_out_while_levels_are_counted_changes_nothing(tiny_model, monkeypatch, at):
    model, rows = tiny_model("llama"), random_rows()
    expected = removal(model, rows, QUORUMS, TokenBudget(40), threshold=LOW)
    calls, original = itertools.count(1), torch.Tensor.double

    def double(values):
        if values.dim() == 1 and next(calls) == at:  # handlers' values where they fire
            raise torch.OutOfMemoryError("out of memory")
        return original(values)

    monkeypatch.setattr(torch.Tensor, "double", double)
    assert_close(removal(model, rows, QUORUMS, TokenBudget(40), threshold=LOW), expected)
    assert next(calls) > at


def test_tokens_that_a_layer_has_not_seen_are_an_error(tiny_model, monkeypatch):
    original = Unseen.places

    def places(self, layer):
        own = original(self, layer)
        return None if layer == 1 and self._batch.first else own

    monkeypatch.setattr(Unseen, "places", places)
    with pytest.raises(RuntimeError, match="layer 1: 32 of 96 tokens seen"):
        removal(tiny_model("llama"), random_rows(), QUORUMS, TokenBudget(40), threshold=LOW)


@pytest.mark.parametrize("fires", ["activation", "product"])
def test_levels_in_numbers_of_16_bits(tiny_folder, fires):
    model, rows = load_folder("llama", tiny_folder("llama"), dtype="bfloat16"), random_rows(num=40)
    seen = []

    def keep(site, _inputs, pre_NF, units_NF, _outputs):
        seen.append(site.activation(pre_NF.float()) if fires == "activation" else units_NF.float())

    with watching_mlps(model.sites[1:2], keep):
        read(model, [row[:-1] for row in rows], range(len(rows)), TokenBudget(40), lambda _: None)
    values = torch.cat(seen).numpy()
    neurons = tuple(range(7))
    # A number of float32 that lies beside one of the model's, where rounding decides.
    at = np.sort(values[:, 3][values[:, 3] > 0])
    threshold = float(np.nextafter(at[len(at) // 2], np.float32(0)))
    table = removal(
        model,
        rows,
        {1: Quorum(handler=9, consensus=neurons)},
        TokenBudget(40),
        threshold=threshold,
        fires=fires,
    )
    levels = (values[:, neurons] > threshold).sum(1)
    counts = table[table["intervention"] == "remove_mlp"].dropna(subset="level")["tokens"]
    assert counts.tolist() == np.bincount(levels, minlength=8).tolist()


def test_layers_kept_apart(tiny_model, tmp_path):
    apart = load_folder("llama", build_tiny("llama", tmp_path / "model"), offload="disk")
    assert apart.is_apart
    rows = random_rows()
    found = removal(apart, rows, QUORUMS, TokenBudget(100), threshold=LOW)
    expected = removal(tiny_model("llama"), rows, QUORUMS, TokenBudget(100), threshold=LOW)
    assert_close(found, expected)
    assert all(weight.is_meta for weight in apart.layers.parameters())


def test_a_handler_that_never_fires_is_not_switched_on(tiny_model, caplog):
    with caplog.at_level(logging.WARNING, logger="sweeper"):
        found = removal(
            tiny_model("llama"), random_rows(), QUORUMS, TokenBudget(100), threshold=1000.0
        )
    assert set(found["intervention"]) == {"remove_mlp", "handler_zero"}
    assert caplog.messages == [
        f"layer {layer}: the handler never fires in this text" for layer in QUORUMS
    ]
    # No consensus neuron fires either: higher levels have no tokens, and no numbers.
    empty = found[found["level"].fillna(0) > 0]
    assert (empty["tokens"] == 0).all()
    assert (empty["num_documents"] == 0).all()
    assert empty[[*NUMBERS, "low", "high"]].isna().all(axis=None)


def test_one_document_has_no_interval(tiny_model):
    found = removal(tiny_model("llama"), random_rows(num=1), QUORUMS, TokenBudget(100))
    assert found[["low", "high"]].isna().all(axis=None)
    assert found.loc[found["level"].isna(), NUMBERS].notna().all(axis=None)


def test_without_a_quorum_nothing_is_computed(tiny_model):
    found = removal(tiny_model("llama"), [], {}, TokenBudget(100))
    assert found.empty
    assert {"layer", "intervention", "level", *NUMBERS, "low", "high"} <= set(found.columns)


@pytest.mark.parametrize("rows", [[], [[5]], [[5, 6, 7], [5, 6]]])
def test_windows_that_will_not_do(tiny_model, rows):
    with pytest.raises(ValueError, match="windows of one length, of at least 2 tokens"):
        removal(tiny_model("llama"), rows, QUORUMS, TokenBudget(100))


def test_numbers_that_are_none_and_clamps_that_do_nothing(tiny_folder):
    model = load_folder("llama", tiny_folder("llama"))
    down = model.sites[2].output.weight.data
    kept = down.clone()
    down.zero_()
    quorums = {2: QUORUMS[2]}
    with pytest.raises(RuntimeError, match="remove_mlp changed not a single value of layer 2"):
        removal(model, random_rows(), quorums, TokenBudget(100), threshold=LOW)
    down.copy_(kept)
    down[:, 9] = torch.nan
    with pytest.raises(FloatingPointError, match="in layer 2: a loss or a divergence is NaN"):
        removal(model, random_rows(), quorums, TokenBudget(100), threshold=LOW)


def test_the_interval_is_that_of_statsmodels():
    rng = np.random.default_rng(3)
    documents = np.repeat(np.arange(9), rng.integers(1, 40, 9))
    change = rng.normal(size=9)[documents] + rng.normal(size=len(documents))
    own = pd.DataFrame({"window": documents, "change": change})
    totals = own.groupby("window")["change"].agg(["sum", "count"]).to_numpy(np.float64)
    silent = np.vstack([totals, [[0, 0]]])  # a document without tokens is no document
    mean, low, high = clustered(silent[:, 0], silent[:, 1])
    assert mean == pytest.approx(change.mean())
    expected = robust(own)
    assert (low, high) == pytest.approx((expected["low"], expected["high"]))


def test_no_interval_without_spread():
    mean, low, high = clustered(np.zeros(4), np.array([3.0, 1.0, 2.0, 2.0]))
    assert mean == 0
    assert np.isnan([low, high]).all()
