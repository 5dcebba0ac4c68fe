import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from sweeper.models.families import FAMILIES
from sweeper.neurons.census import STATISTICS, CensusOptions, census, census_part, table_of
from sweeper.neurons.mapping import draw_pairs
from sweeper.score.memory import TokenBudget

EXACT = CensusOptions(method="exact", num_pairs=40, fingerprint="text", memory_gb=1.0)
STREAMING = CensusOptions(method="streaming", bins=256, num_pairs=40, fingerprint="text")
MOMENTS = ("mean", "sd", "skew", "kurtosis", "share_negative", "mean_abs")


def rows_of(lengths: list[int], vocabulary: int = 128) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(vocabulary, size=length).tolist() for length in lengths]


def plain_pre_activations(model, rows) -> dict[int, np.ndarray]:
    """Kept one row at a time, by hooks on the modules that hold the activation function."""
    return kept(model, rows, "activation")


def plain_inputs(model, rows) -> dict[int, np.ndarray]:
    """What enters the linear layer that feeds the activation function."""
    return kept(model, rows, "pre_activation")


def kept(model, rows, place: str) -> dict[int, np.ndarray]:
    found = {site.layer: [] for site in model.sites}
    handles = [
        getattr(site, place).register_forward_hook(
            lambda _m, inputs, _o, layer=site.layer: found[layer].append(
                inputs[0].flatten(0, -2).double().numpy().copy()
            )
        )
        for site in model.sites
    ]
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([row]))
    for handle in handles:
        handle.remove()
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


@pytest.mark.parametrize("options", [EXACT, STREAMING], ids=["exact", "streaming"])
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_statistics_of_kept_activations(tiny_model, model_type, options):
    model = tiny_model(model_type)
    rows = rows_of([40, 40, 40, 17])
    table = census(model, rows, TokenBudget(80), options)
    assert (table["num_tokens"] == 137).all()
    assert set(STATISTICS) <= set(table.columns)
    for layer, values in plain_pre_activations(model, rows).items():
        part = table[table["layer"] == layer]
        assert part["neuron"].tolist() == list(range(values.shape[1]))
        np.testing.assert_allclose(part["mean"], values.mean(0), atol=1e-5)
        np.testing.assert_allclose(part["sd"], values.std(0), rtol=1e-4)
        np.testing.assert_allclose(part["skew"], stats.skew(values), atol=1e-3)
        np.testing.assert_allclose(part["kurtosis"], stats.kurtosis(values), atol=1e-3)
        np.testing.assert_allclose(part["share_negative"], (values < 0).mean(0), atol=1 / 137)
        np.testing.assert_allclose(part["mean_abs"], np.abs(values).mean(0), atol=1e-5)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_streaming_equals_exact_within_the_stated_bound(tiny_model, model_type):
    model = tiny_model(model_type)
    rows = rows_of([40, 40, 40, 17])
    exact = census(model, rows, TokenBudget(40), EXACT)
    found = census(model, rows, TokenBudget(40), STREAMING)
    assert ((found["wd"] - exact["wd"]).abs() <= found["wd_bound"]).all()
    # The first window's 40 tokens misjudge the spread of some neurons, which widens their bins.
    assert found["wd_bound"].between(1e-4, 12 / 256).all()
    assert found["wd_bound"].median() < 5 / 256
    assert (exact["wd_bound"] == 0).all()
    for name in MOMENTS:
        np.testing.assert_allclose(found[name], exact[name], rtol=1e-9, atol=1e-9)
    # Its median comes from 64 bins, a few percent wide each.
    np.testing.assert_allclose(found["md"], exact["md"], rtol=0.1)
    assert (found["md"] / exact["md"]).median() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("model_type", ["gpt2", "opt", "phi3", "gemma2"])
