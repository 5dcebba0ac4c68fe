"""What is done to which neurons."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from sweeper.spec.base import Allowed, Count, EntryName, Fraction, Index, Strict, Text


def without_repeats(entries: Sequence[Any]) -> Sequence[Any]:
    """Give a list back that holds nothing twice; ValueError otherwise."""
    repeated = next((entry for entry in entries if entries.count(entry) > 1), None)
    if repeated is not None:
        raise ValueError(f"{repeated} is listed twice; every entry may stand there once")
    return entries


Indices = Annotated[
    list[Index],
    Field(min_length=1),
    AfterValidator(without_repeats),
    Allowed("a list of different whole numbers of at least 0"),
]
"""At least one index, none of them twice."""

Statistic = Literal["wd", "md", "mean", "sd", "skew", "kurtosis", "mean_abs", "share_negative"]

Statistics = Annotated[
    list[Statistic],
    Field(min_length=1),
    AfterValidator(without_repeats),
    Allowed(f"a list of different ones of {', '.join(get_args(Statistic))}"),
]
"""At least one statistic of the census, none of them twice."""


class LayerGroups(Strict):
    """The condition once for each group of so many consecutive layers, each group alone."""

    groups: Count


class CumulativeLayers(Strict):
    """The condition once for the first so many layers, once for twice as many, up to all."""

    cumulative: Count


Layers = Annotated[
    Literal["all", "each"] | Indices | LayerGroups | CumulativeLayers,
    Allowed(
        "all, each, a list of different whole numbers of at least 0, {groups: N} or "
        "{cumulative: N} with N at least 1"
    ),
]
"""``each`` is groups of one layer. A last group may be smaller than the others."""


class ByStatistic(Strict):
    """The neurons of each layer beyond a percentile of a census statistic in that layer."""

    kind: Literal["top", "bottom"]
    statistic: Statistic = "wd"
    fraction: Fraction
    """``top``: strictly above the (1 - fraction) quantile of the layer; ``bottom``: strictly below
    the fraction quantile."""
    layers: Layers = "all"
    revision: Text | None = None
    """``first``, ``last`` or the name of one of the model's revisions: the set is chosen by the
    census there and is the same at all revisions, a cohort. So are its controls. Absent: chosen
    anew at each revision."""


class RandomSet(Strict):
    """Neurons drawn without replacement from the whole layer, one draw per seed of the job."""

    kind: Literal["random"]
    match: EntryName | None = None
    """Name of the condition whose count in each layer is copied, and whose control this is."""
    fraction: Fraction | None = None
    """Share of each layer, where no condition is matched."""
    layers: Layers = "all"
    """Only with ``fraction``; a matched set has the layers of the condition that it matches."""
    revision: Text | None = None
    """Only with ``fraction``: the set is drawn for that revision and is the same at all of them.
    The control of a cohort is so anyway."""

    @model_validator(mode="after")
    def _either_match_or_fraction(self) -> Self:
        if self.match is not None and self.fraction is not None:
            raise ValueError("match and fraction are both given; exactly one of them is allowed")
        if self.match is None and self.fraction is None:
            raise ValueError("neither match nor fraction is given; exactly one of them is needed")
        if self.match is not None and self.layers != "all":
            raise ValueError("layers is given beside match; it is allowed only with fraction")
        if self.match is not None and self.revision is not None:
            raise ValueError("revision is given beside match; it is allowed only with fraction")
        return self


class ExplicitSet(Strict):
    """Neurons named one by one."""

    kind: Literal["explicit"]
    neurons: Annotated[dict[Index, Indices], Field(min_length=1)]
    """Layer -> neurons of that layer."""


class MatchedSet(Strict):
    """A control that is like another condition in what it is matched by, in the same layers."""

    kind: Literal["matched"]
    match: EntryName
    """Name of the condition whose control this is."""
    by: Literal["perplexity", "moments"]
    """``perplexity``: the smallest bottom set of ``statistic`` whose clamp raises perplexity as
    much as the matched condition does. ``moments``: for each neuron of the matched condition,
    another one of its layer that is nearest in ``moments``."""
    statistic: Statistic = "wd"
    """By perplexity: what the bottom set is the bottom of."""
    moments: Statistics = Field(default=["skew", "kurtosis", "mean_abs"])
    """By moments: what is compared, each in units of its spread in the layer."""
    task: EntryName | None = None
    """By perplexity: name of the perplexity task of the suite on whose text the match is made."""
    tolerance: Fraction = 0.02
    """By perplexity: accepted difference of the two increases, relative to the matched one's."""

    @model_validator(mode="after")
    def _only_what_counts(self) -> Self:
        unused = ("moments",) if self.by == "perplexity" else ("statistic", "tolerance")
        for name in unused:
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                raise ValueError(f"{name} is {value}, but by is {self.by}, which does not read it")
        return self


class WholeLayers(Strict):
    """Every neuron of the layers."""

    kind: Literal["all"]
    layers: Layers = "all"


FiringLabel = Literal["dead", "positional"]
NgramLabel = Literal["token_detector", "bigram_detector", "trigram_detector"]
RoutingLabel = Literal["consensus", "handler", "gateway"]


class LabelledSet(Strict):
    """The neurons that the firing census or the routing analysis gives a label."""

    kind: Literal["labelled"]
    label: FiringLabel | NgramLabel | RoutingLabel
    """``dead`` (never active in any corpus), ``positional``, and detectors of tokens, bigrams and
    trigrams are told by ``firing``, the others by ``routing``."""
    layers: Layers = "all"


SetSpec = Annotated[
    ByStatistic | RandomSet | ExplicitSet | MatchedSet | WholeLayers | LabelledSet,
    Field(discriminator="kind"),
]


OperationName = Literal[
    "negative_clamp",
    "positive_clamp",
    "zero",
    "mean",
    "set",
    "sign_flip",
    "positive_relu",
    "remove_mlp",
]


class ConditionSpec(Strict):
    """An operation on a set of neurons; without an operation it is the baseline."""

    operation: OperationName | None
    """On the pre-activation a: ``negative_clamp`` max(a, 0), ``positive_clamp`` min(a, 0), ``zero``
    0, ``mean`` the neuron's mean in the census, ``set`` the number ``value``. After the activation:
    ``sign_flip`` |act(a)|, ``positive_relu`` a where a > 0 and act(a) elsewhere. ``remove_mlp``
    takes the MLP's output out of the residual stream; its set is ``{kind: all}``."""
    value: float | None = None
    """The pre-activation that ``set`` puts in."""
    neurons: SetSpec | None = None
    allow_unchanged: bool = False
    """Whether a clamp that changes not a single value is fine; an error otherwise."""
