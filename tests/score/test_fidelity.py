from dataclasses import replace

import numpy as np
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.score.fidelity import FidelityError, check_fidelity, noise_floor
from sweeper.score.logprobs import TokenBudget, token_logprobs


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_family_passes(tiny_model, model_type):
    assert check_fidelity(tiny_model(model_type)) < 1e-4


def test_an_engine_that_computes_something_else_is_found_out(tiny_model):
    model = tiny_model("gemma2")
    assert model.soft_cap is not None
    with pytest.raises(FidelityError, match="nats a token from plain Hugging Face"):
        check_fidelity(replace(model, soft_cap=None))


def test_half_precision_passes_within_its_own_bound(tiny_model):
    model = tiny_model("llama")
    half = replace(model, checkpoint=replace(model.checkpoint, dtype="bfloat16"))
    half.model.to(torch.bfloat16)
    try:
        assert check_fidelity(half) < 0.2
    finally:
        half.model.to(torch.float32)


def test_the_noise_floor_is_rounding(stories):
    rng = np.random.default_rng(0)
    rows = [rng.integers(512, size=length).tolist() for length in [12] * 40 + [30] * 20]
    for budget in (TokenBudget(4096), TokenBudget(1)):
        scored = token_logprobs(stories, rows, budget)
        assert 0 <= noise_floor(stories, rows, scored, budget) < 1e-3


def test_the_noise_floor_sees_a_difference(stories):
    rows = [[1, 300, 301, 302], [1, 310, 311, 312]]
    scored = token_logprobs(stories, rows, TokenBudget(64))
    moved = [scored[0], scored[1] + np.float32(0.5)]
    assert noise_floor(stories, rows, moved, TokenBudget(64)) == pytest.approx(1.5, abs=1e-4)
