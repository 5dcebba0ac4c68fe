"""Explicit Arrow schemas of the firing census, the n-grams and the routing analysis."""

import pyarrow as pa

from sweeper.store.columns import floats, required, strings

FIRING_PARTS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        required("state", pa.large_binary()),
    ]
)
"""What a part of a firing census has counted: one row per layer (``run.firing_work``)."""

FIRING = pa.schema(
    [
        *strings("cell_key", "attempt", "corpus"),
        *(required(name, pa.int32()) for name in ("layer", "neuron")),
        *(required(name, pa.int64()) for name in ("active", "num_tokens")),
        required("num_windows", pa.int32()),
        pa.field("information", pa.float64()),
        required("positional", pa.bool_()),
        pa.field("type", pa.string()),
        pa.field("strong", pa.bool_()),
        pa.field("after_ngrams", pa.list_(pa.int64())),
        pa.field("least_ngrams", pa.list_(pa.int32())),
    ]
)
"""Firing census: one row per corpus and neuron, and one for all corpora together (``corpus`` is
``all``). A neuron was ``active`` at so many of ``num_tokens`` tokens. ``information`` is the mutual
information of activity and position in nats, with what chance gives, which is taken off before it
makes a neuron ``positional``; ``type`` and ``strong`` are null where it is not
(``neurons.positional``).

Of all corpora together only, null elsewhere, for n = 1, 2, 3: ``after_ngrams`` activations are at
the end of an n-gram, and it takes at least ``least_ngrams`` of them to make up 95 %
(``neurons.firing``)."""

POSITIONS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron")),
        required("frequency", pa.list_(pa.float32())),
    ]
)
"""Activation frequency by position over all corpora: one row per positional neuron."""

NGRAM_PARTS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        required("n", pa.int32()),
        required("state", pa.large_binary()),
    ]
)
"""N-grams counted in a part of the text: one row per layer and n (``run.ngram_work``)."""

NGRAMS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron", "n")),
        required("activations", pa.int64()),
        pa.field("to_cover", pa.int32()),
        required("detector", pa.bool_()),
        required("num_covered", pa.int32()),
        pa.field("projection", pa.float64()),
        pa.field("suppresses", pa.bool_()),
    ]
)
"""What n-grams explain of a neuron, over all corpora: one row per neuron that was ever active
after an n-gram, and n.

``to_cover`` is the smallest number of n-grams that make up 95 % of its ``activations``, null where
it takes more than the job's ``most_ngrams``. ``num_covered`` n-grams are covered by a detector.
``projection`` is the mean change of the logits of a token detector's tokens per unit of activation,
``suppresses`` whether it is negative; null elsewhere. In gated MLPs the unit is multiplied with the
mean factor (the up projection) that the activations on the token have (``neurons.projection``)."""

DETECTED = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron", "n")),
        required("tokens", pa.list_(pa.int32())),
        *strings("text"),
        *(required(name, pa.int64()) for name in ("count", "occurrences")),
        pa.field("projection", pa.float64()),
        pa.field("factor", pa.float64()),
    ]
)
"""The n-grams that detectors cover: one row per detector and n-gram. The neuron was active at
``count`` of its ``occurrences``; ``projection`` is the change of its logit per unit of activation
where it is a single token. In gated MLPs ``factor`` is the mean over those ``count`` of what
multiplies the activation, and part of ``projection``; null in others."""

PROJECTIONS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron")),
        *strings("direction"),
        *(required(name, pa.int32()) for name in ("rank", "token")),
        *strings("text"),
        *floats("logit"),
    ]
)
"""Tokens that detectors of tokens promote and suppress most through the output embedding: one row
per detector, ``direction`` (``promoted``, ``suppressed``) and ``rank`` from 0; ``logit`` per unit
of activation, before norms, in gated MLPs with the mean factor on the detector's tokens."""

ROUTING_LAYERS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        required("num_tokens", pa.int64()),
        required("num_documents", pa.int32()),
        *floats("linear_share"),
        *strings("phase"),
        pa.field("handler", pa.int32()),
        pa.field("handler_rate", pa.float64()),
        required("num_consensus", pa.int32()),
        pa.field("gateway", pa.int32()),
        pa.field("exclusivity", pa.float64()),
        pa.field("range", pa.float64()),
        *(
            pa.field(f"range_{way}_{end}", pa.float64())
            for way in ("token", "document")
            for end in ("low", "high")
        ),
        pa.field("monotonic", pa.bool_()),
        required("num_splits", pa.int32()),
        pa.field("splits_reaching", pa.int32()),
        pa.field("best_split", pa.float64()),
    ]
)
"""Routing: one row per layer.

``linear_share`` is 1 - (sum of |delta|^2) / (sum of |output - its mean|^2), what the affine map
explains. ``phase`` is ``scaffold``, ``diffuse`` or ``decision``. ``range`` is that of the exception
rate over the consensus levels with at least 50 tokens, missing with fewer than two of them;
``monotonic`` is of all levels with tokens; ``exclusivity`` the mean of the handler with each
consensus neuron; null where the layer has no quorum. Intervals: 95 % percentiles of resampled
tokens, and of resampled documents (windows), over the same levels; neurons and intervals come from
the same tokens. ``splits_reaching`` of ``num_splits`` random splits, which have as many consensus
neurons and a range of their own, have at least that range, the best has ``best_split``."""

