import numpy as np
import pytest
import torch

from sweeper.clamp.hooks import clamped
from sweeper.models.families import FAMILIES
from sweeper.records import Condition
from sweeper.score import logprobs as engine
from sweeper.score.fidelity import plain_logprob
from sweeper.score.logprobs import token_logprobs
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import encode


def random_rows(lengths: list[int], vocabulary: int = 128) -> list[list[int]]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.integers(vocabulary, size=length).tolist() for length in lengths]


def one_by_one(model, row: list[int]) -> np.ndarray:
    """Each token's log-probability from the model's own logits in double precision."""
    with torch.inference_mode():
        logits = model.model(input_ids=torch.tensor([row])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(-1, torch.tensor(row)[1:, None])[:, 0].numpy()


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_plain_hugging_face_for_every_family(tiny_model, model_type):
    model = tiny_model(model_type)
    rows = random_rows([2, 7, 30, 7, 7, 50, 2, 30])
    for row, values in zip(rows, token_logprobs(model, rows, TokenBudget(64)), strict=True):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, one_by_one(model, row), atol=2e-5)


@pytest.mark.parametrize("budget", [1, 13, 64, 100_000])
def test_packing_does_not_matter_beyond_rounding(tiny_model, budget):
    model = tiny_model("gpt_neox")
    rows = random_rows([5] * 9 + [12] * 4 + [3])
    for row, values in zip(rows, token_logprobs(model, rows, TokenBudget(budget)), strict=True):
        np.testing.assert_allclose(values, one_by_one(model, row), atol=2e-5)


def test_the_head_in_chunks_equals_the_head_at_once(tiny_model, monkeypatch):
    model = tiny_model("llama")
    rows = random_rows([9, 9, 21])
    whole = token_logprobs(model, rows, TokenBudget(100))
    monkeypatch.setattr(engine, "LOGITS_PER_CHUNK", 3 * 128)
    for a, b in zip(whole, token_logprobs(model, rows, TokenBudget(100)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_five_hundred_blimp_sentences_within_a_thousandth_nat(stories, shared):
    import pandas as pd

    pairs = pd.read_parquet(shared / "data" / "blimp" / "blimp.parquet")
    chosen = pairs.groupby("UID").head(4).head(250)
    rows = encode(stories.tokenizer, [*chosen["sentence_good"], *chosen["sentence_bad"]])
    assert len(rows) == 500
    values = token_logprobs(stories, rows, TokenBudget(4096))
    worst = max(
        abs(plain_logprob(stories, row) - value.sum(dtype=np.float64))
        for row, value in zip(rows, values, strict=True)
    )
    assert worst < 1e-3


def test_no_rows_no_work(tiny_model):
    assert token_logprobs(tiny_model("gpt2"), [], TokenBudget(8)) == []


def test_the_longest_row_has_one_token_more_than_the_context(tiny_model):
    model = tiny_model("gpt2")
    (row,) = random_rows([65])
    (values,) = token_logprobs(model, [row], TokenBudget(8))
    assert len(values) == 64
    np.testing.assert_allclose(values[:40], one_by_one(model, row[:41]), atol=2e-5)
    with pytest.raises(ValueError, match="66 tokens exceeds the model's context 64"):
        token_logprobs(model, random_rows([66]), TokenBudget(8))
    with pytest.raises(ValueError, match="1 token"):
        token_logprobs(model, [[5]], TokenBudget(8))


def test_scores_that_are_no_numbers_are_failures(tiny_model):
    model = tiny_model("opt")
    # Broken for the length of the test by a hook: an activation overflows.
    handle = model.sites[1].pre_activation.register_forward_hook(
        lambda _m, _i, out: out * torch.nan
    )
    try:
        with pytest.raises(FloatingPointError, match="NaN or infinite"):
            token_logprobs(model, random_rows([6, 6]), TokenBudget(100))
    finally:
        handle.remove()


def test_running_out_of_memory_halves_the_packing_and_goes_on(tiny_model, caplog):
    model = tiny_model("llama")
    rows = random_rows([9] * 16)
    expected = token_logprobs(model, rows, TokenBudget(1000))
    seen = []

    # The allocator cannot be made to fail at will here; its error, raised where it would be.
    def refuse_large_batches(_module, args):
        seen.append(len(args[0]))
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("out of memory")

    handle = model.model.get_input_embeddings().register_forward_pre_hook(refuse_large_batches)
    try:
        budget = TokenBudget(1000)
        values = token_logprobs(model, rows, budget)
    finally:
        handle.remove()
    assert seen[:4] == [16, 8, 4, 2]
    assert budget.positions == 2 * 8
    assert "going on with 16 token positions" in caplog.text
    for a, b in zip(values, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_other_errors_are_not_taken_for_lack_of_memory(tiny_model):
    model = tiny_model("llama")

    def fail(_module, _args):
        raise RuntimeError("device-side assert")

    handle = model.model.get_input_embeddings().register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="device-side assert"):
            token_logprobs(model, random_rows([9] * 4), TokenBudget(1000))
    finally:
        handle.remove()


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "llama"])
def test_a_clamp_equals_editing_the_weights(tiny_model, model_type):
    """Zeroed neurons have no effect, so zero columns of the output projection say the same."""
    model = tiny_model(model_type)
    chosen = (1, 5, 6)
    rows = random_rows([11, 11, 4])
    condition = Condition(name="c", seed=None, operation="zero", neurons={1: chosen})
    with clamped(model, condition):
        values = token_logprobs(model, rows, TokenBudget(100))
    weight = model.sites[1].output.weight
    neurons_first = model_type == "gpt2"  # Conv1D keeps its weight transposed
    saved = weight.detach().clone()
    with torch.no_grad():
        if neurons_first:
            weight[list(chosen)] = 0
        else:
            weight[:, list(chosen)] = 0
    try:
        edited = token_logprobs(model, rows, TokenBudget(100))
    finally:
        weight.data.copy_(saved)
    for a, b in zip(values, edited, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    plain = token_logprobs(model, rows, TokenBudget(100))
    assert max(np.abs(a - b).max() for a, b in zip(values, plain, strict=True)) > 1e-4
