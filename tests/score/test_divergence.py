from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr
from torch import nn

from sweeper.score import divergence
from sweeper.score.divergence import compare

VOCABULARY, WIDTH, PLACES = 300, 16, 23


def states(*changes):
    """Hidden states, and the same with noise of several sizes."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(PLACES, WIDTH))
    return [first, *(first + change * rng.normal(size=first.shape) for change in changes)]


@pytest.fixture
def head():
    """An output head as a model has it: logits up to about 12."""
    linear = nn.Linear(WIDTH, VOCABULARY)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        linear.weight.normal_()
        linear.bias.normal_()
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=VOCABULARY))
    return SimpleNamespace(
        head=linear,
        logits=lambda hidden: linear(hidden).float(),
        model=SimpleNamespace(config=config),
    )


def tensors(hidden):
    return [torch.tensor(one, dtype=torch.float32) for one in hidden]


def expected(model, hidden, targets):
    """In double precision, of float32 hidden states."""
    weight, bias = (p.detach().double().numpy() for p in model.head.parameters())
    logits = [one.double().numpy() @ weight.T + bias for one in hidden]
    logs = [log_softmax(one, axis=1) for one in logits]
    places = np.arange(PLACES)
    divergences = [rel_entr(np.exp(logs[0]), np.exp(one)).sum(1) for one in logs]
    ranks = [
        [list(np.argsort(-row)).index(target) for row, target in zip(one, targets, strict=True)]
        for one in logs
    ]
    return np.array([one[places, targets] for one in logs]), np.array(ranks), np.array(divergences)


@pytest.mark.parametrize("size", [1, 2 * VOCABULARY, 10**6])
def test_equals_the_whole_vocabulary_in_double_precision(head, monkeypatch, size):
    monkeypatch.setattr(divergence, "LOGITS_PER_CHUNK", size)
    hidden = tensors(states(2.0, 0.1))
    targets = np.random.default_rng(2).integers(0, VOCABULARY, PLACES)
    found = compare(head, hidden, torch.from_numpy(targets))
    logprobs, ranks, divergences = expected(head, hidden, targets)
    np.testing.assert_allclose(found.logprobs, logprobs, atol=1e-5)
    np.testing.assert_array_equal(found.ranks, ranks)
    np.testing.assert_allclose(found.divergences, divergences, rtol=1e-4, atol=1e-9)
    assert (found.divergences[0] == 0).all()


def test_small_divergences_keep_their_digits(head):
    """Of 1e-6 nats, where a difference of float32 log-probabilities would be mere rounding."""
    hidden = tensors(states(1e-3))
    found = compare(head, hidden, torch.zeros(PLACES, dtype=torch.int64))
    _, _, divergences = expected(head, hidden, np.zeros(PLACES, np.int64))
    assert 1e-7 < divergences[1].mean() < 1e-5
    assert found.divergences[1].mean() == pytest.approx(divergences[1].mean(), rel=0.05)


def test_equally_probable_tokens_share_a_rank(head):
    with torch.no_grad():
        head.head.weight.zero_()
        head.head.bias.zero_()
        head.head.bias[7] = 1
    found = compare(head, tensors(states()), torch.tensor([7] + [3] * (PLACES - 1)))
    assert found.ranks.tolist() == [[0] + [1] * (PLACES - 1)]


def test_a_spread_out_or_capped_head(tiny_model):
    """The model's own logits, its cap included."""
    model = tiny_model("gemma2")
    tokens = torch.randint(3, 100, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden = model.hidden_states(tokens)[0]
        logs = model.model(tokens).logits[0].double().log_softmax(-1)
    targets = tokens[0].roll(-1)
    found = compare(model, [hidden, hidden.flip(0)], targets)
    wanted = logs.gather(1, targets[:, None])[:, 0]
    np.testing.assert_allclose(found.logprobs[0], wanted, atol=1e-5)
    divergences = rel_entr(logs.exp().numpy(), logs.flip(0).exp().numpy()).sum(1)
    np.testing.assert_allclose(found.divergences[1], divergences, atol=1e-6)
