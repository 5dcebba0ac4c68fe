"""The neurons' input weights straight from a checkpoint's files, one layer at a time.

Shapes: F neurons, D inputs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from sweeper.models.families import Family, family_of
from sweeper.models.fingerprint import weight_files
from sweeper.models.loading import load
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec

Rows = Callable[[int], Tensor]
"""Index of a layer -> weights of its neurons' pre-activations, (F, D), as the files hold them."""
Part = Callable[[], Tensor]
"""Reads a stored weight."""


class MissingWeightError(RuntimeError):
    """The files of a checkpoint hold no weight where its family has the neurons."""


@contextmanager
def open_rows(checkpoint: Checkpoint, spec: ModelSpec, folder: Path) -> Iterator[Rows]:
    """Open a checkpoint's files for reading the neurons' weights; no more than a layer is read.

    Pickled files are mapped into memory, tensors only. Those of an old format cannot be, and
    random weights are in no file, so the model is loaded and all but these weights are let go.

    Args:
        checkpoint: the model at a revision.
        spec: how it is loaded.
        folder: its files (``weights_folder``).

    Yields:
        A function from a layer to its weights, until the ``with`` block is left.

    Raises:
        MissingWeightError: by the function, where the files hold no such weight.
    """
    family, files = family_of(checkpoint.model_type), weight_files(folder)
    with ExitStack() as stack:
        if spec.random_weights is not None:
            yield _loaded(checkpoint, spec, folder)
            return
        if any(_is_safetensors(file) for file in files):
            stored = _in_safetensors(files, family, checkpoint.num_neurons, stack)
        elif all(_can_be_mapped(file) for file in files if file.suffix == ".bin"):
            stored = _in_pickles(files)
        else:
            yield _loaded(checkpoint, spec, folder)
            return
        yield lambda layer: _rows(_find(stored, family, layer)(), family, checkpoint.num_neurons)


def _is_safetensors(file: Path) -> bool:
    return file.suffix == ".safetensors"


def _in_safetensors(
    files: list[Path], family: Family, num_neurons: int, stack: ExitStack
) -> dict[str, Part]:
    single = [file for file in files if file.name == "model.safetensors"]
    stored: dict[str, Part] = {}
    for file in single or filter(_is_safetensors, files):
        opened: Any = stack.enter_context(safe_open(file, framework="pt"))
        for name in opened.keys():  # noqa: SIM118, it is no mapping
            stored[name] = _slice(opened, name, family, num_neurons)
    return stored


def _slice(opened: Any, name: str, family: Family, num_neurons: int) -> Part:
    """Only the gate is read where it is one half of the weight."""

    def read() -> Tensor:
        part: Tensor = (
            opened.get_slice(name)[:num_neurons] if family.fused_gate else opened.get_tensor(name)
        )
        return part

    return read


def _can_be_mapped(file: Path) -> bool:
    # torch.save has written zip archives since 1.6.
    with file.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


def _in_pickles(files: list[Path]) -> dict[str, Part]:
    stored: dict[str, Part] = {}
    for file in files:
        if file.suffix == ".bin":
            tensors: Mapping[str, Tensor] = torch.load(
                file, map_location="cpu", weights_only=True, mmap=True
            )
            stored |= {name: _whole(tensor) for name, tensor in tensors.items()}
    return stored


def _whole(tensor: Tensor) -> Part:
    return lambda: tensor


def _find(stored: Mapping[str, Part], family: Family, layer: int) -> Part:
    """The weight of a layer; files of a bare decoder leave out the first parts of its name."""
    inner = f"{layer}.{family.pre_activation}.weight"
    path = family.layers.split(".")
    for begin in range(len(path)):
        name = ".".join([*path[begin:], inner])
        if name in stored:
            return stored[name]
    raise MissingWeightError(f"the files hold no weight {family.layers}.{inner}")


def _rows(weight: Tensor, family: Family, num_neurons: int) -> Tensor:
    rows = weight.t() if family.transposed else weight
    if family.fused_gate:
        rows = rows[:num_neurons]
    if len(rows) != num_neurons:
        raise MissingWeightError(
            f"a weight of shape {tuple(weight.shape)} is not that of {num_neurons} neurons"
        )
    return rows


def _loaded(checkpoint: Checkpoint, spec: ModelSpec, folder: Path) -> Rows:
    """The same weights out of the loaded model; float32 holds every number of smaller formats."""
    plain = replace(checkpoint, device="cpu", dtype="float32")
    model = load(plain, spec, folder)
    family, kept = model.family, [_weight(site.pre_activation) for site in model.sites]
    return lambda layer: _rows(kept[layer], family, checkpoint.num_neurons)


def _weight(module: torch.nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()
