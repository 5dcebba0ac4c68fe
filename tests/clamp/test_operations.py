"""Every operation in every family, by hooks and by forks, against MLPs written out by hand."""

from dataclasses import replace

import pytest
import torch
from mlp_reference import ACTIVATIONS, logits
from tiny_models import load_folder

from sweeper.clamp.fork import Fork
from sweeper.clamp.hooks import clamped
from sweeper.clamp.operations import OPERATIONS
from sweeper.models.families import FAMILIES
from sweeper.models.layerwise import Layerwise
from sweeper.records import Condition

ATOL = 1e-4
"""Of float32 against float64, on logits of about 10."""

families = pytest.mark.parametrize("model_type", sorted(FAMILIES))
operations = pytest.mark.parametrize("operation", sorted(OPERATIONS))
tokens = torch.arange(2, 50).view(3, 16)
BASELINE = Condition(name="baseline", seed=None, operation=None)


def condition_of(model, operation, layers=(0, 2)):
    """Some neurons of some layers, or all where the operation is on whole layers."""
    size = model.sites[0].size
    chosen = {layer: (layer, 7, 8, 20, size - 1) for layer in layers}
    values = {layer: (0.5, -1.25, 0.0, layer + 1.0, -0.1) for layer in layers}
    if operation == "remove_mlp":
        chosen = dict.fromkeys(layers, tuple(range(size)))
    return Condition(
        name=operation,
        seed=None,
        operation=operation,
        neurons=chosen,
        values=values if operation in ("mean", "set") else {},
    )


def by_hand(model, condition):
    changes = {
        layer: {
            "operation": condition.operation,
            "neurons": chosen,
            "values": condition.values.get(layer),
        }
        for layer, chosen in condition.neurons.items()
    }
    return logits(model.model, tokens, changes)


def by_hooks(model, condition):
    with torch.inference_mode(), clamped(model, condition) as count:
        return model.logits(model.hidden_states(tokens)), count


def by_fork(model, conditions, max_copies=100):
    """Logits, changed values and clamped values of a place for each condition."""
    fork = Fork(model, conditions)
    members, counted = range(len(conditions)), torch.ones_like(tokens)
    found = {}
    with torch.inference_mode(), fork.installed():
        batch = Layerwise(model, tokens)
        for branch in fork.forward(batch, members, counted, max_copies):
            for member in branch.members:
                found[member] = model.logits(batch.final(branch.hidden_BTD))
    changed = fork.changed()
    return [(found[m], changed.get(m, 0), fork.num_clamped(m)) for m in members]


@families
def test_the_reference_is_the_model_where_it_changes_nothing(tiny_model, model_type):
    model = tiny_model(model_type)
    nothing = {layer: {"operation": "zero", "neurons": ()} for layer in range(3)}
    found, _ = by_hooks(model, BASELINE)
    expected = logits(model.model, tokens, nothing)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=ATOL)


@families
@operations
def test_hooks_do_what_is_written_out_by_hand(tiny_model, model_type, operation):
    model = tiny_model(model_type)
    condition = condition_of(model, operation)
    found, count = by_hooks(model, condition)
    expected = by_hand(model, condition)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=ATOL)
    plain, _ = by_hooks(model, BASELINE)
    # A ReLU hides the negative half, is its own positive half, and has no sign.
    hidden_by_relu = operation in ("negative_clamp", "positive_relu", "sign_flip")
    if model_type == "opt" and hidden_by_relu:
        assert torch.equal(found, plain)
        assert (count.changed == 0) == (operation != "negative_clamp")
    else:
        assert (found - plain).abs().max() > 10 * ATOL
        assert 0 < count.changed <= count.seen
    hidden = sum(model.sites[layer].hidden for layer in condition.neurons)
    places = hidden if operation == "remove_mlp" else condition.num_neurons
    assert count.seen == places * tokens.numel()


@families
@pytest.mark.parametrize("max_copies", [2, 100])
def test_forks_with_all_operations_at_once(tiny_model, model_type, max_copies):
    """At all places, in the same and in different layers, some alike in the first layers."""
    model = tiny_model(model_type)
    conditions = [BASELINE]
    for operation in OPERATIONS:
        conditions += [condition_of(model, operation, layers) for layers in ((0, 2), (1,), (0,))]
    found = by_fork(model, conditions, max_copies)
    for condition, (values, changed, num_clamped) in zip(conditions, found, strict=True):
        alone, count = by_hooks(model, condition)
        torch.testing.assert_close(values, alone, rtol=0, atol=1e-5)
        assert changed == count.changed
        assert num_clamped * tokens.numel() == count.seen
        expected = by_hand(model, condition)
        torch.testing.assert_close(values.double(), expected, rtol=0, atol=ATOL)


