"""A summary as bytes and back: plain arrays, nothing that runs code when it is read."""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.neurons.grid import Grid
from sweeper.neurons.mapping import PairSummary
from sweeper.neurons.summary import Summary


def pack(summary: Summary) -> bytes:
    """The summary as a NumPy archive (npz), counts in the smallest type that holds them."""
    pairs = summary.pairs
    arrays: dict[str, Any] = {
        "centre": _array(summary.grid.centre),
        "scale": _array(summary.grid.scale),
        "counts": _small(summary.counts),
        "sums": _array(summary.sums),
        "magnitude": _array(summary.magnitude),
        "negative": _array(summary.negative),
        "lowest": _array(summary.lowest),
        "highest": _array(summary.highest),
        "slack": _array(summary.slack),
        "num_tokens": np.int64(summary.num_tokens),
        "pair_counts": _small(pairs.counts),
        "ratios": _array(pairs.ratios),
        "num_pairs": np.int64(pairs.num_pairs),
        "widest": np.float64(pairs.widest),
    }
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def unpack(data: bytes) -> Summary:
    """The summary, on CPU.

    Raises:
        ValueError: the bytes are not a summary.
        KeyError: something is missing in them.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    pairs = PairSummary(
        counts=_counts(found["pair_counts"]),
        ratios=torch.from_numpy(found["ratios"]),
        num_pairs=int(found["num_pairs"]),
        widest=float(found["widest"]),
    )
    return Summary(
        grid=Grid(torch.from_numpy(found["centre"]), torch.from_numpy(found["scale"])),
        counts=_counts(found["counts"]),
        sums=torch.from_numpy(found["sums"]),
        magnitude=torch.from_numpy(found["magnitude"]),
        negative=torch.from_numpy(found["negative"]),
        lowest=torch.from_numpy(found["lowest"]),
        highest=torch.from_numpy(found["highest"]),
        slack=torch.from_numpy(found["slack"]),
        num_tokens=int(found["num_tokens"]),
        pairs=pairs,
    )


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.cpu().numpy()
    return array


def _small(counts: Tensor) -> NDArray[Any]:
    array = _array(counts)
    return array.astype(np.min_scalar_type(array.max(initial=0)))


def _counts(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))
