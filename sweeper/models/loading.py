"""Loading a resolved checkpoint for computing.

Shapes: B rows, T positions, D hidden size, V vocabulary, N any number of positions.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from sweeper.errors import UserError
from sweeper.models.apart import device_map
from sweeper.models.families import Family, family_of
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpSite:
    """The modules of one layer's MLP that sweeps read and clamp."""

    layer: int
    pre_activation: nn.Module
    """Its outputs ``[..., start : start + size]`` are the neurons' pre-activations."""
    start: int
    size: int
    activation: nn.Module
    factor: nn.Module | None
    """Its outputs ``[..., factor_start : factor_start + size]`` multiply the activations; None
    where the MLP is not gated."""
    factor_start: int
    output: nn.Module
    """Projection back to the residual stream."""
    hidden: int
    """Width of the residual stream: outputs of ``output``."""

    def output_rows(self, neurons: Tensor) -> Tensor:
        """What some neurons write into the residual stream for an activation of 1; (K, D)."""
        weight = self.output.get_parameter("weight")
        neurons = neurons.to(weight.device)
        # GPT-2 keeps its weights transposed.
        return weight[neurons] if isinstance(self.output, Conv1D) else weight[:, neurons].T


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model ready for computing, its tokenizer, and where its neurons are."""

    checkpoint: Checkpoint
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    family: Family
    sites: tuple[MlpSite, ...]
    """One per layer, in order."""
    soft_cap: float | None
    """c in logits = c tanh(logits / c), where the family caps its logits."""
    input_device: torch.device
    """Where token ids must be."""

    @property
    def decoder(self) -> nn.Module:
        """The module that maps token ids to the last hidden states."""
        return self.model.get_submodule(self.family.decoder)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers."""
        layers = self.model.get_submodule(self.family.layers)
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def head(self) -> nn.Module:
        """The output embedding, which all families name alike."""
        return self.model.get_submodule("lm_head")

    @property
    def is_apart(self) -> bool:
        """Whether the layers are kept away from the device until they are needed."""
        return any(weight.is_meta for weight in self.layers.parameters())

    @property
    def output_is_added(self) -> bool:
        """Whether what an MLP puts out is added to the residual stream as it is."""
        # OPT-350M alone of its family normalises the sum.
        before = getattr(self.model.config, "do_layer_norm_before", True)
        return self.family.output_is_added and bool(before)

    def hidden_states(
        self,
        input_ids_BT: Tensor,
        *,
        attention_mask: Tensor | BlockMask | Mapping[str, Tensor | BlockMask] | None = None,
        position_ids_BT: Tensor | None = None,
    ) -> Tensor:
        """What enters the output embedding: hidden states (B, T, D) after the final norm.

        Args:
            input_ids_BT: token ids on ``input_device``.
            attention_mask: as the decoder of transformers takes it; causal over whole rows if
                absent.
            position_ids_BT: positions; 0 to T - 1 if absent.
        """
        outputs = self.decoder(
            input_ids=input_ids_BT,
            attention_mask=attention_mask,
            position_ids=position_ids_BT,
            use_cache=False,
        )
        hidden: Tensor = outputs.last_hidden_state
        return hidden

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """Output head on hidden states (..., D): float32 logits (..., V), bias and cap included."""
        return self.capped(self.head(hidden_ND))

    def capped(self, logits: Tensor) -> Tensor:
        """What the head puts out, as float32 logits; any shape."""
        if self.soft_cap is not None:  # before the cast: rounded as the plain model rounds
            logits = torch.tanh(logits / self.soft_cap) * self.soft_cap
        return logits.float()


def load(checkpoint: Checkpoint, spec: ModelSpec, folder: Path) -> LoadedModel:
    """Load a checkpoint from its folder on this machine (``weights_folder``).

    On ``cuda`` it goes to the one visible GPU, or is spread over all visible ones, but for layers
    that ``spec.offload`` keeps away until they are needed (``layer_major``).

    Raises:
        UserError: weights are missing in the files, or do not fit on the visible GPUs.
    """
    family = family_of(checkpoint.model_type)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
        model = _load_model(checkpoint, spec, folder)
    model.train(False).requires_grad_(False)
    cap = getattr(model.config, family.soft_cap_key) if family.soft_cap_key else None
    return LoadedModel(
        checkpoint=checkpoint,
        model=model,
        tokenizer=tokenizer,
        family=family,
        sites=_sites(model, family, checkpoint.num_neurons),
        soft_cap=cap,
        input_device=next(model.get_input_embeddings().parameters()).device,
    )