@families
@operations
def test_changed_values_are_those_that_differ(tiny_model, model_type, operation):
    """Counted from the first layer's pre-activations, which no clamp has touched before."""
    model = tiny_model(model_type)
    condition = condition_of(model, operation, layers=[0])
    site, seen = model.sites[0], {}

    def note(module, _inputs, output):
        seen[module] = output.double().clone()

    modules = (site.pre_activation, site.activation, site.output)
    handles = [module.register_forward_hook(note) for module in modules]
    try:
        by_hooks(model, BASELINE)
    finally:
        for handle in handles:
            handle.remove()
    a, h, out = (seen[module].view(tokens.numel(), -1) for module in modules)
    a, h = (each[:, list(condition.neurons[0])] for each in (a[:, : site.size], h))
    expected = {
        "negative_clamp": lambda: a < 0,
        "positive_clamp": lambda: a > 0,
        "zero": lambda: a != 0,
        "mean": lambda: a != torch.tensor(condition.values[0]),
        "set": lambda: a != torch.tensor(condition.values[0]),
        "sign_flip": lambda: h < 0,
        "positive_relu": lambda: (a > 0) & (h != a),
        "remove_mlp": lambda: out != 0,
    }[operation]()
    _, count = by_hooks(model, condition)
    assert count.changed == expected.sum()
    assert count.seen == expected.numel()
    if operation == "positive_relu":
        assert (count.changed == 0) == (ACTIVATIONS[model_type].__name__ == "relu")


@families
def test_every_layer_has_an_activation_of_its_own(tiny_model, model_type):
    """And it is called once for each call of the layer, with what its hooks are to change."""
    model, calls = tiny_model(model_type), []
    handles = [
        site.activation.register_forward_hook(
            lambda _m, args, out, s=site: calls.append((s.layer, args[0].shape[-1], out.shape[-1]))
        )
        for site in model.sites
    ]
    try:
        by_hooks(model, BASELINE)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == [(site.layer, site.size, site.size) for site in model.sites]
    places = [
        getattr(s, p) for s in model.sites for p in ("pre_activation", "activation", "output")
    ]
    assert len(set(places)) == 9


@families
@operations
def test_all_hooks_go_away_when_something_fails(tiny_model, model_type, operation):
    model = tiny_model(model_type)
    condition = condition_of(model, operation)
    with pytest.raises(ZeroDivisionError), clamped(model, condition):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), Fork(model, [condition, BASELINE]).installed():
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in model.model.modules())


def test_conditions_with_equal_values_are_one_and_with_others_are_not(tiny_model):
    model = tiny_model("llama")
    one = condition_of(model, "set", layers=[0])
    other = replace(one, values={0: (9.0, *one.values[0][1:])})
    assert Fork(model, [one, replace(one, name="same")]).num_layer_passes([0, 1]) == 3
    assert Fork(model, [one, other]).num_layer_passes([0, 1]) == 6
    (first, *_), (second, *_), (third, *_) = by_fork(model, [one, other, one])
    assert torch.equal(first, third)
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "phi3"])
@operations
def test_low_precision_is_no_obstacle(tiny_folder, model_type, operation):
    model = load_folder(model_type, tiny_folder(model_type), dtype="bfloat16")
    condition = condition_of(model, operation)
    alone, count = by_hooks(model, condition)
    ((forked, changed, _),) = by_fork(model, [condition])
    assert torch.equal(alone, forked)
    assert 0 < changed == count.changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"operation": "remove_mlp"},
            "operation 'remove_mlp' is on whole layers; layer 0 has 48 neurons, 2 of them",
        ),
        (
            {"operation": "set"},
            "operation 'set' takes one value for each neuron; layer 0 has 2 chosen neurons and 0",
        ),
        (
            {"operation": "mean", "values": {0: (1.0,), 1: (1.0,)}},
            "operation 'mean' takes one value for each neuron; layer 0 has 2 chosen neurons and 1",
        ),
        (
            {"operation": "zero", "values": {0: (1.0, 2.0)}},
            "operation 'zero' takes no values; layer 0 has 2 chosen neurons and 2 values",
        ),
    ],
)
def test_what_an_operation_lacks_is_an_error_and_leaves_no_hook(tiny_model, change, message):
    model = tiny_model("llama")
    base = Condition(name="c", seed=None, operation=None, neurons={0: (1, 2)})
    wrong = replace(base, **change)
    with pytest.raises(ValueError, match=message), clamped(model, wrong):
        pass
    with pytest.raises(ValueError, match=message):
        Fork(model, [BASELINE, wrong])
    assert not any(module._forward_hooks for module in model.model.modules())
