import numpy as np
import torch
from scipy import stats

from sweeper.neurons.statistics import neuron_statistics


def test_moments_equal_scipy():
    rng = np.random.default_rng(1)
    values = np.stack(
        [rng.normal(3, 2, 5000), rng.exponential(size=5000), rng.uniform(-1, 1, 5000)]
    )
    found = {
        name: column.numpy() for name, column in neuron_statistics(torch.tensor(values)).items()
    }
    np.testing.assert_allclose(found["mean"], values.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found["sd"], values.std(1), rtol=1e-12)
    np.testing.assert_allclose(found["skew"], stats.skew(values, axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["kurtosis"], stats.kurtosis(values, axis=1), rtol=1e-9)
    np.testing.assert_array_equal(found["share_negative"], (values < 0).mean(1))
    np.testing.assert_allclose(found["mean_abs"], np.abs(values).mean(1), rtol=1e-12)


def test_a_shift_or_scale_leaves_the_shape_alone():
    values = torch.tensor(np.random.default_rng(2).gamma(1.5, size=(2, 4000)))
    plain, moved = neuron_statistics(values), neuron_statistics(values * 7 - 100)
    for name in ("skew", "kurtosis", "wd"):
        np.testing.assert_allclose(moved[name], plain[name], rtol=1e-8)


def test_a_neuron_that_never_varies_has_no_shape():
    values = torch.full((2, 50), 0.3)
    values[1] = torch.linspace(-1, 1, 50)
    found = neuron_statistics(values)
    for name in ("skew", "kurtosis", "wd"):
        assert found[name].isnan().tolist() == [True, False]
    assert found["mean"].tolist()[0] == np.float32(0.3)
