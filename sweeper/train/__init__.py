"""Training of a small GPT-NeoX from nothing, with checkpoints along the way."""

from sweeper.train.training import train

__all__ = ["train"]
