"""Profiles against every token kept and every distance computed, one by one."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.neurons.mapping import draw_pairs
from sweeper.neurons.profile import profile, similar_pairs, token_text
from sweeper.score.memory import TokenBudget

LINEAR = {
    "gpt2": "transformer.h.{}.mlp.c_fc",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    "opt": "model.decoder.layers.{}.fc1",
    "phi": "model.layers.{}.mlp.fc1",
    "phi3": "model.layers.{}.mlp.gate_up_proj",
}
"""Layers that feed the activation function; ``gate_proj`` in all other families."""
NEURONS = {1: (3, 40), 2: (7,)}
NUM_PAIRS = 60
LENGTHS, STARTS = [40, 40, 40, 17], [0, 40, 80, 120]


def rows_of(lengths: list[int], vocabulary: int = 24) -> list[list[int]]:
    """Few different tokens, so that many occur often; no two windows begin with the same one."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(vocabulary, size=length).tolist() for length in lengths]
    return [[first, *row[1:]] for first, row in enumerate(rows)]


def run(model, rows, neurons=NEURONS, positions: int = 80, num_pairs: int = NUM_PAIRS):
    return profile(model, rows, neurons, TokenBudget(positions), num_pairs, "text")


class Plain:
    """Inputs and pre-activations of all tokens of a layer, one row at a time, from the weights."""

    def __init__(self, model, model_type: str, rows, layer: int) -> None:
        name = LINEAR.get(model_type, "model.layers.{}.mlp.gate_proj").format(layer)
        module = model.model.get_submodule(name)
        seen: list[np.ndarray] = []
        handle = module.register_forward_pre_hook(
            lambda _m, args: seen.append(args[0].reshape(-1, args[0].shape[-1]).double().numpy())
        )
        with torch.no_grad():
            for row in rows:
                model.model(torch.tensor([row]))
        handle.remove()
        weight = module.weight.detach().double().numpy()
        weight = weight if model_type == "gpt2" else weight.T
        bias = 0 if module.bias is None else module.bias.detach().double().numpy()
        self.inputs = np.concatenate(seen)
        self.values = self.inputs @ weight + bias
        self.tokens = [token for row in rows for token in row]


def similar_by_hand(plain: Plain, drawn: np.ndarray) -> dict[tuple[int, int], float]:
    """(lower, higher place) -> distance, as the rule says it."""
    inputs, tokens = plain.inputs, plain.tokens
    apart = [np.sqrt(((inputs[i] - inputs[j]) ** 2).sum()) for i, j in drawn]
    limit = np.quantile(apart, 0.1)
    sample = drawn.ravel().tolist()
    found = {}
    for i in drawn[:, 0].tolist():
        others = {j: np.linalg.norm(inputs[i] - inputs[j]) for j in sample}
        others = {j: d for j, d in others.items() if tokens[j] != tokens[i]}
        near = min(others, key=others.__getitem__)
        if others[near] <= limit:
            found[min(i, near), max(i, near)] = others[near]
    return found


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_pairs_equal_brute_force(tiny_model, model_type):
    model, rows = tiny_model(model_type), rows_of(LENGTHS)
    found = run(model, rows)
    own = draw_pairs(NUM_PAIRS, LENGTHS, "text")
    drawn = np.concatenate([part + start for part, start in zip(own, STARTS, strict=True)])
    assert found.num_tokens == 137
    for layer, members in NEURONS.items():
        plain = Plain(model, model_type, rows, layer)
        expected = similar_by_hand(plain, drawn)
        assert 0 < len(expected) < len(drawn)
        for neuron in members:
            at = (found.pairs["layer"] == layer) & (found.pairs["neuron"] == neuron)
            pairs = found.pairs[at].reset_index(drop=True)
            assert pairs["pair"].tolist() == list(range(len(drawn) + len(expected)))
            check_random(pairs[~pairs["similar"]], drawn, plain, neuron)
            similar = pairs[pairs["similar"]]
            assert sorted(similar["dx"]) == pytest.approx(sorted(expected.values()), rel=1e-4)
            for row in similar.itertuples():
                place = min(expected, key=lambda p: abs(expected[p] - row.dx))
                assert [row.token_i, row.token_j] == [plain.tokens[i] for i in sort(drawn, place)]
                outputs = [plain.values[i, neuron] for i in sort(drawn, place)]
                assert [row.y_i, row.y_j] == pytest.approx(outputs, rel=1e-4, abs=1e-4)


