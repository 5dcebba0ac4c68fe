import numpy as np
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.neurons.firing import firing_of
from sweeper.score.memory import TokenBudget

LENGTH = 12
THRESHOLDS = (0.0, 0.05)


def windows(num=5, last=7):
    """Windows of full length, and a shorter one at the end."""
    rng = np.random.default_rng(0)
    return [rng.integers(3, 100, size=n).tolist() for n in [LENGTH] * num + [last]]


def activations(model, rows):
    """Layer -> post-activation values by plain hooks on the activation functions, (W, T, F)."""
    kept = [[] for _ in model.sites]

    def hook_for(layer):
        # OPT's MLPs know no windows, only places.
        return lambda _m, _i, output: kept[layer].append(output.flatten(0, -2).clone())

    handles = [s.activation.register_forward_hook(hook_for(s.layer)) for s in model.sites]
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([row]))
    for handle in handles:
        handle.remove()
    return [[values[..., : model.sites[0].size].numpy() for values in of_one] for of_one in kept]


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_plain_hooks(tiny_model, model_type, threshold):
    model, rows = tiny_model(model_type), windows()
    found = firing_of(model, rows, range(len(rows)), TokenBudget(30), threshold, LENGTH)
    expected = activations(model, rows)
    for firing, of_layer in zip(found, expected, strict=True):
        fires = [values > threshold for values in of_layer]
        # A value at the threshold itself may fall on either side by rounding.
        unsure = sum(int((np.abs(v - threshold) < 1e-6).sum()) for v in of_layer if threshold)
        together = np.concatenate(fires)
        difference = np.abs(firing.active.numpy() - together.sum(0)).sum()
        assert difference <= unsure
        positions = np.abs(firing.by_position.numpy() - np.stack(fires[:-1]).sum(0)).sum()
        assert positions <= unsure
        assert (firing.num_tokens, firing.num_windows) == (len(together), len(rows) - 1)
        assert 0.05 < together.mean() < 0.95


def test_parts_merge_to_the_whole(tiny_model):
    model, rows = tiny_model("llama"), windows()
    whole, first, second = (
        firing_of(model, rows, some, TokenBudget(24), 0.0, LENGTH)
        for some in (range(6), range(2), range(2, 6))
    )
    for all_of_it, one, other in zip(whole, first, second, strict=True):
        merged = one.merged(other)
        assert torch.equal(merged.active, all_of_it.active)
        assert torch.equal(merged.by_position, all_of_it.by_position)
        assert (merged.num_tokens, merged.num_windows) == (all_of_it.num_tokens, 5)


def test_frequency_by_position(tiny_model):
    model = tiny_model("opt")
    (firing, *_) = firing_of(model, windows(), range(6), TokenBudget(100), 0.0, LENGTH)
    frequency = firing.frequency_by_position()
    assert frequency.shape == (48, LENGTH)
    np.testing.assert_allclose(frequency * 5, firing.by_position.numpy().T, atol=1e-12)
    (short, *_) = firing_of(model, windows(num=0), range(1), TokenBudget(100), 0.0, LENGTH)
    assert np.isnan(short.frequency_by_position()).all()
