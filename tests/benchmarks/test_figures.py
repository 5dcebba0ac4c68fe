import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.conditions import control_sweep, evenly, layer_sweep, unchanged_clamp
from benchmarks.counts import Counts, count, flops
from benchmarks.results import Finding
from benchmarks.timing import in_turn, ratios, spread
from sweeper.clamp.hooks import clamped


def test_counts_of_a_tree_drawn_by_hand():
    # Inputs a b c, a b d and a e; the last tokens are none. Nodes: a, ab, abc, abd, ae.
    rows = [[1, 2, 3, 9], [1, 2, 4, 9], [1, 5, 9]]
    # Scored: all of the first text (after a, ab, abc), the last token of the others (abd, ae).
    counts = count(rows, [1, 3, 2])
    assert counts == Counts(texts=3, positions=8, nodes=5, attended=1 + 2 + 3 + 3 + 2, heads=5)
    assert count(rows, [3, 3, 2]).heads == 3
    assert counts.saved == pytest.approx(3 / 8)


def test_flops_are_those_that_torch_counts(tiny_model):
    model = tiny_model("llama")
    row = list(range(1, 8))
    # Written out in matrix products: torch does not count the fused attention of CPUs.
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        model.model(input_ids=torch.tensor([row[:-1]]), use_cache=False)
    ours = flops(model, count([row], [1]))
    # Torch counts all 6 x 6 pairs of positions; the nodes attend to 1 + 2 + ... + 6 of them.
    width, layers, unused = 32, 3, 6 * 6 - 6 * 7 // 2
    assert ours == counter.get_total_flops() - 4 * width * layers * unused


def test_the_sweeps_of_the_table(tiny_model):
    model = tiny_model("llama")
    layers = [sorted(condition.neurons) for condition in layer_sweep(model)]
    assert layers == [[0], [1], [2], [0], [0, 1], [0, 1, 2]]
    controls = control_sweep(model, 10)
    assert len({condition.key for condition in controls}) == len(controls) == 12
    assert [controls.index(c) for c in evenly(controls, 4)] == [0, 4, 7, 11]
    assert evenly(controls, None) == controls


def test_the_unchanged_clamp_has_hooks_in_every_layer_and_changes_nothing(tiny_model):
    model = tiny_model("llama")
    tokens = torch.tensor([[1, 2, 3]])
    with unchanged_clamp(model) as condition, clamped(model, condition) as count:
        model.hidden_states(tokens)
    assert (count.seen, count.changed) == (3 * 3, 0)


def test_sides_run_in_turn_and_keep_their_seconds():
    order = []
    timed = in_turn({"a": lambda: order.append("a") or 1, "b": lambda: order.append("b")}, 3)
    assert "".join(order) == "ababab"
    assert len(timed["a"].seconds) == len(timed["b"].seconds) == 3
    assert timed["a"].result == 1


def test_a_row_is_judged_by_its_median():
    found = ratios([10.0, 12.0, 40.0], [2.0, 2.0, 2.0])
    assert spread(found) == pytest.approx((20 - 5) / 6)
    row = Finding(name="row", goal=6.0, ratios=found)
    assert (row.ratio, row.met) == (6.0, True)
    assert row.lines()[0].split() == ["row", "6.000", ">=", "6.000", "2.500", "met"]
    assert Finding(name="row", goal=5.9, ratios=found, at_most=True).met is False


def test_sides_that_disagree_reach_nothing():
    row = Finding(name="row", goal=1.0, ratios=[5.0], agree=False)
    assert row.met is False
    assert row.lines()[0].endswith("THE SIDES DISAGREE")
