"""Plausible frames of the study of negative pre-activations: what the figures draw."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from sweeper.records import Estimate
from sweeper.report.data import LEVEL_COLUMNS, ReportData

MODEL = {"model": "smollm2-135m", "revision": "main"}
LAYERS, WIDTH = 30, 1536
TOTAL = LAYERS * WIDTH
GROUPS = [(first, first + 5) for first in range(0, 30, 6)]
PHENOMENA = (
    "anaphor_agreement",
    "argument_structure",
    "binding",
    "control_raising",
    "determiner_noun_agreement",
    "ellipsis",
    "filler_gap_dependency",
    "irregular_forms",
    "island_effects",
    "npi_licensing",
    "quantifiers",
    "subject_verb_agreement",
)
PARTS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "NOUN", "NUM", "PART", "PRON", "PROPN"),
    *("PUNCT", "SCONJ", "VERB"),
)
TOP = {"kind": "top", "statistic": "wd", "layers": "all"}
BOTTOM = {"kind": "bottom", "statistic": "wd", "layers": "all"}
RANDOM = {"kind": "random", "match": None, "layers": "all"}
MATCHED = {"kind": "matched", "match": "top1", "statistic": "wd", "tolerance": 0.02}
MOMENTS = ["skew", "kurtosis", "mean_abs"]


def _spec(
    neurons: dict[str, Any] | None, operation: str | None = "negative_clamp"
) -> dict[str, Any]:
    return {"operation": operation, "neurons": neurons}


CONDITIONS: dict[str, tuple[dict[str, Any], float, float]] = {
    "top1": (_spec({**TOP, "fraction": 0.01}), 0.01, 1.0),
    "top2": (_spec({**TOP, "fraction": 0.02}), 0.02, 2.0),
    "top5": (_spec({**TOP, "fraction": 0.05}), 0.05, 4.5),
    "bottom20": (_spec({**BOTTOM, "fraction": 0.2}), 0.2, 0.5),
    "bottom40": (_spec({**BOTTOM, "fraction": 0.4}), 0.4, 1.4),
    "matched_perplexity": (_spec({**MATCHED, "by": "perplexity"}), 0.35, 0.99),
    "matched_moments": (_spec({**MATCHED, "by": "moments", "moments": MOMENTS}), 0.01, 0.3),
    "top1_positive": (_spec({**TOP, "fraction": 0.01}, "positive_clamp"), 0.01, 0.4),
    "random1": (_spec({**RANDOM, "match": "top1", "fraction": None}), 0.01, 0.05),
    "random5": (_spec({**RANDOM, "fraction": 0.05}), 0.05, 0.2),
}
"""Condition -> specification, share of all neurons, strength."""
SWEPT: dict[str, tuple[dict[str, Any], float]] = {
    "top1_single": (_spec({**TOP, "fraction": 0.01, "layers": {"groups": 6}}), 0.4),
    "top1_cumulative": (_spec({**TOP, "fraction": 0.01, "layers": {"cumulative": 6}}), 0.4),
    "random_single": (_spec({**RANDOM, "match": "top1_single", "fraction": None}), 0.02),
}
TASKS = {
    "blimp": ("accuracy", ("all", *PHENOMENA)),
    "tse": ("accuracy", ("all", "simple_agrmt", "npi", "reflexive")),
    "arc_easy": ("accuracy", ("all",)),
    "wikitext": ("nll", ("all",)),
    "surprisal": ("nll", ("all", *PARTS)),
}


def _estimate(rng: np.random.Generator, strength: float, **names: Any) -> dict[str, Any]:
    metric, group = names["metric"], names["group"]
    scale = {"accuracy": -0.05, "nll": 0.35, "shifted": 0.1}[metric]
    effect = float(rng.normal(scale * strength, abs(scale) * (0.05 if group == "all" else 0.35)))
    half = {"accuracy": 0.012, "nll": 0.03, "shifted": 0.03}[metric] * (1 if group == "all" else 2)
    baseline = {"accuracy": 0.78, "nll": 3.1, "shifted": 0.0}[metric]
    drawn = names["condition"].startswith("random")
    nan = float("nan")
    band = names["first_layer"] is not None
    row = Estimate(
        **{**MODEL, **names},
        num_seeds=10 if drawn else 0,
        num_items=1340,
        num_clusters=67 if group == "all" else 5,
        baseline=baseline,
        value=baseline + effect,
        effect=effect,
        ratio=float(np.exp(effect)) if metric == "nll" else nan,
        cluster_low=effect - half,
        cluster_high=effect + half,
        bootstrap_low=effect - half,
        bootstrap_high=effect + half,
        seed_low=effect - half / 2 if drawn else nan,
        seed_high=effect + half / 2 if drawn else nan,
        two_way_low=effect - 1.3 * half if drawn else nan,
        two_way_high=effect + 1.3 * half if drawn else nan,
        band_low=effect - 1.6 * half if band else nan,
        band_high=effect + 1.6 * half if band else nan,
        p_cluster=0.004,
        p_holm=0.012,
        num_tests=30,
        p_random=nan if drawn else 1 / 11,
        p_floor=nan if drawn else 1 / 11,
        p_random_holm=nan if drawn else 1.0,
        num_controls=0 if drawn else 10,
        excess=nan,
        excess_low=nan,
        excess_high=nan,
        noise=3e-5,
    )
    return asdict(row)


def make_estimates() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    arms = [
        (name, name, None, None, share * TOTAL, strength, spec["operation"])
        for name, (spec, share, strength) in CONDITIONS.items()
    ]
    for family, (spec, strength) in SWEPT.items():
        for place, (first, last) in enumerate(GROUPS):
            begin = 0 if "cumulative" in family else first
            power = strength * (place + 1 if "cumulative" in family else 2 / (place + 1))
            name = f"{family}[{begin}-{last}]"
            arms.append((name, family, begin, last, 0.01 * TOTAL, power, spec["operation"]))
    rows = []
    for task, (metric, groups) in TASKS.items():
        for name, family, first, last, count, strength, operation in arms:
            for group in groups:
                metrics = (
                    [metric, "shifted"] if task == "surprisal" and group != "all" else [metric]
                )
                rows += [
                    _estimate(
                        rng,
                        strength,
                        task=task,
                        metric=each,
                        group=group,
                        condition=name,
                        family=family,
                        first_layer=first,
                        last_layer=last,
                        num_neurons=count,
                        operation=operation,
                    )
                    for each in metrics
                ]
    return pd.DataFrame(rows)


def make_levels(estimates: pd.DataFrame) -> pd.DataFrame:
    real = estimates[estimates["metric"] != "shifted"]
    base = real[real["condition"] == "top1"].assign(
        condition="baseline", family="baseline", operation=None, num_neurons=0.0, num_seeds=0
    )
    base["value"] = base["baseline"]
    rows = pd.concat([base.assign(is_baseline=True), real.assign(is_baseline=False)])
    for kind in ("cluster", "bootstrap"):
        rows[f"{kind}_low"], rows[f"{kind}_high"] = rows["value"] - 0.04, rows["value"] + 0.04
    return rows[LEVEL_COLUMNS].reset_index(drop=True)


def make_contrasts() -> pd.DataFrame:
    parts = {
        "interaction": (-0.09, 0.02),
        "target_minus_control_on_grammar": (-0.06, 0.013),
        "target_minus_control_on_other": (0.03, 0.014),
        "target_on_grammar": (-0.07, 0.01),
        "target_on_other": (-0.03, 0.01),
        "control_on_grammar": (-0.01, 0.01),
        "control_on_other": (-0.06, 0.011),
    }
    nan = float("nan")
    return pd.DataFrame(
        [
            {
                **MODEL,
                "contrast": "grammar_against_other",
                "kind": "dissociation",
                "part": part,
                "metric": "accuracy",
                "target": "top1",
                "control": "matched_perplexity",
                "first_layer": None,
                "last_layer": None,
                "tasks": "blimp, tse, arc_easy",
                "estimate": value,
                "low": value - half,
                "high": value + half,
                "bootstrap_low": value - half,
                "bootstrap_high": value + half,
                "df": 70.3,
                "p": 0.0004,
                "p_directed": 0.0002 if part.startswith("target_minus") else nan,
                "p_holm": 0.0004 if part.startswith("target_minus") else nan,
                "p_random": 1 / 11 if part == "interaction" else nan,
                "p_floor": 1 / 11 if part == "interaction" else 1.0,
                "num_controls": 10 if part == "interaction" else 0,
                "num_tasks": 3,
                "num_items": 4000,
                "num_clusters": 150,
            }
            for part, (value, half) in parts.items()
        ]
    )


def make_matches() -> pd.DataFrame:
    shares = [0.0, 0.2, 0.35, 0.4]
    rises = [0.0, 0.2, 0.347, 0.5]
    return pd.DataFrame(
        {
            **MODEL,
            "condition": "matched_perplexity",
            "matched_to": "top1",
            "statistic": "wd",
            "fraction": shares,
            "num_neurons": [round(share * TOTAL) for share in shares],
            "num_windows": 40,
            "target_increase": 0.35,
            "target_low": 0.33,
            "target_high": 0.37,
            "increase": rises,
            "low": np.array(rises) - 0.02,
            "high": np.array(rises) + 0.02,
            "difference": np.array(rises) - 0.35,
            "difference_low": np.array(rises) - 0.36,
            "difference_high": np.array(rises) - 0.34,
            "tolerance": 0.02,
            "chosen": [share == 0.35 for share in shares],
            "reached": True,
            "outcome": "matched",
        }
    )


def make_balance() -> pd.DataFrame:
    return pd.DataFrame(
        {
            **MODEL,
            "condition": "matched_moments",
            "matched_to": "top1",
            "statistic": MOMENTS,
            "num_pairs": 460,
            "before": [1.8, 1.4, 0.9],
            "after": [0.12, 0.2, 0.05],
            "difference": [0.02, -0.1, 0.01],
            "difference_low": [-0.01, -0.2, np.nan],
            "difference_high": [0.05, 0.0, np.nan],
        }
    )


def make_neurons(models: dict[str, tuple[int, int]] | None = None) -> pd.DataFrame:
    rng = np.random.default_rng(9)
    frames = []
    for model, (layers, width) in (models or {MODEL["model"]: (LAYERS, 200)}).items():
        layer = np.repeat(np.arange(layers), width)
        wd = rng.gamma(2.0, 0.03, layers * width) * (1.4 + np.cos(3 * layer / layers)) + 0.01
        frame = pd.DataFrame(
            {"layer": layer, "neuron": np.tile(np.arange(width), layers), "wd": wd}
        )
        frames.append(frame.assign(model=model, revision="main"))
    return pd.concat(frames, ignore_index=True)


def make_pairs(neurons: tuple[tuple[int, int], ...], pairs: int = 2048) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frames = []
    for place, (layer, neuron) in enumerate(neurons):
        low, high = rng.normal(-1.5, 0.5, (2, pairs)), rng.normal(0.3, 0.4, (2, pairs))
        y = np.where(rng.random((2, pairs)) < 0.2 + 0.05 * place, low, high)
        frame = pd.DataFrame(
            {
                "layer": layer,
                "neuron": neuron,
                "pair": np.arange(pairs),
                "token_i": rng.integers(0, 900, pairs),
                "token_j": rng.integers(0, 900, pairs),
                "text_i": "the cat",
                "text_j": "a dog",
                "dx": rng.gamma(6.0, 1.0, pairs) / (1 + 3 * (np.arange(pairs) % 2)),
                "y_i": y[0],
                "y_j": y[1],
                "similar": np.arange(pairs) % 2 == 1,
            }
        )
        frames.append(frame.assign(**MODEL))
    return pd.concat(frames, ignore_index=True)


WORDS = (
    *(" the", " of", " and", " to", " in", " was", " cat", " dogs", "\n", " (", " were", "ing"),
    *(" is", " not", " any", " ever", " no", " every", " internationalisation of wares", ".", ","),
    *(" she", " he", " they", " 1", " 2", "é", " |x|"),
)


def make_tokens(neurons: tuple[tuple[int, int], ...]) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frames = [
        pd.DataFrame(
            {
                "layer": layer,
                "neuron": neuron,
                "token": np.arange(len(WORDS)),
                "text": WORDS,
                "count": rng.integers(3, 400, len(WORDS)),
                "mean": rng.normal(0.2, 1.0, len(WORDS)),
                "sd": rng.gamma(2.0, 0.1, len(WORDS)),
            }
        ).assign(**MODEL)
        for layer, neuron in neurons
    ]
    return pd.concat(frames, ignore_index=True)


def make_examples() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three pairs of two conditions, those of the first one with tokens."""
    rows, tokens = [], []
    sentences = [
        ("No teacher has ever lied.", "Some teacher has ever lied."),
        ("The cats sleep & <purr>.", "The cats sleeps & <purr>."),
        ("She likes herself.", "She likes himself."),
    ]
    for condition in ("top1", "matched_moments"):
        names = {**MODEL, "task": "blimp", "condition": condition}
        for item, (text, bad) in enumerate(sentences):
            names_of_item = {"item": item, "item_id": f"npi/{item}", "group": "npi_licensing"}
            margins = {"baseline_margin": 2.0, "margin": -1.5 + item, "change": -3.5 + item}
            rows.append({**names, **names_of_item, "text": text, "text_bad": bad, **margins})
            if condition == "top1":
                for member, sentence in enumerate((text, bad)):
                    tokens += _example_tokens({**names, "item": item}, member, sentence)
    return pd.DataFrame(rows), pd.DataFrame(tokens)