def sort(drawn: np.ndarray, pair: tuple[int, int]) -> list[int]:
    """In the order of the sample."""
    sample = drawn.ravel().tolist()
    return sorted(pair, key=sample.index)


def check_random(pairs: pd.DataFrame, drawn: np.ndarray, plain: Plain, neuron: int) -> None:
    apart = plain.inputs[drawn[:, 0]] - plain.inputs[drawn[:, 1]]
    np.testing.assert_allclose(pairs["dx"], np.sqrt((apart**2).sum(1)), rtol=1e-4)
    for name, side in (("i", 0), ("j", 1)):
        places = drawn[:, side]
        np.testing.assert_allclose(pairs[f"y_{name}"], plain.values[places, neuron], atol=1e-4)
        assert pairs[f"token_{name}"].tolist() == [plain.tokens[place] for place in places]


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "phi3"])
def test_tokens_equal_brute_force(tiny_model, model_type):
    model, rows = tiny_model(model_type), rows_of([60] * 12, vocabulary=100)
    found = run(model, rows).tokens
    for layer, members in NEURONS.items():
        plain = Plain(model, model_type, rows, layer)
        for neuron in members:
            values = defaultdict(list)
            for token, value in zip(plain.tokens, plain.values[:, neuron], strict=True):
                values[token].append(value)
            often = {token: found for token, found in values.items() if len(found) >= 5}
            assert 40 < len(often) < len(values)
            order = sorted(often, key=lambda token: np.mean(often[token]))
            rows_here = found[(found["layer"] == layer) & (found["neuron"] == neuron)]
            expected = [*order[:20], *order[-20:]]
            assert rows_here["token"].tolist() == expected
            for column, function in (("count", len), ("mean", np.mean), ("sd", np.std)):
                numbers = [function(often[token]) for token in expected]
                np.testing.assert_allclose(rows_here[column], numbers, rtol=1e-4, atol=1e-5)
            texts = [model.tokenizer.decode([token]) for token in expected]
            assert rows_here["text"].tolist() == texts


def test_few_tokens_stand_there_once(tiny_model):
    rows = rows_of(LENGTHS, vocabulary=12)
    counts = Counter(token for row in rows for token in row)
    often = {token for token, count in counts.items() if count >= 5}
    found = run(tiny_model("llama"), rows).tokens
    assert (found.groupby(["layer", "neuron"])["token"].count() == len(often)).all()
    assert not found.duplicated(["layer", "neuron", "token"]).any()
    assert not found["sd"].isna().any()


def test_what_is_similar_by_hand():
    # Pairs (0, 1), (2, 3), ...: firsts are 0, 2, 4 and 6.
    inputs = torch.tensor([[0.0], [100.0], [1.0], [220.0], [50.0], [350.0], [221.0], [1000.0]])
    tokens = torch.tensor([5, 6, 7, 8, 9, 10, 8, 11])
    apart = (inputs[0::2] - inputs[1::2]).abs().view(-1).double()
    assert apart.tolist() == [100.0, 219.0, 300.0, 779.0]
    # The tenth of them ends at 100 + 0.3 * 119 = 135.7. 0 and 2 have each other; 4 has 2 at 49; 6
    # is the same token as 3 and has 1 at 121.
    assert similar_pairs(inputs, apart, tokens).tolist() == [[0, 2], [1, 6], [2, 4]]
    # Nearest of all, and yet not near.
    assert similar_pairs(inputs, apart / 2, tokens).tolist() == [[0, 2], [2, 4]]
    assert similar_pairs(inputs, apart, torch.ones(8)).shape == (0, 2)


