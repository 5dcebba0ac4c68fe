import pytest
import torch
from torch import nn

from sweeper.models import packed as room
from sweeper.models.families import FAMILIES
from sweeper.models.packed import is_packed, linear, packed, packed_linears


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.inference_mode()
def test_packed_layers_compute_the_same(tiny_model, model_type):
    model = tiny_model(model_type)
    tokens = torch.arange(2, 22).view(2, 10)
    expected = model.hidden_states(tokens)
    seen = []
    handle = model.sites[0].pre_activation.register_forward_hook(lambda *_: seen.append(1))
    try:
        with packed_linears(model.layers, model.head):
            assert "forward" in vars(model.sites[0].pre_activation)
            found = model.hidden_states(tokens)
    finally:
        handle.remove()
    assert seen
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert all("forward" not in vars(module) for module in model.layers.modules())
    assert not is_packed(model.head)


@pytest.mark.parametrize("rows", [0, 1, 7, 3000])
@torch.inference_mode()
def test_parts_of_a_weight_with_any_number_of_rows(rows):
    module = nn.Linear(24, 70)
    inputs = torch.randn(rows, 24)
    with packed_linears(nn.ModuleList(), module):
        found = linear(inputs, packed(module, 20, 70), module.bias[20:])
    torch.testing.assert_close(found, module(inputs)[:, 20:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("change", [lambda w: w.mul(2), lambda w: w.flip(0), lambda w: w.flip(1)])
@torch.inference_mode()
def test_a_changed_weight_is_laid_out_anew(tiny_model, change):
    model = tiny_model("llama")
    module = model.sites[0].pre_activation
    saved, inputs = module.weight.detach().clone(), torch.randn(3, module.weight.shape[1])
    try:
        for _ in range(2):  # neither the address nor the version of the tensor changes
            module.weight.data.copy_(change(module.weight.data))
            expected = module(inputs)
            with packed_linears(model.layers, model.head):
                torch.testing.assert_close(module(inputs), expected, atol=1e-5, rtol=1e-5)
    finally:
        module.weight.data.copy_(saved)


def test_what_cannot_be_packed_stays_as_it_is(monkeypatch):
    plain = nn.ModuleList([nn.Linear(4, 4)])
    for layers in (nn.ModuleList([nn.Linear(4, 4, dtype=torch.bfloat16)]), nn.ModuleList()):
        with packed_linears(layers, nn.Identity()):
            assert all("forward" not in vars(module) for module in layers)
    monkeypatch.setattr(room, "MOST_PACKED", 63)
    with packed_linears(plain, nn.Identity()):
        assert "forward" not in vars(plain[0])
    monkeypatch.setattr(room, "MOST_PACKED", 64)
    with packed_linears(plain, nn.Identity()):
        assert "forward" in vars(plain[0])
    assert "forward" not in vars(plain[0])
