"""Plausible frames of a routing analysis: GPT-2 small as published, and random weights."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from sweeper.report.data import ReportData

TRAINED = {"model": "gpt2", "revision": "main"}
DRAWN = {"model": "gpt2_random", "revision": "main"}
NAN = float("nan")
HANDLERS = {0: 2053, 7: 1990, 8: 589, 10: 1858, 11: 2123}
CONSENSUS = {0: 1, 7: 1, 8: 3, 10: 3, 11: 7}
GATEWAYS = {1: 2882, 2: 2380, 3: 746, 7: 690, 8: 2406, 9: 2523, 11: 2821}
RANGES = {0: 0.334, 7: 0.281, 8: 0.622, 10: 0.705, 11: 0.942}
QUORUM = (2, 2361, 2460, 2928, 1831, 1245, 2600)
EXCEPTION_RATES = (0.947, 0.701, 0.462, 0.283, 0.166, 0.084, 0.031, 0.005)
NORMS = (194.1, 171.2, 150.3, 131.9, 114.0, 98.3, 84.1, 70.0)
CHANGES = (43.3, 38.0, 31.2, 26.9, 22.0, 18.4, 13.9, 10.1)
EVERYWHERE = 16.9
THRESHOLDS = (0.01, 0.05, 0.1, 0.5, 1.0)
SPLITS = 1000
TOKENS, DOCUMENTS = 500_000, 489


def phase_of(layer: int) -> str:
    return "decision" if layer in HANDLERS else "scaffold" if layer in GATEWAYS else "diffuse"


def make_layers() -> pd.DataFrame:
    rows = []
    for names, trained in ((TRAINED, True), (DRAWN, False)):
        for layer in range(12):
            found = trained and layer in HANDLERS
            spread = RANGES[layer] if found else NAN
            rows.append(
                {
                    **names,
                    "cell_key": f"routing {names['model']}",
                    "layer": layer,
                    "num_tokens": TOKENS,
                    "num_documents": DOCUMENTS,
                    "linear_share": 0.62 + 0.02 * layer if trained else 0.93 - 0.002 * layer,
                    "phase": phase_of(layer) if trained else "diffuse",
                    "handler": HANDLERS.get(layer, NAN) if trained else NAN,
                    "handler_rate": 0.113 if found else NAN,
                    "num_consensus": CONSENSUS.get(layer, 0) if trained else 0,
                    "gateway": GATEWAYS.get(layer, NAN) if trained else NAN,
                    "exclusivity": 0.958 if found else NAN,
                    "range": spread,
                    "range_token_low": spread - 0.004,
                    "range_token_high": spread + 0.004,
                    "range_document_low": spread - 0.011,
                    "range_document_high": spread + 0.011,
                    "monotonic": True if found else None,
                    "num_splits": SPLITS if found and layer != 0 else 0,
                    "splits_reaching": {7: 41, 8: 2}.get(layer, 0) if found and layer else NAN,
                    "best_split": 0.535 if found and layer else NAN,
                }
            )
    return pd.DataFrame(rows)


def make_neurons() -> pd.DataFrame:
    rates = {
        "handler": (0.113, 0.01, 0.04, 0.62),
        "consensus": (0.84, 0.97, 0.9, 0.31),
        "gateway": (0.42, 0.2, 0.61, 0.5),
    }
    ids = {"handler": [2123], "consensus": list(QUORUM), "gateway": [2821]}
    rows = [
        {
            **TRAINED,
            "layer": 11,
            "neuron": neuron,
            "role": role,
            "place": place,
            **dict(zip(("rate", "rate_linear", "rate_barely", "rate_highly"), rates[role],
                       strict=True)),
            "exclusivity": 0.958 if role == "consensus" else NAN,
        }
        for role, neurons in ids.items()
        for place, neuron in enumerate(neurons)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def make_levels() -> pd.DataFrame:
    rows = []
    for layer, size in CONSENSUS.items():
        steps = np.linspace(0, 7, size + 1).round().astype(int)
        strength = RANGES[layer] / RANGES[11]
        shares = np.exp((0.28 + 0.02 * layer) * np.arange(size + 1))
        shares /= shares.sum()
        for level, step in enumerate(steps):
            empty = layer == 10 and level == 1
            means = {
                "exception_rate": strength * EXCEPTION_RATES[step],
                "output_norm": NORMS[step],
                "residual": 0.45 * NORMS[step],
            }
            row: dict[str, Any] = {**TRAINED, "layer": layer, "level": level}
            row["tokens"] = 0 if empty else round(TOKENS * shares[level])
            row["share"] = 0.0 if empty else shares[level]
            for name, mean in means.items():
                row[name] = NAN if empty else mean
                for way, width in (("token", 0.03), ("document", 0.08)):
                    row[f"{name}_{way}_low"] = row[name] * (1 - width)
                    high = row[name] * (1 + width)
                    row[f"{name}_{way}_high"] = min(high, 1.0) if name[0] == "e" else high
            rows.append(row)
    return pd.DataFrame(rows)


def make_patterns() -> pd.DataFrame:
    candidates = [2821, 14, 611, 33, 905, 2, 1777, 4]
    tokens = [" the", ",", "\n", " of", " |pipe", " <b>", " Antananarivo and more than that", "'s"]
    rows = [
        {
            **TRAINED,
            "layer": 11,
            "rank": rank,
            "pattern": pattern,
            "neurons": candidates,
            "count": 5000 - 300 * rank,
            "enrichment": 4.25 / (rank + 1) if rank else float("inf"),
            "tokens": tokens[rank:] + tokens[:rank],
        }
        for rank, pattern in enumerate((0b10000001, 0b00000111, 0b00000001, 0))
    ]
    return pd.DataFrame(rows)


def make_predictions() -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for layer in range(12):
        depth = layer / 11
        found: dict[tuple[str, str, str], tuple[float, float]] = {
            ("firing", "binary", "accuracy"): (0.76 + 0.032 * depth, 0.75),
            ("firing", "continuous", "accuracy"): (0.757 + 0.031 * depth, 0.75),
            ("firing", "binary", "r2"): (0.1 + 0.12 * depth, NAN),
            ("firing", "continuous", "r2"): (0.2 + 0.16 * depth, NAN),
            ("tree", "binary", "accuracy"): (0.77 + 0.037 * depth, 0.75),
            ("tree", "quintiles", "accuracy"): (0.3 + 0.1 * depth, 0.2),
        }
        for degree in range(2, 8):
            value = 0.03 * degree * depth - (0.4 * 10 ** (degree - 2) if layer == 3 else 0)
            found["polynomial", str(degree), "r2"] = (value, NAN)
        for clusters in (1, 2, 4, 8, 16):
            found["branches", str(clusters), "r2"] = (0.22 * depth - 0.01 * clusters, NAN)
        for clusters in (2, 4, 8):
            found["branches_spectral", str(clusters), "r2"] = (0.2 * depth, NAN)
        for (analysis, setting, metric), (value, reference) in found.items():
            rows.append(
                {
                    **TRAINED,
                    "layer": layer,
                    "analysis": analysis,
                    "setting": setting,
                    "metric": metric,
                    "value": value,
                    "reference": reference,
                    "num_tokens": 2000 if "branches" in analysis else 20_000,
                }
            )
    return pd.DataFrame(rows)


def make_thresholds() -> pd.DataFrame:
    rows = []
    for names, trained in ((TRAINED, True), (DRAWN, False)):
        for layer in range(12):
            for threshold in THRESHOLDS:
                found = trained and layer in HANDLERS and threshold <= (1.0 if layer > 9 else 0.1)
                number = max(CONSENSUS.get(layer, 0) - (threshold > 0.1), 1) if found else 0
                phase = (
                    "decision" if found else phase_of(layer) if layer in (1, 2, 9) else "diffuse"
                )
                rows.append(
                    {
                        **names,
                        "layer": layer,
                        "threshold": threshold,
                        "phase": phase if trained else "diffuse",
                        "handler": HANDLERS[layer] if found else NAN,
                        "num_consensus": number,
                        "gateway": GATEWAYS.get(layer, NAN) if trained else NAN,
                        "range": RANGES[layer] - 0.1 * threshold if found else NAN,
                        "overlap": number / CONSENSUS[layer] if found else NAN,
                    }
                )
    return pd.DataFrame(rows)


def make_splits() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    frames = [
        pd.DataFrame(
            {"layer": layer, "split": np.arange(SPLITS), "range": 0.535 * rng.beta(1.5, 4, SPLITS)}
        ).assign(**TRAINED)
        for layer in (7, 8, 10, 11)
    ]
    return pd.concat(frames, ignore_index=True)


def make_removal() -> pd.DataFrame:
    strengths = {"remove_mlp": 1.0, "handler_zero": 0.002, "handler_on": 0.1}
    rows = []
    for layer, size in CONSENSUS.items():
        steps = [*np.linspace(0, 7, size + 1).round().astype(int), None]
        for intervention, strength in strengths.items():
            for level, step in enumerate(steps):
                percent = strength * (EVERYWHERE if step is None else CHANGES[step])
                percent *= RANGES[layer] / RANGES[11]
                change = float(np.log1p(percent / 100))
                whole = step is None
                half = 0.15 * change
                rows.append(
                    {
                        **TRAINED,
                        "layer": layer,
                        "intervention": intervention,
                        "level": NAN if whole else level,
                        "tokens": 65_000 if whole else 65_000 // (size + 1),
                        "num_documents": 64,
                        "nll": float(np.log(32.3)),
                        "change": change,
                        "low": change - half,
                        "high": change + half,
                        "kl": strength * (0.25 if whole else 0.414 - 0.0289 * int(step or 0)),
                        "probability_ratio": 1 - 0.2 * strength,
                        "rank_change": 52.31 * strength,
                    }
                )
    return pd.DataFrame(rows)


def make_routing(**changed: pd.DataFrame) -> ReportData:
    """A report of routing alone.

    Args:
        changed: tables in place of those made up here, by name.
    """
    nothing = pd.DataFrame()
    tables = {
        "routing_layers": make_layers(),
        "routing_neurons": make_neurons(),
        "routing_levels": make_levels(),
        "routing_patterns": make_patterns(),
        "routing_predictions": make_predictions(),
        "routing_thresholds": make_thresholds(),
        "routing_splits": make_splits(),
        "removal": make_removal(),
    }
    return ReportData(
        estimates=nothing,
        levels=nothing,
        neurons=nothing,
        selected=nothing,
        cells=nothing,
        manifest=nothing,
        job={
            "name": "binary_routing",
            "corpus": {"wikitext": {"kind": "file", "path": "wiki.train.raw"}},
            "routing": {
                "corpus": "wikitext",
                "length": 1024,
                "windows": 489,
                "threshold": 0.1,
                "thresholds": list(THRESHOLDS),
                "fires": "activation",
                "removal_windows": 64,
            },
        },
        routing=tables | changed,
        written_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )
