from dataclasses import replace

import numpy as np
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.fidelity import FidelityError, check_fidelity, noise_floor
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Texts


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_family_passes(tiny_model, model_type):
    fidelity = check_fidelity(tiny_model(model_type))
    assert fidelity.share
    assert fidelity.worst < 1e-4


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
        assert check_fidelity(half).worst < 0.2
    finally:
        half.model.to(torch.float32)


def test_a_model_that_ignores_a_mask_is_scored_without_the_tree(tiny_model, caplog):
    """As code from elsewhere may do; sdpa with its own causal mask stands for it."""
    model = tiny_model("llama")

    def causal(_module, args, kwargs):
        return args, {**kwargs, "attention_mask": None}

    handles = [
        layer.self_attn.register_forward_pre_hook(causal, with_kwargs=True)
        for layer in model.layers
    ]
    try:
        fidelity = check_fidelity(model)
    finally:
        for handle in handles:
            handle.remove()
    assert not fidelity.share
    assert fidelity.worst < 1e-4
    assert caplog.text.count("going on with padded rows") == 1


BASELINE = Condition(name="baseline", seed=None, operation=None)


def test_the_noise_floor_is_rounding(stories):
    rng = np.random.default_rng(0)
    rows = [rng.integers(512, size=length).tolist() for length in [12] * 40 + [30] * 20]
    texts = Texts(rows=rows, starts=[1, 5] * 30)
    (scores,) = score_texts(stories, texts, [BASELINE], TokenBudget(4096))
    assert 0 < noise_floor(stories, texts, scores, TokenBudget(4096)) < 1e-3
    # With room for one text at a time there is no other packing.
    (scores,) = score_texts(stories, texts, [BASELINE], TokenBudget(1))
    assert noise_floor(stories, texts, scores, TokenBudget(1)) < 1e-3


def test_the_noise_floor_sees_a_difference(stories):
    texts = Texts(rows=[[1, 300, 301, 302], [1, 310, 311, 312]])
    (scores,) = score_texts(stories, texts, [BASELINE], TokenBudget(64))
    first, second = scores.logprobs
    moved = replace(scores, logprobs=[first, second + np.float32(0.5)])
    assert noise_floor(stories, texts, moved, TokenBudget(64)) == pytest.approx(1.5, abs=1e-4)


def test_the_noise_of_relative_scores_is_that_of_margins(stories):
    texts = Texts(rows=[[1, 300, 301], [1, 300, 302]], starts=[2, 2], relative=[True, True])
    (scores,) = score_texts(stories, texts, [BASELINE], TokenBudget(64))
    first, second = scores.logprobs
    both = replace(scores, logprobs=[first + np.float32(7), second + np.float32(7)])
    assert noise_floor(stories, texts, both, TokenBudget(64)) < 1e-4
    one = replace(scores, logprobs=[first, second + np.float32(7)])
    assert noise_floor(stories, texts, one, TokenBudget(64)) == pytest.approx(7, abs=1e-4)
