"""What is done to which neurons."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sweeper.spec.base import Allowed, EntryName, Fraction, Index, Strict


def _without_repeats(indices: Sequence[int]) -> Sequence[int]:
    repeated = next((index for index in indices if indices.count(index) > 1), None)
    if repeated is not None:
        raise ValueError(f"{repeated} is listed twice; every index may stand there once")
    return indices


Indices = Annotated[
    list[Index],
    Field(min_length=1),
    AfterValidator(_without_repeats),
    Allowed("a list of different whole numbers of at least 0"),
]
"""At least one index, none of them twice."""

Statistic = Literal["wd", "mean", "sd", "skew", "kurtosis", "share_negative"]
Layers = Literal["all"] | Indices


class ByStatistic(Strict):
    """The neurons of each layer beyond a percentile of a census statistic in that layer."""

    kind: Literal["top", "bottom"]
    statistic: Statistic = "wd"
    fraction: Fraction
    """``top``: strictly above the (1 - fraction) quantile of the layer; ``bottom``: strictly below
    the fraction quantile."""
    layers: Layers = "all"


class RandomSet(Strict):
    """Neurons drawn without replacement from the whole layer, one draw per seed of the job."""

    kind: Literal["random"]
    match: EntryName | None = None
    """Name of the condition whose count in each layer is copied, and whose control this is."""
    fraction: Fraction | None = None
    """Share of each layer, where no condition is matched."""
    layers: Layers = "all"
    """Only with ``fraction``; a matched set has the layers of the condition that it matches."""

    @model_validator(mode="after")
    def _either_match_or_fraction(self) -> Self:
        if self.match is not None and self.fraction is not None:
            raise ValueError("match and fraction are both given; exactly one of them is allowed")
        if self.match is None and self.fraction is None:
            raise ValueError("neither match nor fraction is given; exactly one of them is needed")
        if self.match is not None and self.layers != "all":
            raise ValueError("layers is given beside match; it is allowed only with fraction")
        return self


class ExplicitSet(Strict):
    """Neurons named one by one."""

    kind: Literal["explicit"]
    neurons: Annotated[dict[Index, Indices], Field(min_length=1)]
    """Layer -> neurons of that layer."""


SetSpec = Annotated[ByStatistic | RandomSet | ExplicitSet, Field(discriminator="kind")]


class ConditionSpec(Strict):
    """An operation on a set of neurons; without an operation it is the baseline."""

    operation: Literal["negative_clamp", "positive_clamp", "zero"] | None
    """On the pre-activation a: max(a, 0), min(a, 0), or 0."""
    neurons: SetSpec | None = None
    allow_unchanged: bool = False
    """Whether a clamp that changes not a single value is fine; an error otherwise."""
