from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import load_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import build_tiny

from sweeper.clamp.hooks import clamped
from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.models.families import FAMILIES
from sweeper.records import Condition
from sweeper.score.engine import Work, score_texts
from sweeper.score.fidelity import plain_logprob
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Texts
from sweeper.score.tokens import encode

BASELINE = Condition(name="baseline", seed=None, operation=None)
ATOL = 3e-5
VOCABULARY = 128

# Few different tokens, so that rows share prefixes of all lengths.
rows = st.lists(st.lists(st.integers(3, 5), min_size=2, max_size=14), min_size=1, max_size=12)
families = pytest.mark.parametrize("model_type", sorted(FAMILIES))
property_test = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def one_by_one(model, row, condition=BASELINE):
    """Each token's log-probability from the model's own logits in double precision."""
    with torch.inference_mode(), clamped(model, condition):
        logits = model.model(input_ids=torch.tensor([row])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(-1, torch.tensor(row)[1:, None])[:, 0].numpy()


def assert_equal_one_by_one(model, texts, conditions, scored):
    for condition, scores in zip(conditions, scored, strict=True):
        for index, (row, values) in enumerate(zip(texts.rows, scores.logprobs, strict=True)):
            expected = one_by_one(model, row, condition)[texts.start(index) - 1 :]
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, expected, atol=ATOL)


@families
@property_test
@given(rows=rows, budget=st.sampled_from([5, 1000]))
def test_the_tree_returns_what_one_by_one_scoring_returns(tiny_model, model_type, rows, budget):
    model, texts = tiny_model(model_type), Texts(rows=rows)
    scored = score_texts(model, texts, [BASELINE], TokenBudget(budget))
    assert_equal_one_by_one(model, texts, [BASELINE], scored)


conditions_of = st.lists(
    st.builds(
        lambda operation, neurons: Condition(
            name="c", seed=None, operation=operation, neurons=neurons
        ),
        operation=st.sampled_from(sorted(OPERATIONS)),
        neurons=st.dictionaries(
            st.integers(0, 2),
            st.sets(st.integers(0, 47), min_size=1, max_size=20).map(lambda s: tuple(sorted(s))),
        ),
    ),
    min_size=1,
    max_size=6,
)


def fitted(model, condition):
    """With what its operation needs: every neuron of a layer, or a value for each of them."""
    operation, neurons = OPERATIONS[condition.operation], condition.neurons
    if operation.whole:
        return replace(condition, neurons=dict.fromkeys(neurons, range(model.sites[0].size)))
    if operation.takes == "values":
        values = {layer: [0.1 * k - 2 for k in chosen] for layer, chosen in neurons.items()}
        return replace(condition, values=values)
    return condition


@families
@property_test
@given(rows=rows, conditions=conditions_of, budget=st.sampled_from([30, 1000]))
def test_forks_equal_separate_passes(tiny_model, model_type, rows, conditions, budget):
    model, texts = tiny_model(model_type), Texts(rows=rows)
    conditions = [fitted(model, condition) for condition in conditions]
    conditions = [*conditions, BASELINE, *conditions[:1]]
    scored = score_texts(model, texts, conditions, TokenBudget(budget))
    assert_equal_one_by_one(model, texts, conditions, scored)


def windowed(model_type, tmp_path):
    """A model whose sliding window is shorter than the rows."""
    changes = {"sliding_window": 6}
    if model_type.startswith("qwen"):
        changes |= {"use_sliding_window": True, "max_window_layers": 1}
    return load_folder(model_type, build_tiny(model_type, tmp_path / "windowed", **changes))


