import numpy as np
import pytest
import torch
from scipy import stats

from sweeper.models.families import FAMILIES
from sweeper.neurons.census import census
from sweeper.neurons.statistics import STATISTICS
from sweeper.score.memory import TokenBudget


def rows_of(lengths: list[int], vocabulary: int = 128) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(vocabulary, size=length).tolist() for length in lengths]


def plain_pre_activations(model, rows) -> dict[int, np.ndarray]:
    """Kept one row at a time, by hooks on the modules that hold the activation function."""
    kept = {site.layer: [] for site in model.sites}
    handles = [
        site.activation.register_forward_hook(
            lambda _m, inputs, _o, layer=site.layer: kept[layer].append(
                inputs[0].flatten(0, -2).double().numpy().copy()
            )
        )
        for site in model.sites
    ]
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([row]))
    for handle in handles:
        handle.remove()
    return {layer: np.concatenate(parts) for layer, parts in kept.items()}


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_statistics_of_kept_activations(tiny_model, model_type):
    model = tiny_model(model_type)
    rows = rows_of([40, 40, 40, 17])
    table = census(model, rows, TokenBudget(80), memory_gb=1.0)
    assert (table["num_tokens"] == 137).all()
    for layer, values in plain_pre_activations(model, rows).items():
        part = table[table["layer"] == layer]
        assert part["neuron"].tolist() == list(range(values.shape[1]))
        np.testing.assert_allclose(part["mean"], values.mean(0), atol=1e-5)
        np.testing.assert_allclose(part["sd"], values.std(0), rtol=1e-4)
        np.testing.assert_allclose(part["skew"], stats.skew(values), atol=1e-3)
        np.testing.assert_allclose(part["kurtosis"], stats.kurtosis(values), atol=1e-3)
        np.testing.assert_allclose(part["share_negative"], (values < 0).mean(0), atol=1 / 137)


def test_wd_equals_scipy_on_the_real_model(stories):
    rows = rows_of([64] * 8, 512)
    table = census(stories, rows, TokenBudget(512), memory_gb=1.0)
    values = plain_pre_activations(stories, rows)[2]
    reference = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    found = table[table["layer"] == 2]["wd"].to_numpy()
    z = (values - values.mean(0)) / values.std(0)
    for neuron in range(0, z.shape[1], 17):
        expected = stats.wasserstein_distance(z[:, neuron], reference)
        assert found[neuron] == pytest.approx(expected, abs=2e-4)


def test_less_memory_means_more_passes_and_the_same_numbers(tiny_model):
    model = tiny_model("llama")
    rows = rows_of([32] * 4)
    layer_gb = 128 * model.sites[0].size * 4 / 1e9
    whole = census(model, rows, TokenBudget(64), memory_gb=1.0)
    passes = []
    handle = model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    in_parts = census(model, rows, TokenBudget(64), memory_gb=layer_gb * 1.5)
    handle.remove()
    assert len(passes) == 3 * 2  # three layers alone, two batches each
    for name in STATISTICS:
        np.testing.assert_array_equal(in_parts[name], whole[name])
    with pytest.raises(MemoryError, match=r"census\.memory_gb"):
        census(model, rows, TokenBudget(64), memory_gb=layer_gb * 0.5)


def test_activations_that_are_no_numbers_are_a_failure(tiny_model):
    model = tiny_model("opt")
    handle = model.layers[1].register_forward_pre_hook(lambda _m, args: (args[0] * torch.inf,))
    try:
        with pytest.raises(FloatingPointError, match="layer 1"):
            census(model, rows_of([8, 8]), TokenBudget(64), memory_gb=1.0)
    finally:
        handle.remove()


def test_hooks_are_gone_afterwards(tiny_model):
    model = tiny_model("phi3")
    census(model, rows_of([8, 8]), TokenBudget(64), memory_gb=1.0)
    assert not any(site.pre_activation._forward_hooks for site in model.sites)


def test_running_out_of_memory_halves_the_packing_and_changes_nothing(tiny_model):
    model = tiny_model("qwen2")
    rows = rows_of([16] * 12 + [9])
    expected = census(model, rows, TokenBudget(1000), memory_gb=1.0)
    seen = []

    # The allocator cannot be made to fail at will here; its error, raised where it would be.
    def refuse_large_batches(_module, args):
        seen.append(len(args[0]))
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("out of memory")

    handle = model.layers[2].register_forward_pre_hook(refuse_large_batches)
    try:
        budget = TokenBudget(1000)
        found = census(model, rows, budget, memory_gb=1.0)
    finally:
        handle.remove()
    assert seen == [12, 6, 3, 3, 3, 3, 1]
    assert budget.positions == 3 * 16
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