def test_md_equals_brute_force_on_the_same_pairs(tiny_model, model_type):
    model = tiny_model(model_type)
    rows = rows_of([40, 40, 40, 17])
    table = census(model, rows, TokenBudget(80), EXACT)
    drawn = draw_pairs(40, [40, 40, 40, 17], "text")
    pairs = np.concatenate(
        [own + start for own, start in zip(drawn, (0, 40, 80, 120), strict=True)]
    )
    assert len(pairs) == 10 + 10 + 10 + 8
    inputs = plain_inputs(model, rows)
    for layer, values in plain_pre_activations(model, rows).items():
        dx = np.linalg.norm(inputs[layer][pairs[:, 0]] - inputs[layer][pairs[:, 1]], axis=1)
        dy = np.abs(values[pairs[:, 0]] - values[pairs[:, 1]])
        expected = ((dy / np.median(dy, axis=0)) / (dx / dx.max())[:, None]).mean(0)
        found = table[table["layer"] == layer]["md"]
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_wd_equals_scipy_with_a_large_normal_sample_on_the_real_model(stories):
    rows = rows_of([64] * 8, 512)
    exact = census(stories, rows, TokenBudget(512), EXACT)
    streamed = census(stories, rows, TokenBudget(512), STREAMING)
    values = plain_pre_activations(stories, rows)[2]
    reference = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    z = (values - values.mean(0)) / values.std(0)
    for neuron in range(0, z.shape[1], 17):
        expected = stats.wasserstein_distance(z[:, neuron], reference)
        found = [table[table["layer"] == 2].iloc[neuron] for table in (exact, streamed)]
        assert found[0]["wd"] == pytest.approx(expected, abs=2e-4)
        assert found[1]["wd"] == pytest.approx(expected, abs=found[1]["wd_bound"] + 2e-4)


def test_parts_in_any_order_are_the_whole(tiny_model):
    model = tiny_model("llama")
    rows = rows_of([24] * 7 + [9])
    # One window at a time: a forward pass rounds by what else is in its batch.
    budget = TokenBudget(24)
    whole = census_part(model, rows, (0, 8), budget, STREAMING)
    ranges = ((0, 3), (3, 4), (4, 8), (8, 11))
    parts = [census_part(model, rows, windows, budget, STREAMING) for windows in ranges]
    assert parts[3] == []
    expected = table_of([whole])
    for ordered in itertools.permutations(parts):
        found = table_of(ordered)
        assert found["num_tokens"].tolist() == expected["num_tokens"].tolist()
        for name in STATISTICS:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-12)
    for layer, summary in enumerate(whole):
        merged = parts[0][layer].merged(parts[1][layer]).merged(parts[2][layer])
        assert torch.equal(merged.counts, summary.counts)
        assert torch.equal(merged.pairs.counts, summary.pairs.counts)
        assert merged.pairs.num_pairs == summary.pairs.num_pairs == 5 * 7 + 4


def test_a_text_without_windows(tiny_model):
    model = tiny_model("llama")
    with pytest.raises(ValueError, match="no window"):
        census(model, [], TokenBudget(24), STREAMING)
    with pytest.raises(ValueError, match="no window"):
        table_of([census_part(model, [], (0, 4), TokenBudget(24), STREAMING)])


def test_batches_do_not_matter(tiny_model):
    model = tiny_model("qwen3")
    rows = rows_of([16] * 9)
    tables = [census(model, rows, TokenBudget(size), STREAMING) for size in (16, 48, 1000)]
    for table in tables[1:]:
        for name in ("mean", "sd", "mean_abs", "md", "wd"):
            np.testing.assert_allclose(table[name], tables[0][name], rtol=1e-3, atol=1e-4)


def test_one_pass_over_the_text(tiny_model):
    model = tiny_model("llama")
    seen = []
    handle = model.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(len(args[0])))
    try:
        census(model, rows_of([16] * 9), TokenBudget(64), STREAMING)
        # The first window alone, to lay out the grids; it is not read again.
        assert seen == [1, 4, 4]
        seen.clear()
        census_part(model, rows_of([16] * 9), (4, 7), TokenBudget(64), STREAMING)
        assert seen == [1, 3]
    finally:
        handle.remove()


def test_no_pairs_no_difficulty(tiny_model):
    for method in ("streaming", "exact"):
        options = CensusOptions(method=method, num_pairs=0, fingerprint="text")
        table = census(tiny_model("opt"), rows_of([16] * 3), TokenBudget(64), options)
        assert table["md"].isna().all()
        assert table["wd"].notna().all()