@pytest.mark.parametrize(
    "model_type",
    ["mistral", "qwen2", "qwen3", "olmo3", "gemma2", "gemma3_text", "phi3"],
)
def test_sliding_windows_count_along_the_path(tmp_path, model_type):
    model = windowed(model_type, tmp_path)
    assert model.model.config.sliding_window == 6
    stem = np.random.default_rng(0).integers(3, 128, size=30).tolist()
    cut = [stem, [*stem[:9], 4, 5, 6, 7, 8, 9, 10, 11, 12], [*stem[:20], 9, 9, 9, 9], stem[3:]]
    texts = Texts(rows=cut)
    scored = score_texts(model, texts, [BASELINE], TokenBudget(1000))
    assert_equal_one_by_one(model, texts, [BASELINE], scored)
    # The window matters on these rows, or the test would show nothing.
    wide = one_by_one_without_window(model, stem)
    assert np.abs(wide - one_by_one(model, stem)).max() > 100 * ATOL


def one_by_one_without_window(model, row):
    full = torch.full((len(row), len(row)), torch.finfo(torch.float32).min).triu(1)[None, None]
    mask = {"full_attention": full, "sliding_attention": full}
    with torch.inference_mode():
        hidden = model.hidden_states(
            torch.tensor([row]),
            attention_mask=mask if model.family.mask_by_layer_type else full,
        )
        logits = model.logits(hidden)[0, :-1].double()
    return logits.log_softmax(-1).gather(-1, torch.tensor(row)[1:, None])[:, 0].numpy()


def test_nothing_to_score_is_nothing(tiny_model):
    (scores,) = score_texts(tiny_model("gpt2"), Texts(rows=[]), [BASELINE], TokenBudget(8))
    assert list(scores.logprobs) == []
    assert score_texts(tiny_model("gpt2"), Texts(rows=[[1, 2]]), [], TokenBudget(8)) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (Texts(rows=[[5, 6], [5]]), r"1 token\(s\) has no token to predict"),
        (Texts(rows=[[]]), r"0 token\(s\) has no token to predict"),
        (Texts(rows=[[3] * 66]), "66 tokens exceeds the model's context 64"),
        (Texts(rows=[[3, 4]], starts=[2]), "from token 2 of a text of 2 tokens"),
        (Texts(rows=[[3, 4]], starts=[0]), "from token 0 of a text of 2 tokens"),
        (Texts(rows=[[3, 4]], starts=[1, 1]), "2 starts for 1 texts"),
    ],
)
def test_texts_that_cannot_be_scored_are_errors(tiny_model, texts, message):
    with pytest.raises(ValueError, match=message):
        score_texts(tiny_model("gpt2"), texts, [BASELINE], TokenBudget(8))


@families
def test_a_text_of_the_whole_context_and_one_token(tiny_model, model_type):
    """The last token is not an input, so one more than the context fits."""
    model = tiny_model(model_type)
    row = np.random.default_rng(0).integers(128, size=65).tolist()
    texts = Texts(rows=[row, row[:40], row])
    (scores,) = score_texts(model, texts, [BASELINE], TokenBudget(8))
    np.testing.assert_array_equal(scores.logprobs[0], scores.logprobs[2])
    np.testing.assert_array_equal(scores.logprobs[0][:39], scores.logprobs[1])
    np.testing.assert_allclose(scores.logprobs[1], one_by_one(model, row[:40]), atol=ATOL)


def test_scores_begin_where_they_are_asked_to(tiny_model):
    model = tiny_model("llama")
    texts = Texts(rows=[[3, 4, 5, 6], [3, 4, 5, 7], [3, 4]], starts=[3, 2, 1], greedy=True)
    (scores,) = score_texts(model, texts, [BASELINE], TokenBudget(100))
    assert [len(values) for values in scores.logprobs] == [1, 2, 1]
    assert_equal_one_by_one(model, texts, [BASELINE], [scores])


def test_greedy_says_whether_a_token_is_the_most_probable_one(tiny_model):
    model = tiny_model("gemma2")
    row = [3, 4]
    with torch.inference_mode():
        for _ in range(4):
            row.append(int(model.model(input_ids=torch.tensor([row])).logits[0, -1].argmax()))
    other = [*row[:4], (row[4] + 1) % 128]
    texts = Texts(rows=[row, other], starts=[2, 2], greedy=True)
    (scores,) = score_texts(model, texts, [BASELINE], TokenBudget(100))
    assert [values.tolist() for values in scores.greedy] == [[True] * 4, [True, True, False]]


