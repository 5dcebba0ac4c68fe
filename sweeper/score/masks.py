"""Tree attention as the mask that a model of transformers takes.

Shapes: ``B`` rows, ``T`` places of a row.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from sweeper.models.loading import LoadedModel


def tree_mask(
    model: LoadedModel, positions_BT: Tensor, ends_BT: Tensor
) -> Tensor | Mapping[str, Tensor]:
    """Additive mask (B, 1, T, T): a place sees its ancestors and itself.

    A sliding window counts along the path from the root, so it needs the positions. Families whose
    layers differ in that get one mask for each type of layer.

    Args:
        model: whose configuration names the window.
        positions_BT: position of each place's token in its text.
        ends_BT: one past the place's last descendant in the row.
    """
    config = model.model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    seen = _ancestors(ends_BT)
    near = seen if window is None else seen & _near(positions_BT, window)
    dtype = model.model.dtype
    if not model.family.mask_by_layer_type:
        return _additive(near, dtype)
    full = _additive(seen, dtype)
    return {
        "full_attention": full,
        "sliding_attention": full if near is seen else _additive(near, dtype),
    }


def _ancestors(ends_BT: Tensor) -> Tensor:
    """(B, T, T): whether a place (last but one index) descends from another (last), or is it."""
    places = torch.arange(ends_BT.shape[1], device=ends_BT.device)
    return (places[None, :, None] >= places) & (places[None, :, None] < ends_BT[:, None, :])


def _near(positions_BT: Tensor, window: int) -> Tensor:
    return positions_BT[:, :, None] - positions_BT[:, None, :] < window


def _additive(seen_BTT: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(seen_BTT.shape, dtype=dtype, device=seen_BTT.device)
    return mask.masked_fill_(~seen_BTT, torch.finfo(dtype).min)[:, None]
