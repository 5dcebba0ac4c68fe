import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.models.fused import fused_elementwise

TOKENS = torch.arange(2, 26).view(3, 8)


def replaced(model):
    return [module for module in model.model.modules() if "forward" in vars(module)]


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.inference_mode()
def test_the_same_states(tiny_model, model_type):
    model = tiny_model(model_type)
    expected = model.hidden_states(TOKENS)
    with fused_elementwise(model.model):
        found = model.hidden_states(TOKENS)
        num_replaced = len(replaced(model))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-6)
    assert replaced(model) == []
    # SiLU in every layer, two norms and those of queries and keys, and the last norm.
    expected_number = {"llama": 10, "mistral": 10, "qwen2": 10, "qwen3": 16, "phi3": 10}
    expected_number |= {"olmo": 3, "olmo2": 16, "olmo3": 16}
    assert num_replaced == expected_number.get(model_type, 0)


@torch.inference_mode()
def test_hooks_on_an_activation_see_what_enters_it(tiny_model):
    model, seen = tiny_model("llama"), []
    site = model.sites[0]
    entering = site.pre_activation.register_forward_hook(lambda _m, _i, o: seen.append(o.clone()))
    handle = site.activation.register_forward_hook(lambda _m, i, _o: seen.append(i[0].clone()))
    with fused_elementwise(model.model):
        model.hidden_states(TOKENS)
    entering.remove()
    handle.remove()
    assert torch.equal(*seen)


def test_put_back_after_an_error(tiny_model):
    model = tiny_model("llama")
    with pytest.raises(RuntimeError, match="inside"), fused_elementwise(model.model):
        raise RuntimeError("inside")
    assert replaced(model) == []
