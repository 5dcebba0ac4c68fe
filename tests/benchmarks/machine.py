"""The machine: what it is, and how fast it multiplies matrices."""

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from sweeper.models.loading import LoadedModel

PACKAGES = ("sweeper", "torch", "transformers", "lm_eval", "nnsight", "pyvene")
SQUARE = 4096
"""Side of the large square product."""
ROWS = 2048
"""Positions in the products with the model's own weights."""


def facts() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    return {
        "device": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def require_all_cores() -> None:
    """Use as many threads as there are cores."""
    torch.set_num_threads(os.cpu_count() or 1)


def matmul_rate(model: LoadedModel, seconds: float) -> float:
    """Best sustained rate (FLOP/s) of float32 matrix products of this machine.

    The better of a large square product and of products with the shapes of the model's own
    projections; each shape runs for ``seconds``.
    """
    return max(_sustained(*shape, seconds) for shape in _shapes(model))


def _shapes(model: LoadedModel) -> Iterable[tuple[int, int, int]]:
    """(rows, inputs, outputs) of every different projection of a layer, and of a square."""
    linear = [part for part in model.layers[0].modules() if isinstance(part, nn.Linear)]
    own = {(ROWS, part.in_features, part.out_features) for part in linear}
    return [*sorted(own), (SQUARE, SQUARE, SQUARE)]


@torch.inference_mode()
def _sustained(rows: int, inputs: int, outputs: int, seconds: float) -> float:
    left, right = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    result = torch.empty(rows, outputs)
    torch.mm(left, right.T, out=result)  # the first product sets up its threads and buffers
    begin, products = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds:
        torch.mm(left, right.T, out=result)
        products += 1
    return 2 * rows * inputs * outputs * products / elapsed


def _versions() -> dict[str, str]:
    present = [name for name in PACKAGES if importlib.util.find_spec(name)]
    return {name: importlib.metadata.version(name) for name in present}


def _memory_gib() -> float:
    return float(psutil.virtual_memory().total) / 2**30


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
