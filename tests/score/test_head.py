import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.score import head
from sweeper.score.head import next_logprobs, relative_logprobs


def whole(model, hidden, heads, tokens):
    """By a log-softmax over everything, in double precision."""
    logits = model.logits(hidden).double()
    rows = torch.arange(len(heads))
    logprobs = logits.log_softmax(-1)[heads][rows, tokens]
    return logprobs, logits.argmax(-1)[heads] == tokens


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@pytest.mark.parametrize(("states", "words"), [(512, 2048), (3, 50), (1, 1)])
@torch.inference_mode()
def test_blocks_equal_the_whole(tiny_model, monkeypatch, model_type, states, words):
    monkeypatch.setitem(head.STATES, "cpu", states)
    monkeypatch.setitem(head.WORDS, "cpu", words)
    model = tiny_model(model_type)
    hidden = model.hidden_states(torch.arange(2, 22).view(2, 10)).flatten(0, 1)[:11]
    heads = torch.tensor([0, 0, 1, 4, 4, 4, 7, 10])
    tokens = torch.tensor([5, 127, 0, 49, 50, 51, 3, 100])
    expected, most = whole(model, hidden, heads, tokens)
    found, greedy = next_logprobs(model, hidden, heads, tokens, greedy=True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)
    assert torch.equal(greedy, most)


@torch.inference_mode()
def test_the_most_probable_token_is_greedy(tiny_model):
    model = tiny_model("phi")  # its head has a bias
    hidden = model.hidden_states(torch.arange(2, 12)[None])[0]
    tokens = model.logits(hidden).argmax(-1)
    heads = torch.arange(10)
    _, greedy = next_logprobs(model, hidden, heads, tokens, greedy=True)
    assert greedy.all()
    _, greedy = next_logprobs(model, hidden, heads, (tokens + 1) % 128, greedy=True)
    assert not greedy.any()


@torch.inference_mode()
def test_a_head_that_others_watch_is_called(tiny_model):
    model, seen = tiny_model("llama"), []
    hidden = model.hidden_states(torch.arange(2, 12)[None])[0]
    arguments = (hidden, torch.tensor([0, 9]), torch.tensor([3, 4]))
    expected, _ = next_logprobs(model, *arguments, greedy=False)
    handle = model.head.register_forward_hook(lambda *_: seen.append(1))
    try:
        found, nothing = next_logprobs(model, *arguments, greedy=False)
    finally:
        handle.remove()
    assert seen
    assert nothing is None
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_nothing_wanted(tiny_model):
    model = tiny_model("gpt2")
    none = torch.empty(0, dtype=torch.long)
    found, _ = next_logprobs(model, torch.empty(0, 32), none, none, greedy=False)
    assert found.shape == (0,)


@pytest.mark.parametrize("model_type", ["gemma2", "phi", "gpt2"])  # a soft cap, a bias, neither
@pytest.mark.parametrize("watched", [False, True])
@torch.inference_mode()
def test_relative_values_differ_from_whole_ones_by_a_number_for_each_state(
    tiny_model, model_type, watched
):
    model = tiny_model(model_type)
    hidden = model.hidden_states(torch.arange(2, 12)[None])[0]
    heads, tokens = torch.tensor([0, 0, 0, 5, 5]), torch.tensor([3, 4, 90, 3, 127])
    expected, _ = whole(model, hidden, heads, tokens)
    handle = model.head.register_forward_hook(lambda *_: None) if watched else None
    try:
        found = relative_logprobs(model, hidden, heads, tokens)
    finally:
        if handle is not None:
            handle.remove()
    offsets = found.double() - expected
    torch.testing.assert_close(offsets[:3], offsets[:1].expand(3), atol=2e-5, rtol=0)
    torch.testing.assert_close(offsets[3:], offsets[3:4].expand(2), atol=2e-5, rtol=0)
    none = torch.empty(0, dtype=torch.long)
    assert relative_logprobs(model, hidden, none, none).shape == (0,)