ROUTING_NEURONS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "neuron")),
        *strings("role"),
        required("place", pa.int32()),
        *floats("rate", "rate_linear", "rate_barely", "rate_highly"),
        pa.field("exclusivity", pa.float64()),
    ]
)
"""Neurons with a role: one row per layer, ``role`` (``handler``, ``consensus``, ``gateway``,
``candidate`` of a gateway) and neuron; ``place`` orders those of a role from 0. Rates over all
tokens and in the three regimes; ``exclusivity`` of a consensus neuron with the handler."""

_LEVEL_MEANS = ("exception_rate", "output_norm", "residual")

ROUTING_LEVELS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "level")),
        required("tokens", pa.int64()),
        *floats("share"),
        *(pa.field(name, pa.float64()) for name in _LEVEL_MEANS),
        *(
            pa.field(f"{name}_{way}_{end}", pa.float64())
            for name in _LEVEL_MEANS
            for way in ("token", "document")
            for end in ("low", "high")
        ),
    ]
)
"""The consensus gradient: one row per layer with a quorum and level, the number of consensus
neurons that fire. Means over the level's tokens with 95 % percentile intervals of resampled tokens
and of resampled documents; null at levels without tokens."""

ROUTING_PATTERNS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "rank", "pattern")),
        required("neurons", pa.list_(pa.int32())),
        required("count", pa.int64()),
        *floats("enrichment"),
        required("tokens", pa.list_(pa.string())),
    ]
)
"""The 20 patterns of firing of a layer's eight gateway candidates that are most enriched among the
barely nonlinear tokens: bit k of ``pattern`` is candidate k of ``neurons``. ``tokens`` are its most
frequent ones, in the order of frequency."""

ROUTING_PREDICTIONS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        *strings("analysis", "setting", "metric"),
        pa.field("value", pa.float64()),
        pa.field("reference", pa.float64()),
        required("num_tokens", pa.int64()),
    ]
)
"""What predicts a layer's nonlinearity, held out: one row per layer, ``analysis`` and ``setting``:
``firing`` (``binary``, ``continuous``; ``accuracy`` and ``r2``), ``tree`` (``binary``,
``quintiles``; ``accuracy``), ``polynomial`` (the degree; ``r2``), ``branches`` (number of clusters
of k-means; ``r2``), ``branches_spectral`` (of spectral clusters; ``r2``). ``reference`` is the
accuracy of always saying the commonest class."""

ROUTING_THRESHOLDS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        *floats("threshold"),
        *strings("phase"),
        pa.field("handler", pa.int32()),
        required("num_consensus", pa.int32()),
        pa.field("gateway", pa.int32()),
        pa.field("range", pa.float64()),
        pa.field("overlap", pa.float64()),
    ]
)
"""Roles under other thresholds: one row per layer and threshold. ``overlap`` is the share of the
consensus neurons that the job's own threshold finds which this one finds, too."""

ROUTING_SPLITS = pa.schema(
    [
        *strings("cell_key", "attempt"),
        *(required(name, pa.int32()) for name in ("layer", "split")),
        pa.field("range", pa.float64()),
    ]
)
"""Ranges of the exception rate of random splits: one row per layer with a quorum and split; missing
where fewer than two of a split's levels have 50 tokens."""

REMOVAL = pa.schema(
    [
        *strings("cell_key", "attempt"),
        required("layer", pa.int32()),
        *strings("intervention"),
        pa.field("level", pa.int32()),
        required("tokens", pa.int64()),
        required("num_documents", pa.int32()),
        pa.field("nll", pa.float64()),
        pa.field("change", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("kl", pa.float64()),
        pa.field("probability_ratio", pa.float64()),
        pa.field("rank_change", pa.float64()),
    ]
)
"""What a layer with a quorum does for the next token: one row per layer, ``intervention``
(``remove_mlp``, ``handler_zero``, ``handler_on``) and consensus level, and one over all tokens
(``level`` is null).

``nll`` is the model's mean loss (nats per token) at those tokens, ``change`` what the intervention
adds, with its 95 % cluster-robust t interval over documents; perplexity changes by exp(change).
``kl`` is the mean KL divergence of the model's distribution from the changed one's (nats),
``probability_ratio`` the mean probability of the correct token, changed over unchanged,
``rank_change`` the mean change of its rank."""

ANALYSES = {
    "firing_parts": FIRING_PARTS,
    "firing": FIRING,
    "positions": POSITIONS,
    "ngram_parts": NGRAM_PARTS,
    "ngrams": NGRAMS,
    "detected": DETECTED,
    "projections": PROJECTIONS,
    "routing_layers": ROUTING_LAYERS,
    "routing_neurons": ROUTING_NEURONS,
    "routing_levels": ROUTING_LEVELS,
    "routing_patterns": ROUTING_PATTERNS,
    "routing_predictions": ROUTING_PREDICTIONS,
    "routing_thresholds": ROUTING_THRESHOLDS,
    "routing_splits": ROUTING_SPLITS,
    "removal": REMOVAL,
}
"""The tables of this module by name."""
