from collections import Counter

import numpy as np
import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.neurons import firing as firing_module
from sweeper.neurons.firing import PIECE, Firing, WindowsText, firing_of
from sweeper.neurons.packed_firing import pack_firing, unpack_firing
from sweeper.score.memory import TokenBudget

LENGTH = 12
THRESHOLDS = (0.0, 0.05)


def windows(num=6):
    """Windows of random tokens, some of them special (0)."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(3, 100, size=(num, LENGTH))
    drawn[rng.random(drawn.shape) < 0.1] = 0
    return drawn.tolist()


def activations(model, rows):
    """Layer -> post-activation values by plain hooks on the activation functions, (W, T, F)."""
    kept = [[] for _ in model.sites]

    def hook_for(layer):
        # OPT's MLPs know no windows, only places.
        return lambda _m, _i, output: kept[layer].append(output.flatten(0, -2).clone())

    handles = [s.activation.register_forward_hook(hook_for(s.layer)) for s in model.sites]
    with torch.inference_mode():
        for row in rows:
            model.model(input_ids=torch.tensor([row]))
    for handle in handles:
        handle.remove()
    return [[values[..., : model.sites[0].size].numpy() for values in of_one] for of_one in kept]


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_plain_hooks(tiny_model, model_type, threshold):
    model, rows = tiny_model(model_type), windows()
    found = firing_of(model, rows, range(len(rows)), TokenBudget(30), threshold, LENGTH)
    expected = activations(model, rows)
    for firing, of_layer in zip(found, expected, strict=True):
        fires = [values > threshold for values in of_layer]
        # A value at the threshold itself may fall on either side by rounding.
        unsure = sum(int((np.abs(v - threshold) < 1e-6).sum()) for v in of_layer if threshold)
        together = np.concatenate(fires)
        difference = np.abs(firing.active.numpy() - together.sum(0)).sum()
        assert difference <= unsure
        positions = np.abs(firing.by_position.numpy() - np.stack(fires).sum(0)).sum()
        assert positions <= unsure
        assert (firing.num_tokens, firing.num_windows) == (len(together), len(rows))
        assert 0.05 < together.mean() < 0.95
        known, after = firing.first_pass(0.9), after_ngrams(rows, fires)
        assert np.abs(known.activations - after).sum() <= 3 * unsure


def after_ngrams(rows, fires):
    """Activations at the ends of n-grams without special tokens (0), spelt out; (3, F)."""
    found = np.zeros((3, fires[0].shape[1]), int)
    for row, of_window in zip(rows, fires, strict=True):
        for n in (1, 2, 3):
            for end in range(n - 1, LENGTH):
                if 0 not in row[end - n + 1 : end + 1]:
                    found[n - 1] += of_window[end]
    return found


@pytest.mark.parametrize("cover", [0.5, 0.9])
def test_it_takes_no_fewer_ngrams(tiny_model, cover):
    """The bound holds, and is the number of tokens where each is of a class of its own."""
    model, rows = tiny_model("opt"), windows()
    found = firing_of(model, rows, range(len(rows)), TokenBudget(30), 0.0, LENGTH)
    for firing, of_layer in zip(found, activations(model, rows), strict=True):
        least = firing.first_pass(cover).least
        for neuron in range(48):
            needed = [
                to_cover(rows, [values[:, neuron] > 0 for values in of_layer], n, cover)
                for n in (1, 2, 3)
            ]
            assert least[0, neuron] == needed[0]
            assert (least[:, neuron] <= needed).all()


def to_cover(rows, fires, n, cover):
    """Smallest number of n-grams that make up a share of a neuron's activations."""
    counts = Counter(
        tuple(row[end - n + 1 : end + 1])
        for row, active in zip(rows, fires, strict=True)
        for end in range(n - 1, LENGTH)
        if active[end] and 0 not in row[end - n + 1 : end + 1]
    )
    within = np.cumsum([count for _, count in counts.most_common()])
    return int((within < cover * within[-1] - 1e-9).sum()) + 1 if counts else 0


