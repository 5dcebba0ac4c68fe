import numpy as np
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.neurons.routing.passes import routing_tokens
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
