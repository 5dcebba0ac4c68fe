import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.neurons.projection import most_changed, projections, suppression


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_the_change_of_the_logits(tiny_model, model_type):
    """Activating one neuron more changes what the head would say of the MLP's output by that."""
    model, layer, neurons = tiny_model(model_type), 1, [0, 5, 47]
    site = model.sites[layer]
    found = projections(model, layer, neurons)
    with torch.inference_mode():
        for row, neuron in enumerate(neurons):
            hidden = torch.zeros(2, site.size)
            hidden[1, neuron] = 1.0
            off, on = site.output(hidden)
            written = on - off
            project = getattr(model.decoder, "project_out", None)
            written = project(written) if project is not None else written
            expected = written @ model.head.weight.T
            torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-4)


def test_most_changed_and_suppression():
    logits = torch.tensor([[0.0, 3.0, -1.0, 2.0], [1.0, -2.0, -3.0, 0.5]])
    promoted, suppressed = most_changed(logits, 2)
    assert promoted.tolist() == [[1, 3], [0, 3]]
    assert suppressed.tolist() == [[2, 0], [2, 1]]
    covered = pd.DataFrame({"neuron": [7, 7, 9], "ngram": [1, 2, 2]})
    table = suppression(logits, [7, 9], covered)
    assert table["projection"].tolist() == [1.0, -3.0]
    assert table["suppresses"].tolist() == [False, True]


def test_factors_decide_the_sign():
    logits = torch.tensor([[0.0, 3.0, -1.0, 2.0]])
    covered = pd.DataFrame(
        {"neuron": [7, 7], "ngram": [1, 2], "count": [4, 1], "factors": [-2.0, 3.0]}
    )
    table = suppression(logits, [7], covered)
    assert table["projection"].item() == (3.0 * -0.5 + -1.0 * 3.0) / 2
    assert table["suppresses"].item()


def test_a_neuron_that_covers_nothing_is_not_said_to_promote():
    table = suppression(
        torch.zeros(1, 3), [4], pd.DataFrame({"neuron": [], "ngram": []}, dtype=int)
    )
    assert np.isnan(table["projection"]).all()
    assert not table["suppresses"].any()
