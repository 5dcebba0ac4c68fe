from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.utils import OffloadedWeightsLoader
from tiny_models import build_tiny, load_folder

from sweeper.errors import UserError
from sweeper.models.families import FAMILIES
from sweeper.models.layer_major import HiddenStates, pass_layers
from sweeper.neurons.census import CensusOptions, census
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Texts

WINDOWS = torch.randint(3, 100, (7, 12), generator=torch.Generator().manual_seed(0)).tolist()


def load_apart(model_type, folder):
    return load_folder(model_type, folder, offload="disk")


def watch(model, seen):
    """Note what every layer's MLP puts out, by layer and in the order of the windows."""

    def hook_for(index):
        def hook(_module, _inputs, output):
            seen[index].append(output.clone())

        return hook

    return [site.output.register_forward_hook(hook_for(site.layer)) for site in model.sites]


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_equals_ordinary_execution(tiny_model, tmp_path, model_type):
    apart = load_apart(model_type, build_tiny(model_type, tmp_path / "model"))
    assert all(weight.is_meta for weight in apart.layers.parameters())
    found = [[] for _ in apart.layers]
    handles = watch(apart, found)
    begun = []
    pass_layers(apart, WINDOWS, 3, lambda first, end: begun.append((first, end)))
    for handle in handles:
        handle.remove()
    assert begun == [(0, 3), (3, 6), (6, 7)] * len(apart.layers)
    assert all(weight.is_meta for weight in apart.layers.parameters())

    plain, expected = tiny_model(model_type), [[] for _ in apart.layers]
    handles = watch(plain, expected)
    with torch.inference_mode():
        for first in range(0, 7, 3):
            plain.hidden_states(torch.tensor(WINDOWS[first : first + 3]))
    for handle in handles:
        handle.remove()
    for of_layer, wanted in zip(found, expected, strict=True):
        assert len(of_layer) == 3
        for one, other in zip(of_layer, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_weights_are_read_once(tmp_path, monkeypatch):
    read, original = Counter(), OffloadedWeightsLoader.__getitem__

    def counted(self, key):
        read[key] += 1
        return original(self, key)

    apart = load_apart("llama", build_tiny("llama", tmp_path / "model"))
    monkeypatch.setattr(OffloadedWeightsLoader, "__getitem__", counted)
    pass_layers(apart, WINDOWS, 2, lambda first, end: None)
    weights = {f"model.layers.{name}" for name, _ in apart.layers.named_parameters()}
    assert read == dict.fromkeys(weights, 1)
    # Accelerate's own way reads them for every batch.
    read.clear()
    with torch.inference_mode():
        for first in range(0, 7, 2):
            apart.hidden_states(torch.tensor(WINDOWS[first : first + 2]))
    assert {read[name] for name in weights} == {4}


def test_a_failure_puts_everything_back(tmp_path):
    apart = load_apart("gpt_neox", build_tiny("gpt_neox", tmp_path / "model"))

    def fail(_module, _inputs, _output):
        raise FloatingPointError("by a hook")

    handle = apart.sites[1].output.register_forward_hook(fail)
    with pytest.raises(FloatingPointError, match="by a hook"):
        pass_layers(apart, WINDOWS, 4, lambda first, end: None)
    handle.remove()
    assert all(weight.is_meta for weight in apart.layers.parameters())
    pass_layers(apart, WINDOWS, 4, lambda first, end: None)


def test_a_census_does_not_notice(tiny_folder, tiny_model):
    options = CensusOptions(fingerprint="text", num_pairs=64, bins=64)
    rows = [*WINDOWS, WINDOWS[0][:5]]
    expected = census(tiny_model("llama"), rows, TokenBudget(30), options)
    apart = load_folder("llama", tiny_folder("llama"), offload="disk")
    found = census(apart, rows, TokenBudget(30), options)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-5)


def test_scoring_works_too(tiny_folder, tiny_model):
    texts = Texts(rows=WINDOWS)
    clamp = Condition(name="a", seed=None, operation="zero", neurons={1: (0, 3)})
    apart = load_folder("llama", tiny_folder("llama"), offload="disk")
    found = score_texts(apart, texts, [clamp], TokenBudget(100))
    expected = score_texts(tiny_model("llama"), texts, [clamp], TokenBudget(100))
    for one, other in zip(found[0].logprobs, expected[0].logprobs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_without_a_gpu_there_is_only_the_disk(tiny_folder):
    with pytest.raises(UserError, match=r"model\.llama\.offload: 'cpu' is where the model"):
        load_folder("llama", tiny_folder("llama"), offload="cpu")


def test_hidden_states_in_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    states = HiddenStates((5, 3, 2), torch.bfloat16, most_bytes=10)
    assert states.on_disk
    assert len(list(tmp_path.rglob("states"))) == 1
    values = torch.randn(2, 3, 2).bfloat16()
    states.put(3, values)
    assert torch.equal(states.get(3, 5, torch.device("cpu")), values)
    states.close()
    assert list(tmp_path.rglob("states")) == []
    in_memory = HiddenStates((5, 3, 2), torch.float32, most_bytes=1e6)
    assert not in_memory.on_disk
    in_memory.close()
