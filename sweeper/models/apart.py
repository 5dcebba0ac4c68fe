"""Keeping a model's layers away from the device that computes: on disk, or in the host's memory."""

from torch import nn


def device_map(model: nn.Module, layers: str, device: str, rest: str) -> dict[str, str]:
    """Where accelerate is to put each part: the layers aside, everything else on the device.

    Args:
        model: the causal language model, its weights possibly on the meta device.
        layers: path of the list of its layers.
        device: where it computes.
        rest: ``cpu`` or ``disk``, for the layers.
    """
    placed: dict[str, str] = {}
    module, path = model, ""
    for name in layers.split("."):
        for other, _ in [*module.named_children(), *module.named_parameters(recurse=False)]:
            if other != name:
                placed[f"{path}{other}"] = device
        module, path = module.get_submodule(name), f"{path}{name}."
    for index, _ in module.named_children():
        placed[f"{path}{index}"] = rest
    return placed
