import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.neurons.grid import ROUNDING, Grid, count_into, grid_for


def edges_by_hand(centre: float, scale: float, bins: int) -> np.ndarray:
    """From the definition u = t / (1 + |t|), solved for x; without the infinite ends."""
    u = np.linspace(-1, 1, bins + 1)[1:-1]
    return centre + scale * u / (1 - np.abs(u))


@pytest.mark.parametrize("bins", [64, 1000, 4096])
def test_every_value_lies_in_its_bin(bins):
    values = torch.tensor(np.random.default_rng(0).standard_cauchy((5000, 3)), dtype=torch.float32)
    grid = grid_for(values[:100])
    index = grid.index(values, bins).numpy()
    edges = grid.edges(bins, values.amin(0), values.amax(0)).numpy()
    for neuron in range(3):
        x, own = values[:, neuron].double().numpy(), index[:, neuron]
        low, high = edges[neuron][own], edges[neuron][own + 1]
        slack = (high - low) * bins * ROUNDING
        assert ((low - slack <= x) & (x <= high + slack)).all()
        inner = edges_by_hand(float(grid.centre[neuron]), float(grid.scale[neuron]), bins)
        inside = (inner > x.min()) & (inner < x.max())
        np.testing.assert_allclose(edges[neuron][1:-1][inside], inner[inside], rtol=1e-12)


@given(
    sd=st.floats(0.01, 100),
    mean=st.floats(-50, 50),
    heavy=st.floats(0, 3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_the_mean_width_is_bounded_for_every_distribution(sd, mean, heavy, seed):
    normal = np.random.default_rng(seed).normal(size=20000)
    x = np.sign(normal) * np.abs(normal) ** (1 + heavy)
    x = torch.tensor(mean + sd * (x - x.mean()) / x.std(), dtype=torch.float32)[:, None]
    bins = 512
    grid = grid_for(x)
    widths = grid.edges(bins, x.amin(0), x.amax(0)).diff()[0]
    mean_width = float(widths[grid.index(x, bins)[:, 0].long()].mean())
    # 8 sd / bins, a tenth more for the scale's rounding to a power of 2 and the centre's to an
    # eighth of it.
    assert mean_width <= 8 * 1.1 * float(x.double().std(correction=0)) / bins


def test_a_bin_depends_on_the_value_alone():
    values = torch.randn(257, 65)
    grid = grid_for(values)
    together = grid.index(values, 1024)
    for row in range(0, 257, 16):
        for neuron in range(0, 65, 8):
            chosen = slice(neuron, neuron + 1)
            alone = grid[chosen].index(values[row : row + 1, chosen].clone(), 1024)
            assert int(alone) == int(together[row, neuron])


def test_a_grid_survives_a_change_of_the_last_digits():
    values = torch.randn(2000, 500)
    first, second = grid_for(values), grid_for(values * (1 + 1e-6))
    same = (first.centre == second.centre) & (first.scale == second.scale)
    assert int(same.sum()) >= 495
    assert (first.scale.log2() % 1 == 0).all()


def test_a_constant_neuron_has_a_grid():
    grid = grid_for(torch.tensor([[0.0, 3.0]]).repeat(10, 1))
    assert (grid.scale > 0).all()
    assert grid.index(torch.tensor([[0.0, 3.0], [1e20, -1e20]]), 64).tolist()[1] == [63, 0]


@pytest.mark.parametrize("size", [3, 700])
def test_counts_equal_numpys(size):
    index = torch.randint(0, 64, (size, 5), dtype=torch.int32)
    counts = torch.ones((5, 64), dtype=torch.int32)
    expected = [1 + np.bincount(index[:, neuron].numpy(), minlength=64) for neuron in range(5)]
    count_into(counts, index.clone())
    np.testing.assert_array_equal(counts.numpy(), expected)


def test_some_grids_are_those_of_their_neurons():
    grid = Grid(torch.arange(4.0), torch.full((4,), 2.0))
    assert grid[torch.tensor([3, 1])].centre.tolist() == [3.0, 1.0]
    assert grid[1:3].centre.tolist() == [1.0, 2.0]
