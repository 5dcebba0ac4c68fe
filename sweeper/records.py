"""The frozen records that flow through a sweep; every room imports these."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1
"""Part of every cell key: a change of meaning of any stored number raises it."""

CellStatus = Literal["done", "failed"]
AnalysisKind = Literal["firing_part", "firing", "ngrams_part", "ngrams", "routing", "removal"]
CellKind = AnalysisKind | Literal["census_part", "census", "match", "profile", "drift", "score"]

NO_FILTER = "none"
"""Filter of lm-evaluation-harness that leaves answers as they are; metrics do not name it."""

ALL_CORPORA = "all"
"""All corpora together, in the results of a firing census; none of its corpora is so named."""


def content_hash(content: Any) -> str:
    """Hash plain data (JSON types) to 32 hexadecimal digits, independent of dictionary order.

    Raises:
        TypeError: the content holds something other than JSON types.
        ValueError: the content holds NaN or infinity.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One model at one revision, resolved: what is loaded and how it computes."""

    model: str
    """The job's name for the model."""
    revision: str
    """The job's name for the revision ("main", "step1000"); "local" for a folder or a file."""
    location: str
    """Hub repository, or absolute path of a folder in Hugging Face format."""
    commit: str | None
    """Hub commit; None for local files."""
    fingerprint: str
    """``hub:<commit>`` or ``sha256:<hash of the local files>``; covers weights and tokenizer. With
    ``random:<seed>:`` before it where the weights were drawn from a seed."""
    origin: str
    """Where the weights came from, for people ("hub HuggingFaceTB/SmolLM2-135M", ...)."""
    model_type: str
    """``config.model_type`` of transformers, the key into the table of families."""
    num_layers: int
    num_neurons: int
    """MLP hidden units per layer (d_mlp)."""
    context: int
    """Longest row in tokens that the model takes (``max_position_embeddings``)."""
    dtype: Literal["float32", "bfloat16", "float16"]
    attention: Literal["sdpa", "eager", "flex_attention"]
    device: Literal["cpu", "cuda"]
    num_parameters: int = 0
    """From the shape, within a few percent; 0 in runs of versions that did not note it."""
    step: int | None = None
    """Training step that the revision's name tells; None where it tells none."""
    activation: str = ""
    """Name of the activation function in the model's configuration; empty where it tells none."""

    def identity(self) -> dict[str, Any]:
        """The ingredients of a cell key that belong to the model (names are not among them)."""
        return {"fingerprint": self.fingerprint, "dtype": self.dtype, "attention": self.attention}