def test_parts_merge_to_the_whole(tiny_model):
    model, rows = tiny_model("llama"), windows()
    whole, first, second = (
        firing_of(model, rows, some, TokenBudget(24), 0.0, LENGTH)
        for some in (range(6), range(2), range(2, 6))
    )
    for all_of_it, one, other in zip(whole, first, second, strict=True):
        merged = unpack_firing(pack_firing(one)).merged(unpack_firing(pack_firing(other)))
        assert torch.equal(merged.active, all_of_it.active)
        assert torch.equal(merged.by_position, all_of_it.by_position)
        assert torch.equal(merged.by_class, all_of_it.by_class)
        assert torch.equal(merged.apart, all_of_it.apart)
        assert (merged.num_tokens, merged.num_windows) == (all_of_it.num_tokens, 6)


def test_frequency_by_position(tiny_model):
    model = tiny_model("opt")
    (firing, *_) = firing_of(model, windows(), range(6), TokenBudget(100), 0.0, LENGTH)
    frequency = firing.frequency_by_position()
    assert frequency.shape == (48, LENGTH)
    np.testing.assert_allclose(frequency * 6, firing.by_position.numpy().T, atol=1e-12)
    nothing = Firing.empty(LENGTH, 48, torch.device("cpu"))
    assert np.isnan(nothing.frequency_by_position()).all()


def test_windows_have_one_length(tiny_model):
    rows = [*windows(), [3, 4]]
    with pytest.raises(ValueError, match="windows of 12 tokens"):
        firing_of(tiny_model("opt"), rows, range(7), TokenBudget(100), 0.0, LENGTH)


def test_small_pieces_count_the_same(tiny_model, monkeypatch):
    model, rows = tiny_model("gpt2"), windows()
    whole = firing_of(model, rows, range(6), TokenBudget(100), 0.0, LENGTH)
    monkeypatch.setitem(PIECE, "cpu", 5 * model.sites[0].size)
    pieces = firing_of(model, rows, range(6), TokenBudget(100), 0.0, LENGTH)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.equal(one.by_position, other.by_position)
        assert torch.equal(one.by_class, other.by_class)


def test_nan_is_an_error_and_infinity_is_not():
    text = WindowsText.of([[5, 6, 7]], np.array([0]))
    for value in (float("inf"), float("nan")):
        values = torch.tensor([[1.0, -1.0], [value, 0.0], [-float("inf"), 2.0]])
        firing = Firing.empty(3, 2, torch.device("cpu"))
        if value == value:
            firing.add(values, 0.5, text)
            assert firing.active.tolist() == [2, 1]
        else:
            with pytest.raises(FloatingPointError, match="NaN"):
                firing.add(values, 0.5, text)


def test_nothing_is_added_if_memory_runs_out(monkeypatch):
    """Wherever memory runs out, the counts stay as they were."""
    text = WindowsText.of([[5, 6, 7]] * 300, np.array([0]))  # more windows than a byte counts
    values = torch.randn(900, 2)
    firing = Firing.empty(3, 2, torch.device("cpu"))
    firing.add(values, 0.0, text)
    before = pack_firing(firing)
    for name in ("stack", "zeros", "split", "from_numpy"):
        with monkeypatch.context() as patched:

            def out_of_memory(*_args, **_named):
                raise torch.OutOfMemoryError("out of memory")

            patched.setattr(torch, name, out_of_memory)
            with pytest.raises(torch.OutOfMemoryError):
                firing.add(values, 0.0, text)
        assert pack_firing(firing) == before
    firing.add(values, 0.0, text)
    assert torch.equal(firing.active, 2 * unpack_firing(before).active)
    assert firing.num_windows == 600


def test_counting_begins_again_after_memory_has_run_out(tiny_model, monkeypatch):
    model, rows = tiny_model("opt"), windows()
    expected = firing_of(model, rows, range(6), TokenBudget(100), 0.0, LENGTH)
    count, calls = firing_module._count, []

    def short_of_memory(*args):
        calls.append(args)
        if len(calls) == 2:  # the second layer, after the first has counted
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return count(*args)

    monkeypatch.setattr(firing_module, "_count", short_of_memory)
    budget = TokenBudget(100)
    found = firing_of(model, rows, range(6), budget, 0.0, LENGTH)
    assert budget.positions < 100
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.by_position, other.by_position)
        assert torch.equal(one.by_class, other.by_class)
        assert one.num_windows == 6