def test_chunks_do_not_matter(monkeypatch):
    inputs = torch.randn(90, 5, generator=torch.Generator().manual_seed(0))
    dx = (inputs[0::2] - inputs[1::2]).norm(dim=-1).double()
    whole = similar_pairs(inputs, dx, torch.arange(90))
    monkeypatch.setattr("sweeper.neurons.profile.CHUNK_DISTANCES", 200)
    assert torch.equal(similar_pairs(inputs, dx, torch.arange(90)), whole)
    assert len(whole) > 10


def test_texts_end_with_the_token(tiny_model):
    model, rows = tiny_model("llama"), rows_of(LENGTHS)
    pairs = run(model, rows).pairs
    for row in itertools.islice(pairs.itertuples(), 0, None, 7):
        for token, text in ((row.token_i, row.text_i), (row.token_j, row.text_j)):
            assert text.endswith(model.tokenizer.decode([token]))
    longest = model.tokenizer.decode(rows[0][5:13])
    assert longest in {*pairs["text_i"], *pairs["text_j"]}


def test_a_token_reads_as_in_a_text(tiny_model, stories):
    tokenizer = stories.tokenizer
    ids = tokenizer("there was a ball")["input_ids"]
    assert "".join(token_text(tokenizer, token) for token in ids[1:]) == " there was a ball"
    tokenizer = tiny_model("llama").tokenizer
    ids = tokenizer("the cat sees the dogs")["input_ids"]
    assert "".join(token_text(tokenizer, token) for token in ids) == "the cat sees the dogs"


def test_batches_do_not_matter(tiny_model):
    model, rows = tiny_model("qwen3"), rows_of([40] * 5 + [17])
    first, *others = (run(model, rows, positions=size) for size in (40, 120, 1000))
    for found in others:
        pd.testing.assert_frame_equal(found.pairs, first.pairs, rtol=1e-4, atol=1e-4)
        pd.testing.assert_frame_equal(found.tokens, first.tokens, rtol=1e-4, atol=1e-4)


def test_running_out_of_memory_counts_nothing_twice(tiny_model):
    model, rows = tiny_model("qwen2"), rows_of([16] * 12 + [9])
    expected, seen = run(model, rows, positions=1000), []

    def refuse_large_batches(_module, args):
        seen.append(len(args[0]))
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("out of memory")

    # Layer 1 has taken in what layer 2 has not.
    handle = model.layers[2].register_forward_pre_hook(refuse_large_batches)
    try:
        found = run(model, rows, positions=1000)
    finally:
        handle.remove()
    assert seen == [12, 6, 3, 3, 3, 3, 1]
    pd.testing.assert_frame_equal(found.pairs, expected.pairs, rtol=1e-4, atol=1e-4)
    pd.testing.assert_frame_equal(found.tokens, expected.tokens, rtol=1e-4, atol=1e-4)


def test_numbers_that_are_none_are_a_failure_and_hooks_are_gone(tiny_model):
    model = tiny_model("opt")
    handle = model.layers[2].register_forward_pre_hook(lambda _m, args: (args[0] * torch.inf,))
    try:
        with pytest.raises(FloatingPointError, match="layer 2: an activation is NaN or infinite"):
            run(model, rows_of(LENGTHS))
    finally:
        handle.remove()
    assert not any(site.pre_activation._forward_hooks for site in model.sites)
    run(model, rows_of(LENGTHS))
    assert not any(site.pre_activation._forward_hooks for site in model.sites)


def test_a_text_without_windows(tiny_model):
    with pytest.raises(ValueError, match="no window"):
        run(tiny_model("llama"), [])


def test_a_text_of_two_tokens(tiny_model):
    found = run(tiny_model("llama"), [[1, 2]])
    # The pair that is drawn is also that of the nearest, for each of three neurons.
    assert found.pairs["similar"].tolist() == [False, True] * 3
    assert found.tokens.empty