def test_less_memory_means_more_passes_and_the_same_numbers(tiny_model):
    model = tiny_model("llama")
    rows = rows_of([32] * 4)
    layer_gb = 128 * model.sites[0].size * 4 / 1e9

    def exactly(memory_gb: float):
        options = CensusOptions(
            method="exact", num_pairs=40, fingerprint="text", memory_gb=memory_gb
        )
        return census(model, rows, TokenBudget(64), options)

    whole = exactly(1.0)
    passes = []
    handle = model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    in_parts = exactly(layer_gb * 1.5)
    handle.remove()
    assert len(passes) == 3 * 2  # three layers alone, two batches each
    for name in STATISTICS:
        np.testing.assert_array_equal(in_parts[name], whole[name])
    with pytest.raises(MemoryError, match=r"census\.memory_gb"):
        exactly(layer_gb * 0.5)


@pytest.mark.parametrize("options", [EXACT, STREAMING], ids=["exact", "streaming"])
def test_activations_that_are_no_numbers_are_a_failure(tiny_model, options):
    model = tiny_model("opt")
    handle = model.layers[1].register_forward_pre_hook(lambda _m, args: (args[0] * torch.inf,))
    try:
        with pytest.raises(FloatingPointError, match="layer 1"):
            census(model, rows_of([8, 8]), TokenBudget(64), options)
    finally:
        handle.remove()


@pytest.mark.parametrize("options", [EXACT, STREAMING], ids=["exact", "streaming"])
def test_hooks_are_gone_afterwards(tiny_model, options):
    model = tiny_model("phi3")
    census(model, rows_of([8, 8]), TokenBudget(64), options)
    assert not any(site.pre_activation._forward_hooks for site in model.sites)


@pytest.mark.parametrize("options", [EXACT, STREAMING], ids=["exact", "streaming"])
def test_running_out_of_memory_halves_the_packing_and_changes_nothing(tiny_model, options):
    model = tiny_model("qwen2")
    rows = rows_of([16] * 12 + [9])
    expected = census(model, rows, TokenBudget(1000), options)
    seen = []

    # The allocator cannot be made to fail at will here; its error, raised where it would be.
    def refuse_large_batches(_module, args):
        seen.append(len(args[0]))
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("out of memory")

    handle = model.layers[2].register_forward_pre_hook(refuse_large_batches)
    try:
        budget = TokenBudget(1000)
        found = census(model, rows, budget, options)
    finally:
        handle.remove()
    if options is EXACT:
        assert seen == [12, 6, 3, 3, 3, 3, 1]
        assert budget.positions == 3 * 16
    else:
        assert seen == [1, 11, 5, 2, 2, 2, 2, 2, 1, 1]
    for name in STATISTICS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-3, rtol=1e-3)


def test_memory_that_runs_out_inside_the_sums_is_a_failure(tiny_model, monkeypatch):
    model = tiny_model("llama")
    from sweeper.neurons.summary import Summary

    calls = itertools.count()
    plain = Summary.add

    def breaks_off(self, values):
        plain(self, values)
        if next(calls) == 4:  # layer 1, second batch
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Summary, "add", breaks_off)
    with pytest.raises(MemoryError, match="in the middle"):
        census(model, rows_of([16] * 5), TokenBudget(64), STREAMING)


def test_a_distance_that_the_first_window_says_too_little_about_is_unknown(tiny_model, caplog):
    model = tiny_model("llama")
    rows = rows_of([64, 64])
    part = census_part(model, rows, (0, 2), TokenBudget(200), STREAMING)
    for summary in part:
        with torch.inference_mode():
            summary.slack[0] = summary.num_tokens * 1e3
    table = table_of([part])
    first = table["neuron"] == 0
    assert table.loc[first, "wd"].isna().all()
    assert (table.loc[first, "wd_bound"] > 0.1).all()
    assert table.loc[~first, "wd"].notna().all()
    assert "the Wasserstein distance of 3 neurons is unknown" in caplog.text