def test_a_condition_that_overflows_does_not_touch_the_others(tiny_model, monkeypatch):
    monkeypatch.setitem(OPERATIONS, "overflow", Operation(lambda values: values * torch.inf))
    model, texts = tiny_model("opt"), Texts(rows=[[3, 4, 5], [3, 4, 6]])
    broken = Condition(name="x", seed=None, operation="overflow", neurons={1: (0, 1)})
    scored = score_texts(model, texts, [broken, BASELINE], TokenBudget(100))
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        scored[0].require_finite()
    scored[1].require_finite()
    assert_equal_one_by_one(model, texts, [BASELINE], scored[1:])


def layer_conditions(single: bool) -> list[Condition]:
    layers = range(3)
    sets = [[layer] if single else range(layer + 1) for layer in layers]
    return [
        Condition(name=str(s), seed=None, operation="zero", neurons={k: (1, 2) for k in s})
        for s in sets
    ]


def test_shared_layers_are_computed_once(tiny_model):
    model, texts, work = tiny_model("gpt_neox"), Texts(rows=[[3, 4, 5]]), Work()
    conditions = [BASELINE, *layer_conditions(single=True), *layer_conditions(single=False)]
    score_texts(model, texts, conditions, TokenBudget(1000), work=work)
    # One pass of layer 0 for all of them. Of layer 1 one for those that were clamped in layer 0,
    # and one for the others. Of layer 2: baseline and single 2; single 1; cumulative [0], which is
    # single 0; cumulative [0, 1] and [0, 1, 2].
    assert work.layer_places == 2 * (1 + 2 + 4)
    assert work.heads == 2 * 6  # two of the seven conditions are the same
    assert (work.nodes, work.positions) == (2 * 7, 2 * 7)


@pytest.mark.parametrize("positions", [1, 3, 1000])
def test_the_number_of_branches_adapts_to_the_budget(tiny_model, positions):
    model, texts = tiny_model("gpt_neox"), Texts(rows=[[3, 4, 5, 6], [3, 4, 7], [8, 4, 7]])
    conditions = [
        Condition(name="r", seed=seed, operation="zero", neurons={0: (seed,), 2: (seed,)})
        for seed in range(20)
    ]
    widest = []

    def note(_module, args):
        widest.append(args[0].shape[0] * args[0].shape[1])

    handle = model.layers[1].register_forward_pre_hook(note)
    try:
        scored = score_texts(model, texts, conditions, TokenBudget(positions))
    finally:
        handle.remove()
    assert max(widest) <= max(positions, len(texts.rows[0]) + 3)
    assert_equal_one_by_one(model, texts, conditions, scored)


def test_counts_do_not_depend_on_packing_and_sharing(tiny_model):
    model = tiny_model("llama")
    texts = Texts(rows=[[3, 4, 5, 6], [3, 4, 7], [3, 4, 5, 6], [9, 4], [9, 5]])
    nodes = [[3], [3, 4], [3, 4, 5], [9]]  # prefixes that are computed
    conditions = [
        Condition(name="a", seed=None, operation="negative_clamp", neurons={0: (1, 5), 2: (3,)}),
        Condition(name="b", seed=None, operation="negative_clamp", neurons={0: (1, 5)}),
        BASELINE,
    ]
    for budget in (1, 1000):
        scored = score_texts(model, texts, conditions, TokenBudget(budget))
        for condition, scores in zip(conditions, scored, strict=True):
            changed = sum(last_changes(model, condition, prefix) for prefix in nodes)
            assert scores.values_seen == condition.num_neurons * len(nodes)
            assert scores.values_changed == changed
    assert scored[0].values_changed > 0


