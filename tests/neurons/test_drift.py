import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

from sweeper.neurons.drift import dissimilarity, drift


def matrices(seed=0, neurons=12, inputs=7, turn=1.0):
    rng = np.random.default_rng(seed)
    before = rng.normal(size=(neurons, inputs))
    return before, before + turn * rng.normal(size=before.shape)


def expected(before, after):
    return np.array([cosine(one, two) for one, two in zip(before, after, strict=True)])


@pytest.mark.parametrize("turn", [3.0, 1.0, 1e-3])
def test_it_is_scipys_cosine_distance(turn):
    before, after = matrices(turn=turn)
    found = dissimilarity(torch.tensor(before), torch.tensor(after)).numpy()
    np.testing.assert_allclose(found, expected(before, after), rtol=1e-7, atol=1e-15)


def test_length_does_not_count_and_the_ends_are_0_1_and_2():
    rows = torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    others = torch.tensor([[0.5, 0.0], [0.0, 9.0], [-7.0, 0.0]])
    assert dissimilarity(rows, others).tolist() == [0.0, 1.0, 2.0]


def test_a_small_turn_keeps_its_digits():
    # An angle of 1e-9: 1 - cos is 5e-19, which the difference of two ones would not show.
    before = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    after = torch.tensor([[1.0, 1e-9]], dtype=torch.float64)
    assert dissimilarity(before, after).item() == pytest.approx(5e-19, rel=1e-6)


def test_numbers_of_small_formats_are_taken_as_they_are():
    before, after = (torch.tensor(part).to(torch.bfloat16) for part in matrices())
    found = dissimilarity(before, after).numpy()
    plain = expected(*(part.to(torch.float64).numpy() for part in (before, after)))
    np.testing.assert_allclose(found, plain, rtol=1e-12)


def test_a_neuron_without_weights_has_no_direction():
    before, after = (torch.tensor(part) for part in matrices())
    before[3] = 0.0
    found = dissimilarity(before, after)
    assert torch.isnan(found).tolist() == [index == 3 for index in range(12)]


def test_rows_of_all_layers_over_the_mean_of_their_own():
    layers = [matrices(seed, turn=turn) for seed, turn in ((1, 0.1), (2, 2.0))]
    layers[0][0][5] = 0.0
    before, after = ([torch.tensor(layer[side]) for layer in layers] for side in (0, 1))
    table = drift(before.__getitem__, after.__getitem__, 2)
    assert list(table) == ["layer", "neuron", "dissimilarity", "relative"]
    assert table["layer"].tolist() == [0] * 12 + [1] * 12
    assert table["neuron"].tolist() == [*range(12), *range(12)]
    for layer, mine in table.groupby("layer"):
        with np.errstate(all="ignore"):
            plain = expected(*layers[layer])
        plain[5] = np.nan if layer == 0 else plain[5]
        np.testing.assert_allclose(mine["dissimilarity"], plain, rtol=1e-10)
        np.testing.assert_allclose(mine["relative"], plain / np.nanmean(plain), rtol=1e-10)
    assert table.groupby("layer")["relative"].mean().tolist() == pytest.approx([1.0, 1.0])


def test_weights_that_did_not_move_have_no_relative_drift():
    rows = torch.tensor(matrices()[0])
    table = drift(lambda _: rows, lambda _: rows, 1)
    assert (table["dissimilarity"] == 0).all()
    assert table["relative"].isna().all()


def test_revisions_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 4\) cannot be compared"):
        dissimilarity(torch.ones(2, 3), torch.ones(2, 4))
