import pytest
from torch import nn
from torch.optim import SGD
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
)

from sweeper.spec.training import OptimiserSpec
from sweeper.train.optimiser import learning_rate, new_optimiser


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_learning_rates_are_those_of_transformers(schedule, warmup):
    spec = OptimiserSpec(learning_rate=0.3, warmup=warmup, schedule=schedule, final_share=0.2)
    optimiser = SGD(nn.Linear(1, 1).parameters(), lr=0.3)
    if schedule == "constant":
        theirs = get_constant_schedule_with_warmup(optimiser, warmup)
    else:
        theirs = get_cosine_with_min_lr_schedule_with_warmup(optimiser, warmup, 20, min_lr_rate=0.2)
    for step in range(1, 21):  # theirs begins at 0, with an update of nothing
        optimiser.step()
        theirs.step()
        assert learning_rate(spec, step, 20) == pytest.approx(theirs.get_last_lr()[0])


def test_only_matrices_decay():
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    decay, plain = new_optimiser(model, OptimiserSpec(weight_decay=0.5)).param_groups
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.5, 0.0)
    assert [tuple(w.shape) for w in decay["params"]] == [(3, 4), (4, 4)]
    assert [tuple(w.shape) for w in plain["params"]] == [(4,), (4,), (4,)]