def last_changes(model, condition, prefix):
    """Values that a clamp changes at the last place of a prefix."""
    counts = []
    for row in (prefix, prefix[:-1]):
        with torch.inference_mode(), clamped(model, condition) as count:
            if row:
                model.hidden_states(torch.tensor([row]))
        counts.append(count.changed)
    return counts[0] - counts[1]


def test_running_out_of_memory_halves_the_packing_and_goes_on(tiny_model, caplog):
    model = tiny_model("llama")
    texts = Texts(rows=[[a, b, c] for a in (3, 4) for b in range(9) for c in (5, 6)])
    conditions = [BASELINE, *layer_conditions(single=True)]

    # The allocator cannot be made to fail at will here; its error, raised where it would be.
    def refuse_large_batches(_module, args):
        if args[0].shape[0] * args[0].shape[1] > 12:
            raise torch.OutOfMemoryError("out of memory")

    handle = model.layers[2].register_forward_pre_hook(refuse_large_batches)
    budget = TokenBudget(1000)
    try:
        scored = score_texts(model, texts, conditions, budget)
    finally:
        handle.remove()
    assert budget.positions <= 12
    assert "out of memory: going on" in caplog.text
    assert_equal_one_by_one(model, texts, conditions, scored)


def test_hooks_and_layers_are_as_before_when_scoring_fails(tiny_model):
    model = tiny_model("gpt2")

    def fail(_module, _args):
        raise RuntimeError("device-side assert")

    handle = model.layers[1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="device-side assert"):
            score_texts(model, Texts(rows=[[3, 4]]), layer_conditions(single=True), TokenBudget(9))
    finally:
        handle.remove()
    assert not any(site.pre_activation._forward_hooks for site in model.sites)
    assert not any("forward" in vars(layer) for layer in model.layers)
    wrong = Condition(name="c", seed=None, operation="zero", neurons={99: (1,)})
    with pytest.raises(ValueError, match="layer 99 is not one of"):
        score_texts(model, Texts(rows=[[3, 4]]), [BASELINE, wrong], TokenBudget(9))


def test_five_hundred_blimp_sentences_within_a_thousandth_nat(stories, shared):
    pairs = pd.read_parquet(shared / "data" / "blimp" / "blimp.parquet")
    chosen = pairs.groupby("UID").head(4).head(250)
    texts = Texts(
        rows=encode(stories.tokenizer, [*chosen["sentence_good"], *chosen["sentence_bad"]])
    )
    assert len(texts.rows) == 500
    (scores,) = score_texts(stories, texts, [BASELINE], TokenBudget(4096))
    worst = max(
        abs(plain_logprob(stories, row) - value.sum(dtype=np.float64))
        for row, value in zip(texts.rows, scores.logprobs, strict=True)
    )
    assert worst < 1e-3


def refusing(model, places):
    """Memory for so many places in one call of a layer, by the allocator's error."""

    def refuse(_module, args):
        if args[0].shape[0] * args[0].shape[1] > places:
            raise torch.OutOfMemoryError("out of memory")

    return model.layers[2].register_forward_pre_hook(refuse)


def test_a_long_stem_with_many_ends_is_cut_when_memory_runs_out(tiny_model):
    model = tiny_model("llama")
    stem = np.random.default_rng(0).integers(128, size=40).tolist()
    texts = Texts(rows=[[*stem, end, end + 1, end] for end in range(60)], starts=[40] * 60)
    budget = TokenBudget(1000)
    handle = refusing(model, 50)
    try:
        scored = score_texts(model, texts, [BASELINE], budget)
    finally:
        handle.remove()
    assert 25 <= budget.positions <= 50
    assert_equal_one_by_one(model, texts, [BASELINE], scored)