def _example_tokens(names: dict[str, Any], member: int, sentence: str) -> list[dict[str, Any]]:
    rows, begin = [], sentence.index(" ")
    for place, word in enumerate(sentence[begin + 1 :].split(" ")):
        end = begin + 1 + len(word)
        numbers = {"baseline_surprisal": 3.0, "surprisal": 3.0 + (place - 1) * (1.4 - 2 * member)}
        span = {"char_begin": begin, "char_end": end}
        rows.append({**names, "text": member, "position": place + 1, **span, **numbers})
        begin = end
    return rows


def make_job() -> dict[str, Any]:
    condition = {"baseline": {"operation": None, "neurons": None}}
    condition |= {name: spec for name, (spec, *_) in CONDITIONS.items()}
    condition |= {name: spec for name, (spec, _) in SWEPT.items()}
    windows = {"corpus": "wiki", "length": 2048, "limit": None}
    pairs = {"kind": "minimal_pairs", "source": {"kind": "file", "path": "p"}, "reduce": "sum"}
    return {
        "name": "negative_preactivations",
        "model": {MODEL["model"]: {"path": "HuggingFaceTB/SmolLM2-135M", "wheel": None}},
        "corpus": {"wiki": {"kind": "file", "path": "wiki.test.raw"}},
        "suite": {
            "blimp": pairs,
            "tse": pairs,
            "arc_easy": {"kind": "lm_eval", "task": "arc_easy"},
            "wikitext": {"kind": "perplexity", **windows},
            "surprisal": {"kind": "surprisal", **windows},
        },
        "condition": condition,
        "seeds": 10,
        "statistics": {"confidence": 0.95, "resamples": 2000},
    }


PROFILED = ((0, 5), (3, 17), (12, 100), (29, 8))


def make_study() -> ReportData:
    estimates = make_estimates()
    examples, tokens = make_examples()
    nothing = pd.DataFrame()
    shape = {**MODEL, "num_layers": LAYERS, "num_neurons": WIDTH, "num_parameters": 134_515_008}
    return ReportData(
        estimates=estimates,
        levels=make_levels(estimates),
        neurons=make_neurons(),
        selected=nothing,
        cells=nothing,
        manifest=nothing,
        job=make_job(),
        checkpoints=pd.DataFrame([shape]),
        contrasts=make_contrasts(),
        matches=make_matches(),
        balance=make_balance(),
        neuron_pairs=make_pairs(PROFILED),
        neuron_tokens=make_tokens(PROFILED),
        examples=examples,
        example_tokens=tokens,
    )