def _load_model(checkpoint: Checkpoint, spec: ModelSpec, folder: Path) -> PreTrainedModel:
    auto: Any = AutoModelForCausalLM  # its annotations know no loading report
    apart = spec.offload != "none"
    placement = _apart(checkpoint, spec, folder) if apart else _placement(checkpoint)
    options: dict[str, Any] = {
        "dtype": getattr(torch, checkpoint.dtype),
        "attn_implementation": checkpoint.attention,
        "device_map": placement,
        "output_loading_info": True,
    }
    if spec.random_weights is None:
        model, report = auto.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
            **options,
        )
    else:
        fresh: Any = _fresh(spec.random_weights, spec, folder)
        model, report = type(fresh).from_pretrained(
            None, config=fresh.config, state_dict=fresh.state_dict(), **options
        )
    if report["missing_keys"]:  # transformers would fill them with random numbers
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise UserError(f"model.{checkpoint.model}.path: the files lack weights: {missing}")
    if checkpoint.device == "cuda" and not apart:
        _check_on_gpus(checkpoint, model)
    loaded: PreTrainedModel = model
    return loaded


def _fresh(seed: int, spec: ModelSpec, folder: Path) -> PreTrainedModel:
    """The model with transformers' own initialisation: in float32 on CPU, whatever runs it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _untrained(spec, folder, dtype=torch.float32)


def _untrained(spec: ModelSpec, folder: Path, **options: Any) -> PreTrainedModel:
    code = spec.trust_remote_code
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=code)
    auto: Any = AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(config, trust_remote_code=code, **options)
    return model


def _placement(checkpoint: Checkpoint) -> str | None:
    if checkpoint.device == "cpu":
        return None
    if not torch.cuda.is_available():
        raise UserError(f"model.{checkpoint.model}: planned for a GPU, but none is visible here")
    return "auto" if torch.cuda.device_count() > 1 else "cuda:0"


def _apart(checkpoint: Checkpoint, spec: ModelSpec, folder: Path) -> dict[str, str]:
    """Layers away from the device; of the rest, all on one."""
    if checkpoint.device == "cpu" and spec.offload == "cpu":
        raise UserError(
            f"model.{checkpoint.model}.offload: 'cpu' is where the model computes; "
            "allowed without a GPU are none and disk"
        )
    with torch.device("meta"):
        skeleton = _untrained(spec, folder)
    device = "cpu" if checkpoint.device == "cpu" else "cuda:0"
    return device_map(skeleton, family_of(checkpoint.model_type).layers, device, spec.offload)


def _check_on_gpus(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Accelerate moves to CPU or disk what does not fit; that would run for ever."""
    off = [name for name, weight in model.named_parameters() if weight.device.type != "cuda"]
    if off:
        raise UserError(
            f"cluster.gpus_per_worker: {checkpoint.model!r} does not fit on "
            f"{torch.cuda.device_count()} GPUs ({off[0]} and {len(off) - 1} more weights are left)"
        )


def _sites(model: PreTrainedModel, family: Family, size: int) -> tuple[MlpSite, ...]:
    layers = model.get_submodule(family.layers)
    factor = family.pre_activation if family.fused_gate else family.up
    sites = tuple(
        MlpSite(
            layer=index,
            pre_activation=layer.get_submodule(family.pre_activation),
            start=0,
            size=size,
            activation=layer.get_submodule(family.activation),
            factor=layer.get_submodule(factor) if factor is not None else None,
            factor_start=size if family.fused_gate else 0,
            output=layer.get_submodule(family.output),
            hidden=getattr(model.config, family.hidden_key),
        )
        for index, layer in enumerate(layers.children())
    )
    # A hook on a module that several layers share would act in all of them.
    assert len({id(site.activation) for site in sites}) == len(sites)
    return sites


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes; errors still show."""
    notes: Any = logging
    level, bars = notes.get_verbosity(), notes.is_progress_bar_enabled()
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    try:
        yield
    finally:
        notes.set_verbosity(level)
        if bars:
            notes.enable_progress_bar()
