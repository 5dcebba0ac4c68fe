"""Weights of somebody else in the pickle format: tensors are read, nothing is run."""

import os
import pickletools

import pytest
import torch

from sweeper.models import resolve, weights_folder
from sweeper.models.loading import load
from sweeper.spec.model import ModelSpec


class Evil:
    def __init__(self, file) -> None:
        self.command = f"touch {file}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def pickled(tiny_folder, tmp_path):
    """Function from content to a copy of a tiny model with it as its weights."""
    import shutil

    def write(content):
        folder = tmp_path / "model"
        shutil.copytree(tiny_folder("gpt_neox"), folder)
        (folder / "model.safetensors").unlink()
        torch.save(content, folder / "pytorch_model.bin")
        spec = ModelSpec(path=str(folder))
        checkpoint = resolve("tiny", spec, "cpu")
        return lambda: load(checkpoint, spec, weights_folder(checkpoint, spec))

    return write


def test_tensors_of_a_pickle_are_read(pickled, tiny_folder, tiny_model):
    plain = tiny_model("gpt_neox").model
    # Copies, since a state dict shares the embedding with the head where they are tied.
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    loaded = pickled(state)()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)


def test_code_of_a_pickle_is_not_run(pickled, tiny_model, tmp_path):
    file = tmp_path / "pwned"
    state = {**tiny_model("gpt_neox").model.state_dict(), "evil": Evil(file)}
    act = pickled(state)
    # The file is what it should be: a plain load would have run the command.
    import zipfile

    with zipfile.ZipFile(tmp_path / "model" / "pytorch_model.bin") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        names = [str(arg) for _, arg, _ in pickletools.genops(archive.read(name))]
    assert any("system" in name for name in names)
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported|unsafe"):
        act()
    assert not file.exists()
