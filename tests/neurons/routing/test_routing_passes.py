import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from tiny_models import load_folder

from sweeper.models.families import FAMILIES
from sweeper.neurons.passes import Unseen, read
from sweeper.neurons.routing.affine import AffineMap, NormalEquations
from sweeper.neurons.routing.bits import FiringBits
from sweeper.neurons.routing.passes import (
    fit_maps,
    groups,
    keep_tokens,
    routing_tokens,
    watching_mlps,
)
from sweeper.neurons.routing.probe import probe
from sweeper.score.memory import TokenBudget

THRESHOLD = 0.05


def windows(num=30, length=20):
    rng = np.random.default_rng(0)
    return [rng.integers(3, 100, size=length).tolist() for _ in range(num)]


def keep_everything(model, rows, layer):
    """MLP inputs, activations, hidden units and outputs of a layer, one window at a time."""
    kept = {"x": [], "act": [], "units": [], "y": []}
    site = model.sites[layer]

    def note(name, entering=False):
        return lambda _m, i, o: kept[name].append((i[0] if entering else o).flatten(0, -2).clone())

    handles = [
        site.pre_activation.register_forward_hook(note("x", entering=True)),
        site.activation.register_forward_hook(note("act")),
        site.output.register_forward_hook(note("units", entering=True)),
        site.output.register_forward_hook(note("y")),
    ]
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([row]))
    for handle in handles:
        handle.remove()
    return {name: torch.cat(values).double().numpy() for name, values in kept.items()}


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_keeping_all_activations(tiny_model, model_type):
    model, rows = tiny_model(model_type), windows()
    fit = 10 * 20
    found = routing_tokens(model, rows, TokenBudget(64), threshold=THRESHOLD, fit_tokens=fit - 5)
    for layer in range(len(found)):
        kept = keep_everything(model, rows, layer)
        design = np.column_stack([kept["x"], np.ones(len(kept["x"]))])
        solution = np.linalg.lstsq(design[:fit], kept["y"][:fit], rcond=1e-7)[0]
        expected = np.linalg.norm(kept["y"] - design @ solution, axis=1)
        np.testing.assert_allclose(found[layer].residuals, expected, rtol=1e-3, atol=1e-4)
        norms = np.linalg.norm(kept["y"], axis=1)
        np.testing.assert_allclose(found[layer].output_norms, norms, rtol=1e-4)
        fires = kept["act"] > THRESHOLD
        bits = found[layer].fires.of(range(model.sites[layer].size)).T
        unsure = np.abs(kept["act"] - THRESHOLD) < 1e-5
        np.testing.assert_array_equal(bits | unsure, fires | unsure)
        centred = kept["y"] - kept["y"].mean(0)
        share = 1 - np.square(expected).sum() / np.square(centred).sum()
        assert found[layer].linear_share == pytest.approx(share, abs=1e-4)


def test_several_thresholds_in_one_pass(tiny_model):
    model, rows = tiny_model("gpt2"), windows(num=7)
    maps = fit_maps(model, model.sites[1:], rows, TokenBudget(50), 100)
    found = keep_tokens(model, rows, TokenBudget(50), maps, (0.2, 0.0, 0.5), "activation")
    assert [layer.layer for layer in found] == [1, 2]
    for layer in found:
        kept = keep_everything(model, rows, layer.layer)["act"]
        assert layer.fires is layer.bits[0.2]
        for threshold, bits in layer.bits.items():
            unsure = np.abs(kept - threshold) < 1e-5
            fires = bits.of(range(kept.shape[1])).T
            np.testing.assert_array_equal(fires | unsure, (kept > threshold) | unsure)


