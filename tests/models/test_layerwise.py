import pytest
import torch

from sweeper.models.families import FAMILIES
from sweeper.models.layerwise import Layerwise

TOKENS = torch.arange(2, 26).view(3, 8)


def walk(model, batch, hidden):
    for index in range(len(model.layers)):
        hidden = batch.layer(index, hidden)
    return batch.final(hidden)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.inference_mode()
def test_layer_by_layer_is_what_the_decoder_does(tiny_model, model_type):
    model = tiny_model(model_type)
    batch = Layerwise(model, TOKENS)
    assert torch.equal(walk(model, batch, batch.embedded_BTD), model.hidden_states(TOKENS))


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
@torch.inference_mode()
def test_copies_are_the_batch_again(tiny_model, model_type):
    model = tiny_model(model_type)
    positions = torch.arange(8).expand(3, 8) + torch.tensor([[0], [5], [9]])
    batch = Layerwise(model, TOKENS, position_ids_BT=positions)
    once = walk(model, batch, batch.embedded_BTD)
    copies = walk(model, batch, batch.embedded_BTD.repeat(4, 1, 1)).view(4, *once.shape)
    for copy in copies:
        torch.testing.assert_close(copy, once, atol=2e-5, rtol=0)


def test_layers_are_as_before(tiny_model):
    model = tiny_model("llama")

    def own(*args, **kwargs):  # as accelerate leaves it where it spreads a model
        return type(model.layers[1]).forward(model.layers[1], *args, **kwargs)

    vars(model.layers[1])["forward"] = own
    try:
        with torch.inference_mode():
            Layerwise(model, TOKENS)
        assert vars(model.layers[1])["forward"] is own
        assert "forward" not in vars(model.layers[0])
    finally:
        del vars(model.layers[1])["forward"]
