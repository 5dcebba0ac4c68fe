from pathlib import Path

import pytest
import torch
from tiny_models import TINY_CONFIGS, build_tiny

from sweeper.errors import UserError
from sweeper.models import FAMILIES, resolve, weights_folder
from sweeper.models.loading import LoadedModel, load
from sweeper.spec.model import ModelSpec


def load_folder(folder: Path, **changes) -> LoadedModel:
    spec = ModelSpec(path=str(folder), **changes)
    checkpoint = resolve("tiny", spec, "cpu")
    return load(checkpoint, spec, weights_folder(checkpoint, spec))


@pytest.fixture(params=list(FAMILIES), scope="module")
def loaded(request, tiny_folder) -> LoadedModel:
    return load_folder(tiny_folder(request.param))


@pytest.fixture
def ids_BT() -> torch.Tensor:
    return torch.randint(0, 128, (2, 24), generator=torch.Generator().manual_seed(1))


def record(loaded: LoadedModel, ids_BT: torch.Tensor) -> dict:
    """Inputs and outputs of the last layer's MLP modules in one forward pass."""
    site, seen, handles = loaded.sites[-1], {}, []

    def keep(name):
        def hook(module, args, output):
            seen[name] = (args[0].clone(), output.clone())

        return hook

    layer = loaded.layers[-1]
    modules = {"pre": site.pre_activation, "act": site.activation, "out": site.output}
    if loaded.family.up is not None:
        modules["up"] = layer.get_submodule(loaded.family.up)
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(keep(name)))
        loaded.hidden_states(ids_BT)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def test_every_family_has_a_tiny_model():
    assert set(TINY_CONFIGS) == set(FAMILIES)


def test_sites_match_the_checkpoint(loaded, ids_BT):
    checkpoint = loaded.checkpoint
    width = 128 if checkpoint.model_type == "gpt2" else 48
    assert (checkpoint.num_layers, checkpoint.num_neurons, checkpoint.context) == (3, width, 64)
    assert [site.layer for site in loaded.sites] == [0, 1, 2]
    assert all((site.start, site.size) == (0, width) for site in loaded.sites)
    outputs = record(loaded, ids_BT)["pre"][1].shape[-1]
    assert outputs == width * (2 if loaded.family.fused_gate else 1)


def test_pre_activation_is_what_enters_the_activation(loaded, ids_BT):
    seen, site = record(loaded, ids_BT), loaded.sites[-1]
    pre = seen["pre"][1][..., site.start : site.start + site.size]
    assert torch.equal(seen["act"][0], pre)
    assert (pre < 0).any()


def test_activated_neurons_enter_the_output_projection(loaded, ids_BT):
    seen, site = record(loaded, ids_BT), loaded.sites[-1]
    expected = seen["act"][1]
    if loaded.family.fused_gate:
        expected = expected * seen["pre"][1][..., site.size :]
    elif loaded.family.gated:
        expected = expected * seen["up"][1]
    torch.testing.assert_close(seen["out"][0], expected, rtol=0, atol=1e-6)


def test_logits_of_hidden_states_are_the_models_own(loaded, ids_BT):
    hidden = loaded.hidden_states(ids_BT)
    ours, plain = loaded.logits(hidden), loaded.model(ids_BT).logits
    assert ours.dtype == torch.float32
    assert hidden.shape[:2] == (2, 24)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)


def test_weights_are_frozen_and_plain(loaded):
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert next(loaded.model.parameters()).dtype == torch.float32
    assert loaded.input_device == torch.device("cpu")
    expected = "eager" if loaded.family.eager_only else "sdpa"
    assert loaded.model.config._attn_implementation == loaded.checkpoint.attention == expected


def test_soft_cap_bounds_the_logits(tiny_folder, ids_BT):
    loaded = load_folder(tiny_folder("gemma2"))
    assert loaded.soft_cap == 3.0
    assert loaded.logits(loaded.hidden_states(ids_BT)).abs().max() <= 3.0


def test_opt_head_reads_the_projected_states(tiny_folder, ids_BT):
    assert load_folder(tiny_folder("opt")).hidden_states(ids_BT).shape == (2, 24, 16)


def test_hidden_states_take_mask_and_positions(tiny_folder, ids_BT):
    loaded = load_folder(tiny_folder("llama"))
    lowest = torch.finfo(torch.float32).min
    causal = torch.full((24, 24), lowest).triu(1)[None, None].expand(2, 1, 24, 24)
    positions = torch.arange(24).expand(2, 24)
    masked = loaded.hidden_states(ids_BT, attention_mask=causal, position_ids_BT=positions)
    torch.testing.assert_close(masked, loaded.hidden_states(ids_BT), rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_bfloat16_rounds_as_the_plain_model(tiny_folder, ids_BT, model_type):
    loaded = load_folder(tiny_folder(model_type), dtype="bfloat16")
    ours = loaded.logits(loaded.hidden_states(ids_BT))
    assert torch.equal(ours, loaded.model(ids_BT).logits.float())


def test_missing_weights_are_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = build_tiny("llama", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.gate_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack weights: model\.layers\.1\.mlp\.gate_proj\.weight"):
        load_folder(folder)


def test_a_gpu_that_is_not_there_is_an_error(tiny_folder, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if torch.cuda.is_available():
        pytest.skip("the GPU was already initialised")
    spec = ModelSpec(path=str(tiny_folder("llama")))
    checkpoint = resolve("tiny", spec, "cuda")
    assert checkpoint.dtype == "bfloat16"
    with pytest.raises(UserError, match="none is visible"):
        load(checkpoint, spec, weights_folder(checkpoint, spec))


def test_loading_says_nothing_and_leaves_the_bars_on(tiny_folder, capfd):
    from transformers.utils import logging

    load_folder(tiny_folder("gpt2"))
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()


def test_stories260k_tells_a_story(shared):
    loaded = load_folder(shared / "models" / "stories260K")
    assert (loaded.checkpoint.num_layers, loaded.checkpoint.num_neurons) == (5, 172)
    start = loaded.tokenizer("Once upon a time", return_tensors="pt").input_ids
    told = loaded.model.generate(start, max_new_tokens=24, do_sample=False)
    text = loaded.tokenizer.decode(told[0], skip_special_tokens=True)
    assert text.startswith("Once upon a time, there was a little girl named Lily.")