@pytest.mark.parametrize(("model_type", "fires"), [("gpt2", "activation"), ("llama", "product")])
def test_what_is_kept_for_predictors(tiny_model, model_type, fires):
    model, rows = tiny_model(model_type), windows(num=9)
    maps = fit_maps(model, model.sites, rows, TokenBudget(60), 10_000)
    found = probe(model, rows, TokenBudget(60), maps, {2: (5, 1), 0: (7,)}, fires)
    assert list(found) == [2, 0]
    for layer, neurons in ((2, [5, 1]), (0, [7])):
        kept = keep_everything(model, rows, layer)
        design = np.column_stack([kept["x"], np.ones(len(kept["x"]))])
        solution = np.linalg.lstsq(design, kept["y"], rcond=1e-7)[0]
        np.testing.assert_allclose(found[layer].inputs, kept["x"], atol=1e-4)
        np.testing.assert_allclose(found[layer].deltas, kept["y"] - design @ solution, atol=1e-3)
        values = kept["act" if fires == "activation" else "units"][:, neurons]
        np.testing.assert_allclose(found[layer].values, values, atol=1e-4)


def test_groups_stay_below_the_limit(tiny_model):
    sites = tiny_model("llama").sites  # 48 neurons, width 32: 77 KB of a fit
    (whole,) = groups(sites, 640, (0.1, 0.2))
    assert (len(whole.sites), whole.thresholds) == (3, [(0.1, 0.2)])
    fit = 8 * 33 * (33 + 64)
    cut = list(groups(sites, 640, (0.1, 0.2), most_bytes=2 * fit))
    assert [[site.layer for site in group.sites] for group in cut] == [[0, 1], [2]]
    # 6.4 MB of residuals and norms, 2.4 MB of bits for each threshold.
    cut = list(groups(sites, 400_000, (0.1, 0.2, 0.3), most_bytes=12e6))
    assert [len(group.sites) for group in cut] == [1, 1, 1]
    assert [group.thresholds for group in cut] == [[(0.1, 0.2), (0.3,)]] * 3
    cut = list(groups(sites, 400_000, (0.1, 0.2), most_bytes=1))
    assert cut[0].thresholds == [(0.1,), (0.2,)]
    probed = 4 * 1000 * (64 + 8)
    cut = list(groups(sites, 640, (0.1,), 1000, most_bytes=2 * probed))
    assert [len(group.sites) for group in cut] == [2, 1]


def test_an_infinite_output(tiny_model):
    model, rows = tiny_model("gpt2"), windows(num=3)
    handle = model.sites[1].output.register_forward_hook(lambda _m, _i, output: output / 0)
    try:
        with pytest.raises(FloatingPointError, match="layer 1: an input or output of the MLP"):
            routing_tokens(model, rows, TokenBudget(100))
    finally:
        handle.remove()


def test_the_product_of_a_gated_mlp(tiny_model):
    model, rows = tiny_model("llama"), windows(num=6)
    found = routing_tokens(model, rows, TokenBudget(100), threshold=THRESHOLD, fires="product")
    kept = keep_everything(model, rows, 1)
    unsure = np.abs(kept["units"] - THRESHOLD) < 1e-5
    bits = found[1].fires.of(range(48)).T
    np.testing.assert_array_equal(bits | unsure, (kept["units"] > THRESHOLD) | unsure)


def test_no_windows(tiny_model):
    with pytest.raises(ValueError, match="at least one window"):
        routing_tokens(tiny_model("llama"), [], TokenBudget(10))


def failing(monkeypatch, owner, name, at):
    """Let memory run out in the ``at``-th call of a method, once."""
    calls, original = itertools.count(1), getattr(owner, name)

    def method(*args):
        if next(calls) == at:
            raise torch.OutOfMemoryError("out of memory")
        return original(*args)

    monkeypatch.setattr(owner, name, method)
    return calls


