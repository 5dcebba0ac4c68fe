"""How long will it take? Work in token positions, speed from a calibration or from a guess."""

from sweeper.records import Checkpoint

FLOPS_GUESS = {"cpu": 4e10, "cuda": 1e14}
"""Floating-point operations per second of one CPU core or one GPU, before any measurement."""


def guessed_rate(checkpoint: Checkpoint, cpus: int, gpus: float) -> float:
    """Token positions per second of one worker, from the model's shape alone.

    Two operations per weight and position; weights guessed as 1.5 x layers x d_mlp^2, which is
    right within a factor of two for GPT-2 to Llama shapes.
    """
    devices = gpus if checkpoint.device == "cuda" else cpus
    weights = 1.5 * checkpoint.num_layers * checkpoint.num_neurons**2
    return FLOPS_GUESS[checkpoint.device] * max(devices, 1) / (2 * weights)
