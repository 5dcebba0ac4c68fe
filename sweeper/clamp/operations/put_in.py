"""Mean, and set: a number of its own is put in for every neuron, a' = value."""

from torch import Tensor


def put_in(values: Tensor, numbers_K: Tensor) -> Tensor:
    """Set pre-activations to one number for each neuron; shape (..., K), same shape back.

    ``mean`` puts in the neuron's mean over the tokens of the census (mean ablation: the neuron
    still contributes, but tells nothing about the token); ``set`` a number of the job.
    """
    return numbers_K.expand_as(values)
