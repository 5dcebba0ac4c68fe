"""Weights and optimiser state in one file, from which a training goes on bit for bit."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import AdamW

from sweeper.atomic import write_atomically


def write_state(path: Path, step: int, model: nn.Module, optimiser: AdamW) -> None:
    """Write the state after ``step`` updates; it replaces an earlier one."""
    tensors = {f"model.{name}": weight.detach() for name, weight in model.named_parameters()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in entry.items()}
    write_atomically(path, save(tensors, {"step": str(step)}))


def step_of(path: Path) -> int | None:
    """Number of updates that a state has behind it; None where there is no state."""
    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        return int(file.metadata()["step"])


def read_state(path: Path, model: nn.Module, optimiser: AdamW) -> None:
    """Put a written state into a model and an optimiser of the same job."""
    weights: dict[str, Tensor] = {}
    entries: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (no mapping)
            kind, _, name = key.partition(".")
            tensor = file.get_tensor(key).clone()  # into memory that torch has aligned itself
            if kind == "model":
                weights[name] = tensor
            else:
                index, _, name = name.partition(".")
                entries.setdefault(int(index), {})[name] = tensor
    model.load_state_dict(weights)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": entries, "param_groups": groups})