def test_fewer_branches_wait_when_memory_runs_out(tiny_model):
    model = tiny_model("llama")
    texts = Texts(rows=[np.random.default_rng(0).integers(128, size=61).tolist()])
    conditions = [
        Condition(name="r", seed=seed, operation="zero", neurons={0: (seed,)}) for seed in range(12)
    ]
    handle = refusing(model, 130)
    try:
        scored = score_texts(model, texts, conditions, TokenBudget(2000))
    finally:
        handle.remove()
    assert_equal_one_by_one(model, texts, conditions, scored)


def test_one_text_that_does_not_fit_is_its_own_error(tiny_model):
    model, budget = tiny_model("llama"), TokenBudget(1000)
    handle = refusing(model, 20)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            score_texts(model, Texts(rows=[[3] * 41]), [BASELINE], budget)
    finally:
        handle.remove()


def test_of_equally_probable_tokens_the_first_is_greedy(tiny_model):
    model = tiny_model("llama")
    weight = model.head.weight
    saved = weight.detach().clone()
    with torch.no_grad():
        weight[:] = saved[7]
    try:
        texts = Texts(rows=[[3, 0], [3, 1], [3, 127]], greedy=True)
        (scores,) = score_texts(model, texts, [BASELINE], TokenBudget(100))
    finally:
        weight.data.copy_(saved)
    assert [values.tolist() for values in scores.greedy] == [[True], [False], [False]]


def test_longrope_does_not_mix_short_and_long_texts(tmp_path):
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 10_000.0, **factors}
    rope["original_max_position_embeddings"] = 32
    changes = {"rope_parameters": rope, "original_max_position_embeddings": 32}
    model = load_folder("phi3", build_tiny("phi3", tmp_path / "longrope", **changes))
    stem = np.random.default_rng(0).integers(3, 128, size=60).tolist()
    texts = Texts(rows=[stem[:10], stem, [*stem[:8], 4, 5], [*stem[:50], 6]], greedy=True)
    conditions = [BASELINE, *layer_conditions(single=True)]
    scored = score_texts(model, texts, conditions, TokenBudget(1000))
    assert_equal_one_by_one(model, texts, conditions, scored)
    assert [len(values) for values in scored[0].greedy] == [9, 59, 9, 50]


pairs_of = st.lists(
    st.tuples(
        st.lists(st.integers(3, 6), min_size=1, max_size=4),
        st.lists(st.integers(7, 9), min_size=1, max_size=3),
        st.lists(st.integers(10, 12), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=8,
)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(pairs_of, st.integers(4, 60))
def test_relative_texts_have_the_same_margins(tiny_model, pairs, positions):
    model = tiny_model("gemma2")
    rows = [[*begin, *end] for side in (1, 2) for begin, end in ((p[0], p[side]) for p in pairs)]
    starts = [len(begin) for begin, _, _ in pairs] * 2
    clamp = Condition(name="a", seed=None, operation="zero", neurons={1: (0, 3)})
    texts = Texts(rows=rows, starts=starts)
    for condition in (BASELINE, clamp):
        sums = [
            np.array([values.sum(dtype=np.float64) for values in scores.logprobs])
            for relative in (None, [True] * len(rows))
            for scores in score_texts(
                model, replace(texts, relative=relative), [condition], TokenBudget(positions)
            )
        ]
        whole, relative = (s[: len(pairs)] - s[len(pairs) :] for s in sums)
        np.testing.assert_allclose(relative, whole, atol=ATOL)


def test_no_head_runs_where_only_the_last_words_differ(tiny_model):
    model, work = tiny_model("llama"), Work()
    texts = Texts(rows=[[3, 4, 5], [3, 4, 6]], starts=[2, 2], relative=[True, True])
    (scores,) = score_texts(model, texts, [BASELINE], TokenBudget(10), work=work)
    assert work.heads == 0
    good, bad = (one_by_one(model, row)[-1] for row in texts.rows)
    margin = float(scores.logprobs[0][0] - scores.logprobs[1][0])
    assert margin == pytest.approx(good - bad, abs=ATOL)
