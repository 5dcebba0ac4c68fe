"""Tree attention as the mask that a model of transformers takes.

Shapes: ``B`` rows, ``T`` places of a row.
"""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from sweeper.models.loading import LoadedModel

Mask = TypeVar("Mask", Tensor, BlockMask)


def tree_mask(
    model: LoadedModel, positions_BT: Tensor, ends_BT: Tensor
) -> Tensor | BlockMask | Mapping[str, Tensor | BlockMask]:
    """What says that a place sees its ancestors and itself.

    An additive mask (B, 1, T, T); for FlexAttention a block mask, whose empty blocks it leaves out.
    A sliding window counts along the path from the root, so it needs the positions. Families whose
    layers differ in that get one mask for each type of layer.

    Args:
        model: whose configuration names the window.
        positions_BT: position of each place's token in its text.
        ends_BT: one past the place's last descendant in the row.
    """
    config = model.model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if model.checkpoint.attention == "flex_attention":
        everything = _blocks(positions_BT, ends_BT, None)
        inside = everything if window is None else _blocks(positions_BT, ends_BT, window)
        return _by_layer_type(model, everything, inside)
    seen = _ancestors(ends_BT)
    full = near = _additive(seen, model.model.dtype)
    if window is not None:
        near = _additive(seen & _near(positions_BT, window), model.model.dtype)
    return _by_layer_type(model, full, near)


def _by_layer_type(model: LoadedModel, full: Mask, near: Mask) -> Mask | Mapping[str, Mask]:
    if not model.family.mask_by_layer_type:
        return near
    return {"full_attention": full, "sliding_attention": near}


def _blocks(positions_BT: Tensor, ends_BT: Tensor, window: int | None) -> BlockMask:
    """The same as a rule for pairs of places, and which blocks of pairs it leaves empty."""

    def sees(row: Tensor, _head: Tensor, place: Tensor, other: Tensor) -> Tensor:
        below = (place >= other) & (place < ends_BT[row, other])
        if window is None:
            return below
        return below & (positions_BT[row, place] - positions_BT[row, other] < window)

    rows, length = ends_BT.shape
    return create_block_mask(sees, rows, None, length, length, device=ends_BT.device)


def _ancestors(ends_BT: Tensor) -> Tensor:
    """(B, T, T): whether a place (last but one index) descends from another (last), or is it."""
    places = torch.arange(ends_BT.shape[1], device=ends_BT.device)
    return (places[None, :, None] >= places) & (places[None, :, None] < ends_BT[:, None, :])


def _near(positions_BT: Tensor, window: int) -> Tensor:
    return positions_BT[:, :, None] - positions_BT[:, None, :] < window


def _additive(seen_BTT: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(seen_BTT.shape, dtype=dtype, device=seen_BTT.device)
    return mask.masked_fill_(~seen_BTT, torch.finfo(dtype).min)[:, None]
