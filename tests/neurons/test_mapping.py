import numpy as np
import pytest
import torch

from sweeper.neurons.grid import grid_for
from sweeper.neurons.mapping import (
    PairSummary,
    distances,
    draw_pairs,
    exact_difficulty,
    gaps,
)


def by_hand(inputs: np.ndarray, values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """MD as the paper writes it, one neuron and one pair at a time."""
    found = []
    for neuron in range(values.shape[1]):
        dx = [np.sqrt(((inputs[i] - inputs[j]) ** 2).sum()) for i, j in pairs]
        dy = [abs(values[i, neuron] - values[j, neuron]) for i, j in pairs]
        widest, median = max(dx), np.median(dy)
        found.append(np.mean([(y / median) / (x / widest) for x, y in zip(dx, dy, strict=True)]))
    return np.array(found)


def layer(size: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and what three kinds of neurons make of them: linear, a step, heavy tails."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(size, 6)).astype(np.float32)
    along = inputs @ rng.normal(size=6)
    values = np.stack([along, np.sign(along) + 0.1 * along, along**5], 1)
    return torch.from_numpy(inputs), torch.tensor(values, dtype=torch.float32)


def difficulty(
    inputs: torch.Tensor, values: torch.Tensor, pairs: torch.Tensor, bins: int
) -> np.ndarray:
    summary = PairSummary.empty(values.shape[1], bins, values.device)
    grid = grid_for(values)
    for part in torch.split(pairs, 37):
        summary.add(grid, inputs, values, part)
    return summary.difficulty(grid, values.amax(0) - values.amin(0)).numpy()


@pytest.mark.parametrize("num_pairs", [1, 2, 99, 200])
def test_exact_equals_the_definition(num_pairs):
    inputs, values = layer()
    pairs = torch.randperm(400)[: 2 * num_pairs].view(-1, 2)
    found = exact_difficulty(gaps(values, pairs), distances(inputs, pairs))
    expected = by_hand(inputs.double().numpy(), values.double().numpy(), pairs.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_streamed_equals_the_definition_up_to_the_bins_of_the_median():
    inputs, values = layer(8000)
    pairs = torch.from_numpy(np.random.default_rng(1).permutation(8000)).view(-1, 2)
    expected = by_hand(inputs.double().numpy(), values.double().numpy(), pairs.numpy())
    np.testing.assert_allclose(difficulty(inputs, values, pairs, 256)[:2], expected[:2], rtol=3e-3)
    # The typical gap of the last one is a small part of its spread, and not many bins wide.
    np.testing.assert_allclose(difficulty(inputs, values, pairs, 256)[2], expected[2], rtol=0.1)
    np.testing.assert_allclose(difficulty(inputs, values, pairs, 8192), expected, rtol=5e-3)


def test_a_step_is_harder_than_a_line():
    inputs, values = layer(2000)
    pairs = torch.randperm(2000).view(-1, 2)
    found = difficulty(inputs, values, pairs, 256)
    assert found[1] != pytest.approx(found[0], rel=0.02)


def test_the_same_input_twice_is_left_out():
    inputs, values = layer()
    pairs = torch.randperm(400)[:100].view(-1, 2)
    expected = exact_difficulty(gaps(values, pairs), distances(inputs, pairs))
    same = torch.tensor([[5, 5], [7, 7]])
    more = torch.cat([pairs, same])
    found = exact_difficulty(gaps(values, more), distances(inputs, more))
    torch.testing.assert_close(found, expected)
    np.testing.assert_allclose(
        difficulty(inputs, values, more, 256), difficulty(inputs, values, pairs, 256)
    )


def test_too_little_is_nan():
    inputs, values = layer()
    none = torch.empty((0, 2), dtype=torch.int64)
    same = torch.tensor([[5, 5]])
    for pairs in (none, same):
        assert np.isnan(difficulty(inputs, values, pairs, 64)).all()
        assert exact_difficulty(gaps(values, pairs), distances(inputs, pairs)).isnan().all()
    steady = torch.ones_like(values)
    pairs = torch.tensor([[0, 1], [2, 3]])
    assert exact_difficulty(gaps(steady, pairs), distances(inputs, pairs)).isnan().all()


def test_pairs_are_disjoint_and_evenly_shared_out():
    drawn = draw_pairs(100, [64] * 7, "text")
    assert [len(pairs) for pairs in drawn] == [15, 15, 14, 14, 14, 14, 14]
    for pairs in drawn:
        assert len(set(pairs.flatten().tolist())) == 2 * len(pairs)
        assert pairs.min() >= 0
        assert pairs.max() < 64


def test_short_windows_give_as_many_pairs_as_they_have():
    assert [len(pairs) for pairs in draw_pairs(100, [9, 4, 2], "text")] == [4, 2, 1]
    assert [pairs.shape for pairs in draw_pairs(0, [9, 4], "text")] == [(0, 2), (0, 2)]
    assert draw_pairs(10, [], "text") == []


def test_a_draw_depends_on_text_and_window_alone():
    first, second = draw_pairs(8, [50] * 4, "a"), draw_pairs(8, [50] * 4, "a")
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], draw_pairs(8, [50] * 4, "b")[0])
    more = draw_pairs(16, [50] * 4, "a")
    np.testing.assert_array_equal(more[2][:2], first[2])


def test_a_draw_stays_as_it_is():
    # Changing it would change stored numbers: raise CENSUS_RULES then.
    assert draw_pairs(2, [10], "text")[0].tolist() == [[4, 7], [3, 9]]
