import numpy as np
import pytest
import torch

from sweeper.neurons.routing.affine import NormalEquations


def draw(tokens=400, inputs=12, outputs=7, rank=None):
    """Inputs far from 0 and of very different sizes, and outputs that are not affine in them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(tokens, rank or inputs)) @ rng.normal(size=(rank or inputs, inputs))
    x = 1000 + x * np.logspace(-2, 1, inputs)
    y = np.tanh(x - 1000) @ rng.normal(size=(inputs, outputs)) + 50
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("rank", [None, 5])
def test_equals_lstsq(rank):
    x, y = draw(rank=rank)
    equations = NormalEquations.around(x[:40], y[:40])
    for part_x, part_y in zip(x.split(64), y.split(64), strict=True):
        equations.add(part_x, part_y)
    found = equations.solve().residual_norms(x, y)
    design = np.column_stack([x - x.mean(0), np.ones(len(x))])
    solution = np.linalg.lstsq(design, y.numpy(), rcond=1e-10)[0]
    expected = np.linalg.norm(y.numpy() - design @ solution, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_affine_map_leaves_nothing_over():
    x, _ = draw()
    y = (x - 1000) @ torch.randn(12, 3, dtype=torch.float64) - 4
    equations = NormalEquations.around(x[:50].float(), y[:50].float())
    equations.add(x, y)
    assert equations.solve().residual_norms(x, y).max() < 1e-6


class Refused:
    """Outputs that memory does not suffice for."""

    def double(self):
        raise torch.OutOfMemoryError("out of memory")


def test_what_fails_half_way_changes_nothing():
    x, y = draw()
    equations = NormalEquations.around(x, y)
    equations.add(x, y)
    before = equations.products.clone(), equations.crossed.clone()
    with pytest.raises(torch.OutOfMemoryError):
        equations.add(x, Refused())
    assert torch.equal(equations.products, before[0])
    assert torch.equal(equations.crossed, before[1])


def test_no_tokens():
    x, y = draw()
    with pytest.raises(ValueError, match="at least one token"):
        NormalEquations.around(x, y).solve()