NeuronSet = Mapping[int, Sequence[int]]
"""Layer index -> sorted neuron indices of that layer; layers without neurons are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """An operation on a resolved set of neurons; the baseline has no operation and no neurons."""

    name: str
    """The job's name for the condition."""
    seed: int | None
    """Which random control this is; None where nothing is drawn at random."""
    operation: str | None
    neurons: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """Layer -> one number per neuron of ``neurons``, for operations that put in a value."""
    allow_unchanged: bool = False
    """Whether a clamp that changes no value is fine (an error otherwise)."""
    family: str = ""
    """The job's condition that this one is a part of, where it is one of several layer groups."""
    layers: tuple[int, int] | None = None
    """First and last layer of that group."""

    @property
    def key(self) -> str:
        """Content hash of what is done to which neurons; names and the seed are not part.

        ``allow_unchanged`` is: what one job takes for a result is an error to another.
        """
        sets = {str(layer): list(chosen) for layer, chosen in sorted(self.neurons.items())}
        put_in = {str(layer): list(values) for layer, values in sorted(self.values.items())}
        further = {"values": put_in} if put_in else {}
        allowed = {"allow_unchanged": True} if self.allow_unchanged else {}
        return content_hash({"operation": self.operation, "neurons": sets, **further, **allowed})

    @property
    def num_neurons(self) -> int:
        """Number of clamped neurons over all layers."""
        return sum(len(chosen) for chosen in self.neurons.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """What is known of a task before any model is loaded."""

    identity: Mapping[str, Any]
    """Everything that the numbers depend on besides model and condition, as plain data: the
    fingerprint of the data and the scoring rules. Part of the cell key."""
    positions: float
    """Expected token positions of one pass, guessed from characters."""
    num_items: int
    num_clusters: int
    has_accuracy: bool = True
    """Whether items are right or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One act that gives numbers: a census, match, profile, drift, or a task under a condition."""

    key: str
    """Content hash of everything the result depends on."""
    kind: CellKind
    model: str
    revision: str
    condition: str
    """The job's name of the condition; for cells of none their kind ("census", "drift" ...)."""
    seed: int | None
    condition_key: str | None
    task: str
    """The job's name of the task; the corpus name for a census and what else reads text (those of
    several corpora separated by commas), the earlier revision for a drift."""
    cost: float
    """Expected work in token positions (models differ in the time of one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What comes after a unit, so that a worker has files ready and keeps those of later units."""

    next_checkpoint: Checkpoint | None = None
    """What the worker will load next; None where that is not soon, or not known."""
    next_model: Mapping[str, Any] | None = None
    """Its model's specification as plain data."""
    ahead: frozenset[str] = frozenset()
    """Hub commits that the run still needs."""
    cache_gb: float | None = None
    """Most disk space of checkpoints fetched from the hub, in GB (10^9 bytes); None: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What one worker call does: cells of one checkpoint and one task that go together.

    Plain data throughout, so that it can be sent to another process as it is.
    """

    id: str
    checkpoint: Checkpoint
    cells: tuple[Cell, ...]
    """Empty where the checkpoint is only to be loaded."""
    model: Mapping[str, Any]
    """The model's specification as plain data."""
    task: Mapping[str, Any]
    """The task's or the census' validated specification as plain data."""
    corpus: Mapping[str, Any] | None
    """The corpus' specification as plain data, where the task reads one."""
    data_fingerprint: str
    """Fingerprint of the text or the items; a worker that reads other data refuses."""
    operations: Mapping[str, str | None]
    """Condition key -> operation, for the cells' conditions."""
    allow_unchanged: frozenset[str]
    """Keys of the conditions that may change no value."""
    conditions_attempt: str | None
    """Attempt whose Parquet file in the store holds the neuron sets of the cells' conditions."""
    windows: tuple[int, int] | None = None
    """Of a part of a census: its first window, and the one after its last."""
    parts: tuple[str, ...] = ()
    """Of a census that was computed in parts: their cell keys, in the order of the text."""
    match: Mapping[str, Any] | None = None
    """Of a match, as plain data: ``spec`` of the condition that is sought, and the ``census`` that
    orders the neurons (its cell key) with the ``attempt`` that holds it."""
    profile: Mapping[str, Any] | None = None
    """Of a profile, as plain data: the job's ``spec`` and the ``neurons`` by layer."""
    previous: Checkpoint | None = None
    """Of a drift: the earlier revision of the same model."""
    analysis: Mapping[str, Any] | None = None
    """Of firing, n-grams, routing and removal, as plain data: the job's ``spec``; ``corpora`` (name
    -> specification) and ``fingerprints`` (name -> fingerprint of the text); ``parts`` of what is
    put together (``key``, ``corpus``, ``windows`` of each); ``firing`` or ``routing``, the key of
    the cell that it builds upon."""
    attempt: int = 1
    """How many times the cells were tried before, plus one."""
    saved: float = 0.0
    """Part of the cells' work that they share, 0 to 1: computed once."""
    batch_share: float = 1.0
    """Part of the usual batch, 0 to 1: less after a try that took more memory than its host has."""
    outlook: Outlook = Outlook()
    """Filled in when a worker gets the unit."""

    @property
    def cost(self) -> float:
        """Expected work in token positions, what the cells share counted once."""
        return self.unshared_cost * (1 - self.saved)

    @property
    def unshared_cost(self) -> float:
        """Expected work in token positions, every cell counted in full."""
        return sum(cell.cost for cell in self.cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellError:
    """A failure of one cell, as data."""

    key: str
    type: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a worker answers for a unit: small facts only, the rows are in the store."""

    unit: str
    attempt: str
    done: tuple[str, ...]
    """Keys of the committed cells."""
    errors: tuple[CellError, ...]
    num_tokens: int
    """Token positions computed."""
    seconds: float
    load_seconds: float
    """Part of ``seconds`` spent on loading the model."""
    loaded: bool = True
    """Whether the model could be loaded; if not, every cell has failed for that reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided confidence interval; NaN where the data do not carry one."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A condition's effect on one metric, paired per item against the same model's baseline.

    NaN stands for "too little data"; the counts tell how much there was.
    """

    model: str
    revision: str
    task: str
    metric: str
    """``accuracy``, ``margin`` (nats), ``nll`` (nats per token), ``shifted`` (the group's change of
    nats per token minus the change over all tokens), or a metric of a harness task."""
    group: str
    """Phenomenon or part of speech, or "all"."""
    condition: str
    operation: str | None
    family: str
    """The job's name of the condition; that of several where it is repeated for layer groups."""
    first_layer: int | None
    last_layer: int | None
    """The condition's layer group; None where it is no part of a sweep over layers."""
    num_seeds: int
    """Seeds behind the condition; 0 where nothing is drawn at random."""
    num_items: int
    num_clusters: int
    num_neurons: float
    """Clamped neurons, mean over seeds."""
    baseline: float
    value: float
    """The metric under the condition, mean over items and seeds."""
    effect: float
    """``value - baseline`` in the metric's unit."""
    ratio: float
    """exp(effect) for ``nll`` (the factor on perplexity); NaN for other metrics."""
    cluster_low: float
    cluster_high: float
    """Cluster-robust t interval of the effect."""
    bootstrap_low: float
    bootstrap_high: float
    """Cluster-bootstrap interval of the effect."""
    seed_low: float
    seed_high: float
    """t interval over the seeds' effects; NaN with fewer than two seeds."""
    two_way_low: float
    two_way_high: float
    """Interval of the effect with seeds and clusters both random; NaN with fewer than three seeds
    or two clusters."""
    band_low: float
    band_high: float
    """Simultaneous over the layer groups of the condition's family, in this task, metric and group;
    NaN outside of families."""
    p_cluster: float
    """Two-sided cluster-robust t test of no effect: at most 0.05 where the 95 % cluster interval
    leaves out 0."""
    p_holm: float
    """``p_cluster`` after Holm. One family is the conditions x tasks of a model, revision and
    metric over all items; another is its conditions x tasks x groups."""
    p_random: float
    """Randomisation p against the random controls matched to this condition; NaN without any."""
    p_floor: float
    """1 / (1 + controls): the smallest p that many controls can give."""
    p_random_holm: float
    """``p_random`` after Holm, in the same families. It cannot fall below the floor times the tests
    of the family: with few controls it says nothing, and ``p_random`` is what there is."""
    num_tests: int
    """Tests in the family of ``p_holm``."""
    num_controls: int
    """Different random sets behind ``p_random`` and ``excess``."""
    excess: float
    """The effect minus the mean effect of the random controls; NaN without any."""
    excess_low: float
    excess_high: float
    """Its interval, paired on items, with the controls' seeds and the clusters both random; NaN
    with fewer than three controls."""
    noise: float
    """Largest change of an item's log-probability (nats) when the baseline is scored a second
    time under another packing: effects of this order are rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastEstimate:
    """A part of a contrast between two conditions, a target and a control.

    Effects are against the same model's baseline, paired per item, and the mean of the tasks, each
    with equal weight. NaN stands for "too little data"; the counts tell how much there was.
    """

    model: str
    revision: str
    contrast: str
    """The job's name for it."""
    kind: str
    """``dissociation`` or ``difference``."""
    part: str
    """Of a dissociation: ``interaction``, that is (target - control on grammar) - (target - control
    on the other tasks); the two differences themselves, ``target_minus_control_on_grammar`` and
    ``..._on_other``; and the four effects ``target_on_grammar``, ``target_on_other``,
    ``control_on_grammar`` and ``control_on_other``. Of a difference, once for each task:
    ``difference`` (target - control), ``target`` and ``control``."""
    metric: str
    target: str
    control: str
    first_layer: int | None
    last_layer: int | None
    """The target's layer group; None where it is no part of a sweep over layers."""
    tasks: str
    """Names of the tasks of the part, separated by commas."""
    estimate: float
    low: float
    high: float
    """t interval: clusters of the tasks random; where the control is drawn at random, its seeds
    too, and NaN with fewer than three."""
    bootstrap_low: float
    bootstrap_high: float
    """Bootstrap of the clusters within each task; seeds as they are."""
    df: float
    """Degrees of freedom of the t interval (Welch-Satterthwaite)."""
    p: float
    """Two-sided t test that the true value is 0."""
    p_directed: float
    """One-sided t test of what a double dissociation claims: that the target is worse than the
    control on grammar, and the control worse than the target on the other tasks; NaN elsewhere."""
    p_holm: float
    """``p_directed`` after Holm over the contrast's directed tests in this checkpoint: the
    dissociation is double where both are small. Of a difference, ``p`` of the part ``difference``
    after Holm over tasks (and layer groups)."""
    p_random: float
    """Randomisation p: how extreme the part is among those with each of the target's random
    controls in the target's place (parts of the control alone: the control's). Where the control is
    not those random sets itself, it tests whether the target differs from random sets, not whether
    it differs from the control. NaN without any."""
    p_floor: float
    """1 / (1 + controls): the smallest randomisation p that many controls can give."""
    num_controls: int
    """Different random sets behind ``p_random``: those that all tasks of the contrast have."""
    num_tasks: int
    """Tasks with results of both conditions."""
    num_items: int
    num_clusters: int
