from dataclasses import replace

import pytest
from tiny_models import build_tiny, load_folder

from sweeper.clamp.fork import Fork
from sweeper.records import Condition


def zero(**layers: tuple[int, ...]) -> Condition:
    neurons = {int(name[1:]): chosen for name, chosen in layers.items()}
    return Condition(name="c", seed=None, operation="zero", neurons=neurons)


def flip(**layers: tuple[int, ...]) -> Condition:
    return replace(zero(**layers), operation="sign_flip")


BASELINE = Condition(name="b", seed=None, operation=None)
CASES = {
    "one": ([BASELINE], 3),
    "the same twice": ([zero(l0=(1,)), zero(l0=(1,))], 3),
    "apart from the start": ([zero(l0=(1,)), zero(l0=(2,))], 1 + 2 + 2),
    "apart in the last layer": ([zero(l2=(1,)), BASELINE, zero(l2=(2,))], 3),
    "single and cumulative": ([zero(l0=(1,)), zero(l0=(1,), l1=(1,)), zero(l1=(1,))], 1 + 2 + 3),
    "not derivable": ([flip(l0=(1,)), flip(l0=(2,))], 6),
    "one of two derivable": ([flip(l0=(1,)), zero(l0=(1,))], 6),
    "one of three derivable": ([flip(l0=(1,)), BASELINE, zero(l0=(1,))], 2 + 3 + 3),
}


@pytest.mark.parametrize("name", CASES)
def test_shared_layers_count_once(tiny_model, name):
    conditions, passes = CASES[name]
    fork = Fork(tiny_model("llama"), conditions)
    assert fork.num_layer_passes(range(len(conditions))) == passes


def test_layers_that_cannot_be_derived(tiny_model, tiny_folder, tmp_path):
    """Where an MLP's output is normalised, taking a part of it away changes the rest too."""
    normed = build_tiny("opt", tmp_path / "opt", do_layer_norm_before=False)  # as OPT-350M
    models = [
        tiny_model("gemma2"),
        load_folder("opt", normed),
        load_folder("llama", tiny_folder("llama"), dtype="bfloat16"),
    ]
    for model in models:
        conditions = [zero(l0=(1,)), zero(l0=(2,))]
        assert Fork(model, conditions).num_layer_passes([0, 1]) == 6


def test_an_operation_is_part_of_what_is_compared(tiny_model):
    other = Condition(name="c", seed=None, operation="negative_clamp", neurons={0: (1,)})
    fork = Fork(tiny_model("llama"), [zero(l0=(1,)), other])
    assert fork.num_layer_passes([0, 1]) == 1 + 2 + 2


def test_neighbours_in_the_order_share_most(tiny_model):
    conditions = [zero(l0=(1,), l2=(5,)), zero(l0=(2,)), zero(l0=(1,)), zero(l0=(2,), l2=(5,))]
    fork = Fork(tiny_model("llama"), conditions)
    first, second, third, fourth = fork.order()
    assert {frozenset((first, second)), frozenset((third, fourth))} == {
        frozenset((0, 2)),
        frozenset((1, 3)),
    }


def test_clamped_neurons_are_counted_over_all_layers(tiny_model):
    fork = Fork(tiny_model("llama"), [zero(l0=(1, 2), l2=(5,)), BASELINE])
    assert [fork.num_clamped(member) for member in (0, 1)] == [3, 0]
