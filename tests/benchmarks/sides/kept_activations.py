"""The obvious census: keep all activations, then scipy for each neuron over all cores.

Each neuron is standardised and compared with a normal sample of equal size, as studies do.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from sweeper.models.loading import LoadedModel
from sweeper.score.tokens import Row

NEURONS_PER_TASK = 8


@dataclass(frozen=True, slots=True)
class Obvious:
    """What the obvious census finds, and how long scipy took."""

    wd: NDArray[np.float64]
    """Of the neurons asked for."""
    scipy_seconds: float


_kept: list[NDArray[np.float32]] = []
"""Activations of each layer (tokens, neurons); processes that are forked off find them here."""


def distances(
    model: LoadedModel, batches: Sequence[Sequence[Row]], neurons: Sequence[tuple[int, int]]
) -> Obvious:
    """WD of some neurons, each a layer and a place in it, from kept activations of all."""
    try:
        _kept.extend(_keep(model, batches))
        begin = time.perf_counter()
        tasks = [
            neurons[i : i + NEURONS_PER_TASK] for i in range(0, len(neurons), NEURONS_PER_TASK)
        ]
        with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
            found = pool.map(_compute, tasks, chunksize=1)
        return Obvious(np.concatenate(found), time.perf_counter() - begin)
    finally:
        _kept.clear()


@torch.inference_mode()
def _keep(model: LoadedModel, batches: Sequence[Sequence[Row]]) -> list[NDArray[np.float32]]:
    parts: list[list[torch.Tensor]] = [[] for _ in model.sites]
    handles = []
    for site, own in zip(model.sites, parts, strict=True):

        def keep(
            _module: object, _inputs: object, output: torch.Tensor, own=own, site=site
        ) -> None:
            values = output[..., site.start : site.start + site.size]
            own.append(values.flatten(0, -2).float().clone())

        handles.append(site.pre_activation.register_forward_hook(keep))
    try:
        for batch in batches:
            model.hidden_states(torch.tensor(batch, device=model.input_device))
    finally:
        for handle in handles:
            handle.remove()
    layers = []
    for own in parts:
        layers.append(torch.cat(own).cpu().numpy())
        own.clear()
    return layers


def _compute(neurons: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    rng = np.random.default_rng(neurons[0])
    return np.array([_distance(_kept[layer][:, place], rng) for layer, place in neurons])


def _distance(values: NDArray[np.float32], rng: np.random.Generator) -> float:
    x = values.astype(np.float64)
    z = (x - x.mean()) / x.std()
    return float(wasserstein_distance(z, rng.standard_normal(len(z))))
