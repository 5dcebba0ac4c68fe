import pytest
import torch
from safetensors.torch import load_file

from sweeper.errors import UserError
from sweeper.models import resolve, weights_folder
from sweeper.models.conversion import CONVERTER, converted
from sweeper.models.fingerprint import file_sha256
from sweeper.models.loading import load
from sweeper.spec.model import ModelSpec


def test_a_gguf_file_gives_the_same_model_and_tokens(tiny_folder, tiny_gguf, converted_before):
    spec = ModelSpec(path=str(tiny_gguf))
    checkpoint = resolve("mine", spec, "cpu")
    assert checkpoint.origin == f"GGUF file {tiny_gguf}"
    assert (checkpoint.num_layers, checkpoint.num_neurons, checkpoint.context) == (3, 48, 64)
    folder = weights_folder(checkpoint, spec)
    before = load_file(tiny_folder("llama") / "model.safetensors")
    after = load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    loaded = load(checkpoint, spec, folder)
    plain = load(checkpoint, spec, tiny_folder("llama"))
    text = "the cat sees 12 dogs\n\nnear  the river 345"
    assert loaded.tokenizer(text).input_ids == plain.tokenizer(text).input_ids
    assert loaded.tokenizer.decode(loaded.tokenizer("the old cat").input_ids) == "the old cat"
    ids = torch.arange(20)[None]
    assert torch.equal(loaded.model(ids).logits, plain.model(ids).logits)


def test_processes_that_convert_at_once_agree_and_import_no_torch(two_conversions, tiny_gguf):
    folder = two_conversions.home / f"{file_sha256(tiny_gguf)}-v{CONVERTER}"
    assert two_conversions.answers == [f"{folder} False"] * 2


def test_half_a_conversion_of_a_killed_process_is_swept_away(two_conversions):
    (folder,) = (path for path in two_conversions.home.iterdir() if path.is_dir())
    assert len(load_file(folder / "model.safetensors")) > 10


def test_a_file_that_is_no_gguf_is_an_error(tmp_path):
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"broken\.gguf' is no GGUF file"):
        converted(file)


def test_a_conversion_that_fails_is_an_error_and_leaves_nothing(tmp_path, own_cache):
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF but nothing more")
    with pytest.raises(UserError, match=r"broken\.gguf' cannot be converted: .+") as caught:
        converted(file)
    assert "\n" not in str(caught.value)
    assert not [path for path in (own_cache / "gguf").iterdir() if path.is_dir()]
