import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from sweeper.neurons.activity import cutoff, rounded_up


@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu"])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.1, 1.0])
def test_the_cutoff_says_the_same_as_the_activation(name, threshold):
    activation = ACT2FN[name]
    least = cutoff(activation, threshold)
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(scale=2, size=20_000).astype(np.float32))
    near = torch.tensor(least) * torch.tensor([1 - 1e-6, 1.0, 1 + 1e-6])
    values = torch.cat([values, near, torch.zeros(1)])
    assert torch.equal(values >= least, activation(values) > threshold)


def test_thresholds_that_make_no_sense():
    with pytest.raises(ValueError, match="at rest"):
        cutoff(torch.nn.ReLU(), -0.1)
    with pytest.raises(ValueError, match="no activation exceeds"):
        cutoff(torch.nn.Sigmoid(), 2.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("number", [1e-45, 0.1, 0.25, 3.0])
def test_a_cutoff_in_other_numbers_is_the_next_one(dtype, number):
    found = rounded_up(number, dtype)
    exact = float(torch.tensor(number, dtype=torch.float32))
    assert found >= exact
    values = torch.linspace(0, 4, 20_001).to(dtype)
    np.testing.assert_array_equal((values >= found).numpy(), (values.float() >= exact).numpy())
