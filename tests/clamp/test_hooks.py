from dataclasses import replace

import numpy as np
import pytest
import torch

from sweeper.clamp.hooks import clamped
from sweeper.clamp.operations import OPERATIONS
from sweeper.models.families import FAMILIES
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition
from sweeper.spec.condition import ConditionSpec

REFERENCE = {
    "negative_clamp": lambda a: np.maximum(a, 0),
    "positive_clamp": lambda a: np.minimum(a, 0),
    "zero": lambda a: np.zeros_like(a),
}


def pre_activations(model: LoadedModel, tokens: torch.Tensor) -> list[np.ndarray]:
    """What the sites put out, by hooks that come after the clamps."""
    seen = []
    handles = [
        site.pre_activation.register_forward_hook(
            lambda _m, _i, out, s=site: seen.append(
                out[..., s.start : s.start + s.size].double().numpy().copy()
            )
        )
        for site in model.sites
    ]
    with torch.inference_mode():
        model.hidden_states(tokens)
    for handle in handles:
        handle.remove()
    return seen


def test_the_registry_and_the_job_files_name_the_same_operations():
    annotation = ConditionSpec.model_fields["operation"].annotation
    allowed = {arg for part in annotation.__args__ for arg in getattr(part, "__args__", ())}
    assert allowed == set(OPERATIONS)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@pytest.mark.parametrize("operation", sorted(REFERENCE))
def test_a_clamp_does_the_operation_to_the_set_and_nothing_else(tiny_model, model_type, operation):
    model = tiny_model(model_type)
    tokens = torch.arange(2, 26).view(2, 12)
    plain = pre_activations(model, tokens)
    layer, chosen = len(plain) - 1, (0, 3, model.sites[0].size - 1)
    condition = Condition(name="c", seed=None, operation=operation, neurons={layer: chosen})
    with clamped(model, condition) as count:
        changed = pre_activations(model, tokens)
    for index in range(layer):
        np.testing.assert_array_equal(changed[index], plain[index])
    expected = plain[layer].copy()
    expected[..., chosen] = REFERENCE[operation](plain[layer][..., chosen])
    np.testing.assert_array_equal(changed[layer], expected)
    assert count.seen == tokens.numel() * len(chosen)
    assert count.changed == (expected != plain[layer]).sum() > 0
    # Everything is as before once the block is left.
    for again, before in zip(pre_activations(model, tokens), plain, strict=True):
        np.testing.assert_array_equal(again, before)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_an_empty_clamp_changes_no_bit(tiny_model, model_type):
    model = tiny_model(model_type)
    tokens = torch.arange(2, 26).view(2, 12)
    with torch.inference_mode():
        plain = model.logits(model.hidden_states(tokens))
        for operation in (None, *OPERATIONS):
            with clamped(model, Condition(name="c", seed=None, operation=operation)) as count:
                assert torch.equal(model.logits(model.hidden_states(tokens)), plain)
            assert count.seen == count.changed == 0


def test_hooks_go_away_when_scoring_fails(tiny_model):
    model = tiny_model("llama")
    condition = Condition(name="c", seed=None, operation="zero", neurons={0: (1,), 2: (2,)})
    with pytest.raises(ZeroDivisionError), clamped(model, condition):
        raise ZeroDivisionError
    assert not any(site.pre_activation._forward_hooks for site in model.sites)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operation": "negate"}, "unknown operation 'negate'"),
        ({"neurons": {99: (0,)}}, "layer 99 is not one of"),
        ({"neurons": {0: (1, 10_000)}}, "layer 0 has neurons 0 to"),
        ({"neurons": {0: (1,), 1: (-1,)}}, "layer 1 has neurons 0 to"),
    ],
)
def test_what_the_model_lacks_is_an_error_and_leaves_no_hook(tiny_model, change, message):
    model = tiny_model("gpt2")
    base = Condition(name="c", seed=None, operation="zero", neurons={0: (1,)})
    with pytest.raises(ValueError, match=message), clamped(model, replace(base, **change)):
        pass
    assert not any(site.pre_activation._forward_hooks for site in model.sites)
