"""AdamW in Pythia's manner: which weights decay, and how the learning rate goes."""

import math

from torch import nn
from torch.optim import AdamW

from sweeper.spec.training import OptimiserSpec


def new_optimiser(model: nn.Module, spec: OptimiserSpec) -> AdamW:
    """AdamW over all weights; decay is on matrices alone, not on biases and norms."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=spec.learning_rate, betas=(spec.beta1, spec.beta2), eps=spec.epsilon)


def learning_rate(spec: OptimiserSpec, step: int, steps: int) -> float:
    """Learning rate of update ``step`` (the first is 1, the last ``steps``).

    Linear up to the peak at ``warmup``; then constant, or half a cosine down to ``final_share`` of
    the peak at the last step (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts).
    """
    if step < spec.warmup:
        return spec.learning_rate * step / spec.warmup
    if spec.schedule == "constant":
        return spec.learning_rate
    way = (step - spec.warmup) / max(steps - spec.warmup, 1)
    share = spec.final_share + (1 - spec.final_share) * (1 + math.cos(math.pi * way)) / 2
    return spec.learning_rate * share
