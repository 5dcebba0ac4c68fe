"""Sign flip: negative outputs of the activation function turn positive, h' = |act(a)|."""

from torch import Tensor


def sign_flip(activations: Tensor) -> Tensor:
    """Keep the magnitude of activations and drop their sign; any shape, same shape back.

    Source: Kong et al. 2026 (arXiv 2509.24198), which tells sign from magnitude by it.
    """
    return activations.abs()
