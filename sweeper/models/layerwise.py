"""A decoder's layers one by one: what lets conditions share the layers that they agree on.

The decoder of transformers embeds the tokens and prepares what its layers are called with (mask,
rotary factors, ...), which differs between families. It is run once for each batch with layers
that do nothing but note how they are called; the real layers are then called in the same way, on
as many copies of the batch as there are conditions to tell apart.

Shapes: ``G`` copies of a batch, ``B`` rows, ``T`` places, ``D`` hidden size.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask

from sweeper.models.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class _Call:
    """What a layer gets besides the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Layerwise:
    """One batch on its way through the decoder."""

    def __init__(
        self,
        model: LoadedModel,
        input_ids_BT: Tensor,
        *,
        attention_mask: Tensor | BlockMask | Mapping[str, Tensor | BlockMask] | None = None,
        position_ids_BT: Tensor | None = None,
    ) -> None:
        """Embed the tokens; arguments as for ``LoadedModel.hidden_states``."""
        self._model = model
        self._num_rows = len(input_ids_BT)
        self.embedded_BTD: Tensor
        """What enters the first layer."""
        with _noting(model.layers) as (entered, calls):
            model.hidden_states(
                input_ids_BT, attention_mask=attention_mask, position_ids_BT=position_ids_BT
            )
        self.embedded_BTD = entered[0]
        self._calls: Sequence[_Call] = calls
        self._copied: dict[tuple[int, int], Tensor | BlockMask] = {}

    def layer(self, index: int, hidden_GBTD: Tensor) -> Tensor:
        """A layer's output for copies of the batch.

        Args:
            index: of the layer.
            hidden_GBTD: what enters it, shape (G * B, T, D); copies one after the other.
        """
        copies = len(hidden_GBTD) // self._num_rows
        call = self._calls[index]
        output: Tensor = self._model.layers[index](
            hidden_GBTD, *self._copies(call.args, copies), **self._copies(call.kwargs, copies)
        )
        return output

    def final(self, hidden: Tensor) -> Tensor:
        """What enters the output embedding, from what leaves the last layer; shape (..., D)."""
        for name in self._model.family.final:
            module = getattr(self._model.decoder, name)
            if module is not None:
                hidden = module(hidden.to(_device_of(module, hidden.device)))
        return hidden

    def _copies(self, value: Any, copies: int) -> Any:
        """Repeat everything in the arguments of a call that has a value for each row."""
        if copies == 1:
            return value
        if isinstance(value, Tensor | BlockMask):
            return self._repeated(value, copies)
        if isinstance(value, Mapping):
            return {key: self._copies(inner, copies) for key, inner in value.items()}
        if isinstance(value, tuple):
            return tuple(self._copies(inner, copies) for inner in value)
        return value

    def _repeated(self, value: Tensor | BlockMask, copies: int) -> Tensor | BlockMask:
        if len(value.shape) < 2 or value.shape[0] != self._num_rows:
            return value
        # One row of numbers goes with any number of copies; a rule would be asked for more rows.
        if self._num_rows == 1 and isinstance(value, Tensor):
            return value
        key = (id(value), copies)
        if key not in self._copied:  # most layers are called with the same tensors
            self._copied[key] = (
                _repeat(value, copies)
                if isinstance(value, Tensor)
                else _repeat_blocks(value, copies)
            )
        return self._copied[key]


@contextmanager
def _noting(layers: nn.ModuleList) -> Iterator[tuple[list[Tensor], list[_Call]]]:
    """Layers that note their calls and hand on what they get."""
    entered: list[Tensor] = []
    calls: list[_Call] = []

    def note(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        entered.append(hidden)
        calls.append(_Call(args, kwargs))
        return hidden

    replaced = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            vars(layer)["forward"] = note
        yield entered, calls
    finally:
        for layer, forward in zip(layers, replaced, strict=True):
            if forward is None:
                vars(layer).pop("forward", None)
            else:  # accelerate's, where it has spread the model over devices
                vars(layer)["forward"] = forward


def _repeat(rows: Tensor, copies: int) -> Tensor:
    return rows.repeat(copies, *[1] * (rows.ndim - 1))


def _repeat_blocks(mask: BlockMask, copies: int) -> BlockMask:
    """The same blocks for every copy; the rule inside of them knows the rows of one copy only."""
    num_rows, of_one_copy = mask.shape[0], mask.mask_mod

    def sees(row: Tensor, head: Tensor, place: Tensor, other: Tensor) -> Tensor:
        return of_one_copy(row % num_rows, head, place, other)

    partial, full = mask.kv_num_blocks, mask.full_kv_num_blocks
    return BlockMask.from_kv_blocks(
        _repeat(partial, copies),
        _repeat(mask.kv_indices, copies),
        None if full is None else _repeat(full, copies),
        None if mask.full_kv_indices is None else _repeat(mask.full_kv_indices, copies),
        BLOCK_SIZE=mask.BLOCK_SIZE,
        mask_mod=sees,
        seq_lengths=mask.seq_lengths,
    )


def _device_of(module: nn.Module, otherwise: torch.device) -> torch.device:
    return next((weight.device for weight in module.parameters()), otherwise)
