"""What a firing census and an n-gram pass have counted, as bytes and back: exactly.

Plain arrays, whole numbers in the smallest type that holds them; nothing runs code when it is
read.
"""

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.neurons.firing import Firing
from sweeper.neurons.ngrams import Kept, Pairs


def pack_firing(firing: Firing) -> bytes:
    """A layer's counts as a NumPy archive (npz)."""
    return _bytes(
        by_position=firing.by_position.cpu().numpy(),
        by_class=firing.by_class.cpu().numpy(),
        apart=firing.apart.cpu().numpy(),
        num_windows=np.array([firing.num_windows]),
    )


def unpack_firing(data: bytes) -> Firing:
    """The counts, on CPU.

    Raises:
        ValueError: the bytes are no archive of arrays.
        KeyError: something is missing in them.
    """
    found = _arrays(data)
    return Firing(
        by_position=torch.from_numpy(found["by_position"].astype(np.int32)),
        by_class=torch.from_numpy(found["by_class"].astype(np.int32)),
        apart=torch.from_numpy(found["apart"].astype(np.int64)),
        num_windows=int(found["num_windows"][0]),
    )


def pack_ngrams(kept: Kept) -> bytes:
    """What n-grams of one length came to in a layer, as a NumPy archive (npz)."""
    pairs = kept.pairs
    factors = {} if pairs.factors is None else {"factors": pairs.factors}
    return _bytes(
        kept=kept.neurons.astype(np.uint8),
        neurons=pairs.neurons,
        ngrams=pairs.ngrams,
        counts=pairs.counts,
        **factors,
    )


def unpack_ngrams(data: bytes) -> Kept:
    """The same again.

    Raises:
        ValueError: the bytes are no archive of arrays.
        KeyError: something is missing in them.
    """
    found = _arrays(data)
    neurons, ngrams, counts = (
        found[name].astype(np.int64) for name in ("neurons", "ngrams", "counts")
    )
    pairs = Pairs(neurons, ngrams, counts, found.get("factors"))
    return Kept(neurons=found["kept"].astype(bool), pairs=pairs)


def _bytes(**arrays: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **{name: _small(one) for name, one in arrays.items()})
    return stream.getvalue()


def _small(counts: NDArray[Any]) -> NDArray[Any]:
    if counts.dtype.kind == "f":
        return counts
    return counts.astype(np.min_scalar_type(counts.max(initial=0)))


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