@pytest.mark.parametrize("at", [1, 2, 5, 8])
def test_memory_that_runs_out_while_maps_are_fitted_changes_nothing(tiny_model, monkeypatch, at):
    model, rows = tiny_model("gpt2"), windows()
    expected = fit_maps(model, model.sites, rows, TokenBudget(160), 600)
    failing(monkeypatch, NormalEquations, "_extended", at)
    found = fit_maps(model, model.sites, rows, TokenBudget(160), 600)
    x, y = torch.randn(2, 50, 32)
    for layer, one in expected.items():
        torch.testing.assert_close(
            found[layer].residuals(x, y), one.residuals(x, y), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        *((AffineMap, "residual_norms", at) for at in (1, 2, 5)),
        *((FiringBits, "put", at) for at in (1, 2, 6, 10)),
    ],
)
def test_memory_that_runs_out_while_tokens_are_kept_changes_nothing(
    tiny_model, tiny_folder, monkeypatch, owner, name, at, apart
):
    model, rows = tiny_model("gpt2"), windows()
    maps, limits = fit_maps(model, model.sites, rows, TokenBudget(160), 600), (0.2, 0.0)
    expected = keep_tokens(model, rows, TokenBudget(160), maps, limits, "activation")
    if apart:
        model = load_folder("gpt2", tiny_folder("gpt2"), offload="disk")
    calls = failing(monkeypatch, owner, name, at)
    found = keep_tokens(model, rows, TokenBudget(160), maps, limits, "activation")
    assert next(calls) > at
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.residuals, other.residuals, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(one.output_norms, other.output_norms, rtol=1e-4)
        assert one.spread == pytest.approx(other.spread, rel=1e-4)
        for limit, bits in other.bits.items():
            unsure = bits.words != one.bits[limit].words  # rounding of other batches
            assert unsure.mean() < 0.01


@pytest.mark.parametrize("at", [1, 2, 4, 8])
def test_memory_that_runs_out_while_tokens_are_probed_changes_nothing(tiny_model, monkeypatch, at):
    model, rows = tiny_model("gpt2"), windows(num=9)
    maps, chosen = fit_maps(model, model.sites, rows, TokenBudget(60), 600), {0: (5, 1), 2: (7,)}
    expected = probe(model, rows, TokenBudget(60), maps, chosen, "activation")
    failing(monkeypatch, AffineMap, "residuals", at)
    found = probe(model, rows, TokenBudget(60), maps, chosen, "activation")
    for layer, one in expected.items():
        for kind in ("inputs", "deltas", "values"):
            torch.testing.assert_close(
                getattr(found[layer], kind), getattr(one, kind), rtol=1e-3, atol=1e-5
            )


def test_tokens_that_a_layer_has_not_seen_are_an_error(tiny_model, monkeypatch):
    model, rows = tiny_model("gpt2"), windows(num=4)
    maps = fit_maps(model, model.sites, rows, TokenBudget(60), 600)
    # As if a layer took windows for seen that it has not stored.
    original = Unseen.places

    def places(self, layer):
        own = original(self, layer)
        return None if layer == 1 and self._batch.first else own

    monkeypatch.setattr(Unseen, "places", places)
    with pytest.raises(RuntimeError, match="layer 1: 60 of 80 tokens seen"):
        keep_tokens(model, rows, TokenBudget(60), maps, (0.1,), "activation")
    with pytest.raises(RuntimeError, match="layer 1: 60 of 80 tokens seen"):
        probe(model, rows, TokenBudget(60), maps, {1: (0,)}, "activation")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("model_type", "fires"), [("gpt2", "activation"), ("llama", "product")])
def test_what_fires_in_numbers_of_16_bits(tiny_folder, dtype, model_type, fires):
    model = load_folder(model_type, tiny_folder(model_type), dtype=dtype)
    rows, seen = windows(num=8), defaultdict(list)

    def keep(site, _inputs, pre_NF, units_NF, _outputs):
        values = site.activation(pre_NF.float()) if fires == "activation" else units_NF.float()
        seen[site.layer].append(values)

    limits = (0.01, 0.05, 0.1)
    maps = fit_maps(model, model.sites, rows, TokenBudget(60), 600)
    found = keep_tokens(model, rows, TokenBudget(60), maps, limits, fires)
    with watching_mlps(model.sites, keep):
        read(model, rows, range(len(rows)), TokenBudget(60), lambda _: None)
    for one in found:
        values = torch.cat(seen[one.layer])
        for limit, bits in one.bits.items():
            np.testing.assert_array_equal(bits.of(range(bits.size)).T, values > limit)
