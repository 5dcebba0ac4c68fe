"""Weights straight from files are those of the loaded model's pre-activation modules."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TINY_CONFIGS

from sweeper.models import neuron_weights, resolve
from sweeper.models.neuron_weights import MissingWeightError, open_rows
from sweeper.spec.model import ModelSpec


def read(folder, **changes):
    """The rows of every layer, copied before the files are closed."""
    spec = ModelSpec(path=str(folder), **changes)
    checkpoint = resolve("m", spec, "cpu")
    with open_rows(checkpoint, spec, folder) as rows:
        return [rows(layer).clone() for layer in range(checkpoint.num_layers)]


def loaded(model):
    """(neurons, inputs) out of plain modules: the part of the output that is the pre-activation."""
    found = []
    for site in model.sites:
        module = site.pre_activation
        probe = torch.eye(module.weight.shape[0 if model.family.transposed else 1])
        with torch.inference_mode():
            origin = module(torch.zeros_like(probe[:1]))
            found.append((module(probe) - origin).T[site.start : site.start + site.size])
    return found


def same(found, wanted, atol=1e-6):
    assert len(found) == len(wanted)
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=atol)


@pytest.mark.parametrize("model_type", TINY_CONFIGS)
def test_rows_are_what_the_neurons_multiply_their_inputs_with(tiny_folder, tiny_model, model_type):
    same(read(tiny_folder(model_type)), loaded(tiny_model(model_type)))


def as_pickle(folder, target, **options):
    """The same model with its weights in a pickled file."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    torch.save(weights, target / "pytorch_model.bin", **options)
    return target


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "phi3"])
@pytest.mark.parametrize("modern", [True, False])
def test_pickled_files_of_both_formats(tiny_folder, tiny_model, tmp_path, model_type, modern):
    folder = as_pickle(
        tiny_folder(model_type), tmp_path / "bin", _use_new_zipfile_serialization=modern
    )
    same(read(folder), loaded(tiny_model(model_type)))


def test_a_mapped_file_needs_no_model(tiny_folder, tmp_path, monkeypatch):
    folder = as_pickle(tiny_folder("llama"), tmp_path / "bin")
    monkeypatch.setattr(neuron_weights, "load", lambda *_: pytest.fail("a model is loaded"))
    assert len(read(folder)) == 3


def test_files_of_a_bare_decoder_leave_out_the_first_names(tiny_folder, tiny_model, tmp_path):
    # As GPT-2's own on the hub.
    folder = tmp_path / "bare"
    shutil.copytree(tiny_folder("gpt2"), folder)
    weights = load_file(folder / "model.safetensors")
    assert all(name.startswith("transformer.") or name == "lm_head.weight" for name in weights)
    bare = {name.removeprefix("transformer."): value for name, value in weights.items()}
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    same(read(folder), loaded(tiny_model("gpt2")))


def test_weights_in_several_files(tiny_folder, tiny_model, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(tiny_folder("qwen3"), folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        some = {name: weights[name] for name in part}
        save_file(some, folder / f"model-{number:05}-of-00002.safetensors")
    same(read(folder), loaded(tiny_model("qwen3")))


def test_numbers_are_as_the_files_hold_them(tiny_folder, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(tiny_folder("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    half = {name: value.to(torch.float16) for name, value in weights.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    found = read(folder, dtype="bfloat16")
    assert {rows.dtype for rows in found} == {torch.float16}
    assert torch.equal(found[1], half["model.layers.1.mlp.gate_proj.weight"])


def test_a_missing_weight_is_named(tiny_folder, tmp_path):
    folder = tmp_path / "lacking"
    shutil.copytree(tiny_folder("gpt_neox"), folder)
    weights = load_file(folder / "model.safetensors")
    name = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingWeightError, match=f"hold no weight {name}$"):
        read(folder)


def test_a_weight_of_another_size_is_refused(tiny_folder, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(tiny_folder("gpt_neox"), folder)
    weights = load_file(folder / "model.safetensors")
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    weights[name] = weights[name][:-1].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingWeightError, match=r"shape \(47, 32\) is not that of 48 neurons"):
        read(folder)
