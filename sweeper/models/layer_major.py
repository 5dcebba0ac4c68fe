"""Layer-major execution: all of a text passes a layer before the next layer's weights are read.

For models larger than the device. The layers stay on disk or in the machine's memory (placed there
by accelerate); each one is brought to the device once in a pass over the text instead of once for
every batch, and hidden states wait on the host meanwhile. What a layer computes is what it computes
in ordinary execution, batch for batch.

Shapes: ``W`` windows, ``B`` windows of a batch, ``T`` tokens of each, ``D`` hidden size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.models.layerwise import Layerwise
from sweeper.models.loading import LoadedModel

Tokens = Sequence[Sequence[int]]


class HiddenStates:
    """Hidden states of all windows, in memory or in a file; shape (W, T, D)."""

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, most_bytes: float) -> None:
        """Make room.

        Args:
            shape: (W, T, D).
            dtype: of the model.
            most_bytes: what may be in memory; more goes to a file in the temporary folder.
        """
        number = shape[0] * shape[1] * shape[2]
        self._folder: TemporaryDirectory[str] | None = None
        if number * dtype.itemsize <= most_bytes:
            self._all_WTD = torch.empty(shape, dtype=dtype)
            return
        self._folder = TemporaryDirectory(prefix="hidden-states-")
        file = str(Path(self._folder.name) / "states")
        self._all_WTD = torch.from_file(file, shared=True, size=number, dtype=dtype).view(shape)

    @property
    def on_disk(self) -> bool:
        """Whether a file holds them."""
        return self._folder is not None

    def get(self, first: int, end: int, device: torch.device) -> Tensor:
        """Those of some windows, on the device."""
        return self._all_WTD[first:end].to(device)

    def put(self, first: int, hidden_BTD: Tensor) -> None:
        """Replace those of the windows from ``first`` on."""
        self._all_WTD[first : first + len(hidden_BTD)] = hidden_BTD.to("cpu")

    def close(self) -> None:
        """Give the room back."""
        self._all_WTD = torch.empty(0)
        if self._folder is not None:
            self._folder.cleanup()


@torch.inference_mode()
def pass_layers(
    model: LoadedModel,
    windows: Tokens,
    batch_windows: int,
    begin: Callable[[int, int], None],
    most_bytes: float = 8e9,
) -> int:
    """Pass windows of one length through the layers, one layer after the other.

    Hooks on a layer's modules see its batches in the order of the text, then those of the next
    layer.

    Args:
        model: its layers may be anywhere.
        windows: token ids, all of one length.
        batch_windows: windows of a batch.
        begin: told the first window of each batch and the one after its last, for every layer.
        most_bytes: hidden states that may be kept in memory; more are kept in a file.

    Returns:
        Number of windows.
    """
    device = model.input_device
    edges = [
        (first, min(first + batch_windows, len(windows)))
        for first in range(0, len(windows), batch_windows)
    ]
    states: HiddenStates | None = None
    calls: dict[int, Layerwise] = {}
    try:
        for first, end in edges:
            batch = Layerwise(model, torch.tensor(windows[first:end], device=device))
            # What a layer is called with depends on the shape of a batch alone.
            calls.setdefault(end - first, batch)
            if states is None:
                _, length, width = batch.embedded_BTD.shape
                dtype = batch.embedded_BTD.dtype
                states = HiddenStates((len(windows), length, width), dtype, most_bytes)
            states.put(first, batch.embedded_BTD)
        for index, layer in enumerate(model.layers):
            with resident(layer):
                for first, end in edges:
                    begin(first, end)
                    assert states is not None
                    hidden_BTD = states.get(first, end, device)
                    states.put(first, calls[end - first].layer(index, hidden_BTD))
    finally:
        if states is not None:
            states.close()
    return len(windows)


@contextmanager
def resident(layer: nn.Module) -> Iterator[None]:
    """Keep the weights of a layer on the device that accelerate brings them to for each call."""
    hooked = [module for module in layer.modules() if hasattr(module, "_hf_hook")]
    waiting: list[tuple[nn.Module, Mapping[str, Any]]] = []
    try:
        for module in hooked:
            hook: Any = module._hf_hook
            hook.pre_forward(module)
            waiting.append((module, {"forward": vars(module)["forward"]}))
            vars(module)["forward"] = module._old_forward
        yield
    finally:
        for module, replaced in waiting:
            vars(module).update(replaced)
            done: Any = module._hf_hook
            done.post_forward(module, None)
