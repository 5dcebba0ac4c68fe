"""A training run: a small GPT-NeoX, the text that it reads, and the checkpoints that it keeps."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sweeper.spec.base import Count, Fraction, Index, PathText, Strict
from sweeper.spec.corpus import CorpusSpec

_ROTARY_SHARE = 8
"""Rotary embeddings turn a quarter of a head's dimensions, two by two."""


class TextSpec(Strict):
    """What the model reads: a corpus, and sentences of the project's own grammar."""

    corpus: CorpusSpec
    sentences: Index = 2000
    """Acceptable sentences of each paradigm of the grammar suite. Fillings of its templates that
    the suite itself evaluates are left out."""


class ArchitectureSpec(Strict):
    """Sizes of the GPT-NeoX, by their names in ``config.json``; all else is as in Pythia."""

    hidden_size: Count = 128
    num_hidden_layers: Count = 4
    num_attention_heads: Count = 4
    intermediate_size: Count = 512
    """Neurons of a layer."""
    max_position_embeddings: Annotated[int, Field(ge=2)] = 128
    """Context in tokens, and the length of the rows that training reads."""
    vocab_size: Annotated[int, Field(ge=257)] = 2048
    """Entries of the byte-level BPE that is trained on the same text: 256 bytes, the end of a
    document, and merges."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        multiple = self.num_attention_heads * _ROTARY_SHARE
        if self.hidden_size % multiple:
            raise ValueError(
                f"hidden_size is {self.hidden_size}; {self.num_attention_heads} heads need a "
                f"multiple of {multiple}"
            )
        return self


class OptimiserSpec(Strict):
    """AdamW on float32 weights, with Pythia's settings where nothing else is said."""

    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """Its peak, at the end of the warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up, which is linear."""
    warmup: Index = 0
    """Steps of warm-up."""
    final_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Cosine: what the last step has of the peak."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    epsilon: Fraction = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """On matrices; biases and norms do not decay."""
    max_gradient: Annotated[float, Field(gt=0)] = 1.0
    """Norm that gradients of all weights together are cut to."""


class TrainingJob(Strict):
    """A training run, the same bit for bit whenever it runs with the same libraries and threads."""

    kind: Literal["training"]
    """Tells the file from a sweep's."""
    output: PathText
    """Folder that the checkpoints ``step0``, ``step1``, ... go to."""
    seed: Index = 0
    """Decides the first weights, and the order in which the text is read."""
    text: TextSpec
    architecture: ArchitectureSpec = ArchitectureSpec()
    optimiser: OptimiserSpec = OptimiserSpec()
    steps: Count
    batch: Count = 16
    """Rows of a step."""
    checkpoints: Annotated[int, Field(ge=2)] = 12
    """How many are kept: step 0, and from step 1 to the last one at even distances of their
    logarithms."""
    resume_every: Count = 100
    """Steps after which the state is written that a stopped training goes on from."""
    threads: Count = 2
    """Compute threads. Part of the result: with others, sums are rounded in another order."""

    @model_validator(mode="after")
    def _steps_for_all_checkpoints(self) -> Self:
        if self.checkpoints > self.steps + 1:
            raise ValueError(
                f"checkpoints is {self.checkpoints}; {self.steps} steps allow {self.steps + 1}"
            )
        return self

    @property
    def checkpoint_steps(self) -> list[int]:
        """The steps whose weights are kept, ascending; step 0 is before the first update."""
        kept = [0]
        gaps = self.checkpoints - 2
        for index in range(gaps):
            even = round(self.steps ** (index / gaps))
            kept.append(max(even, kept[-1] + 1))  # early ones would fall together
        return [*kept, self.steps]
