"""The job of study 1 on models whose truth is known: see ``construction`` and ``language``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from planted.construction import DETECTED, OTHER
from planted.language import IDS, WORDS
from planted.replication import Replication, replicate
from scipy import stats
from transformers import AutoModelForCausalLM

SEEDS = 10
NOT_NEEDED = ("~condition.random", "~condition.top_positive")
"""What the many replications leave out."""


@pytest.fixture(scope="module")
def with_plant(tmp_path_factory):
    return replicate(tmp_path_factory.mktemp("with_plant"), 0, plant=True)


@pytest.fixture(scope="module")
def without_plant(tmp_path_factory):
    return replicate(tmp_path_factory.mktemp("without_plant"), 0, plant=False)


@pytest.fixture(params=["with_plant", "without_plant"])
def either(request):
    return request.getfixturevalue(request.param)


def effects(replication: Replication) -> pd.DataFrame:
    """Effects on accuracy (perplexity: nll) over all items, by task and condition."""
    found = replication.run.estimates()
    found = found[(found["group"] == "all") & (found["metric"] != "margin")]
    return found.set_index(["task", "condition"])


def parts(replication: Replication, contrast: str = "dissociation") -> pd.DataFrame:
    found = replication.run.contrasts()
    return found[found["contrast"] == contrast].set_index("part")


def is_double(found: pd.DataFrame) -> bool:
    """Whether target and control both do what a double dissociation claims, after Holm."""
    return bool((found["p_holm"].dropna() < 0.05).all())


def test_top_one_percent_by_wd_are_the_planted_neurons(either):
    manifest, census = either.run.manifest(), either.run.table("neurons")
    key = manifest.loc[manifest["condition"] == "top", "condition_key"].iloc[0]
    chosen = either.run.table("conditions").set_index("condition_key").loc[[key]]
    found = {row.layer: tuple(row.neurons) for row in chosen.itertuples()}
    assert found == either.planted.places
    is_planted = [row.neuron in found[row.layer] for row in census.itertuples()]
    others = census["wd"][~np.array(is_planted)]
    assert census["wd"][is_planted].min() > 1.4 * others.max()
    assert others.median() < 0.2


def test_the_census_gives_the_planted_neurons_the_wd_of_two_points(either):
    census = either.run.table("neurons").set_index(["layer", "neuron"])
    normal = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    for layer, neurons in either.planted.places.items():
        for neuron, detected in zip(neurons, either.planted.detects[layer], strict=True):
            row = census.loc[(layer, neuron)]
            values, shares = pre_activations(either, detected)
            mean = np.average(values, weights=shares)
            sd = np.sqrt(np.average((values - mean) ** 2, weights=shares))
            standard = (values - mean) / sd
            exact = stats.wasserstein_distance(standard, normal, shares)
            assert row["mean"] == pytest.approx(mean, abs=2e-3)
            assert row["sd"] == pytest.approx(sd, abs=2e-3)
            assert row["wd"] == pytest.approx(exact, abs=0.01)


def pre_activations(replication: Replication, detected: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of a planted neuron over the census, by the docstring, and how often each stands."""
    words = Path(replication.run.job.corpus["calibration"].path).read_text().split()
    spec = replication.run.job.census
    counts = {DETECTED: 0, OTHER: 0, (DETECTED + OTHER) / 2: 0}
    for start in range(0, spec.windows * spec.length, spec.length):
        value = (DETECTED + OTHER) / 2  # until the window's first subject
        window = words[start : start + spec.length]
        for word in window:
            if word in WORDS["subject"]:
                value = OTHER if word.endswith("s") == (detected > 0) else DETECTED
            counts[value] += 1
    return np.array(list(counts)), np.array(list(counts.values()), float)


def test_the_jobs_accuracies_are_those_of_plain_hugging_face_clamped_by_hand(either):
    job = either.run.job
    model = AutoModelForCausalLM.from_pretrained(job.model["planted"].path)
    found = effects(either)
    for task in ("agreement", "facts"):
        pairs = pd.read_parquet(job.suite[task].source.path)
        before = accuracy(model, pairs)
        with negative_half_removed(model, either.planted.places):
            after = accuracy(model, pairs)
        row = found.loc[task, "top"]
        assert row["baseline"] == pytest.approx(before, abs=1e-9)
        assert row["value"] == pytest.approx(after, abs=1e-9)


@torch.inference_mode()
def accuracy(model, pairs: pd.DataFrame) -> float:
    """Share of pairs whose right last word is more probable; all else is the same in both."""
    good, bad = (pairs[f"sentence_{kind}"].str.split() for kind in ("good", "bad"))
    assert (good.str[:-1] == bad.str[:-1]).all()
    right = []
    for length in good.str.len().unique():
        chosen = good.str.len() == length
        rows, others = (
            torch.tensor([[IDS[word] for word in words] for words in sentences[chosen]])
            for sentences in (good, bad)
        )
        logits = model(rows[:, :-1]).logits[:, -1]
        right.append(logits.gather(1, rows[:, -1:]) > logits.gather(1, others[:, -1:]))
    return float(torch.cat(right).double().mean())


@contextmanager
def negative_half_removed(model, places: dict[int, tuple[int, ...]]) -> Iterator[None]:
    def hook_for(neurons):
        def hook(_module, inputs):
            inputs[0][..., list(neurons)] = inputs[0][..., list(neurons)].relu()

        return hook

    handles = [
        model.gpt_neox.layers[layer].mlp.act.register_forward_pre_hook(hook_for(neurons))
        for layer, neurons in places.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_the_negative_clamp_destroys_agreement_and_nothing_else(with_plant):
    found = effects(with_plant)
    top = found.loc["agreement", "top"]
    assert top["baseline"] > 0.9
    assert 0.35 < top["value"] < 0.65  # a guess
    assert top["cluster_high"] < -0.25
    assert top["p_random"] == top["p_floor"] == pytest.approx(1 / (1 + SEEDS))
    assert abs(found.loc["facts", "top"]["effect"]) < 0.01
    for task in ("agreement", "facts"):
        assert abs(found.loc[task, "top_positive"]["effect"]) < 0.01
    assert abs(found.loc["perplexity", "top_positive"]["effect"]) < 0.005


def test_controls_leave_agreement_alone(with_plant):
    found = effects(with_plant)
    for control in ("random", "like", "matched"):
        assert found.loc["agreement", control]["effect"] > -0.02
    for control in ("random", "like"):
        assert found.loc["facts", control]["effect"] > -0.02


def test_the_matched_control_costs_as_much_perplexity_and_costs_facts(with_plant):
    found = effects(with_plant)
    target, control = found.loc["perplexity", "top"], found.loc["perplexity", "matched"]
    tolerance = with_plant.run.job.condition["matched"].neurons.tolerance
    assert control["effect"] == pytest.approx(target["effect"], rel=1.5 * tolerance)
    assert control["num_neurons"] > 10 * target["num_neurons"]
    assert found.loc["facts", "matched"]["cluster_high"] < 0


def test_with_the_plant_the_dissociation_is_double_and_significant(with_plant):
    found = parts(with_plant)
    interaction = found.loc["interaction"]
    assert interaction["high"] < -0.2
    assert interaction["p"] < 1e-4
    assert interaction["p_random"] == interaction["p_floor"] == pytest.approx(1 / (1 + SEEDS))
    assert is_double(found)


def test_without_the_plant_both_conditions_hurt_both_tasks_and_nothing_dissociates(without_plant):
    found = effects(without_plant)
    for condition in ("top", "matched"):
        assert found.loc["perplexity", condition]["cluster_low"] > 0
        for task in ("agreement", "facts"):
            assert found.loc[task, condition]["effect"] < -0.03
    for contrast in ("dissociation", "against_like"):
        assert not is_double(parts(without_plant, contrast))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_over_replications_the_plant_is_found_and_nothing_where_there_is_none(tmp_path, capsys):
    """Measured over 50 seeds without the plant: p < 0.05 in 4, none of them double."""
    planted = [
        parts(replicate(tmp_path / f"planted{seed}", seed, plant=True, drop=NOT_NEEDED))
        for seed in range(5)
    ]
    assert all(found.loc["interaction", "p"] < 0.001 and is_double(found) for found in planted)
    removed = [
        parts(replicate(tmp_path / f"removed{seed}", seed, plant=False, drop=NOT_NEEDED))
        for seed in range(20)
    ]
    p = np.array([found.loc["interaction", "p"] for found in removed])
    effect = {
        name: float(np.median([found.loc[name, "estimate"] for found in removed]))
        for name in (
            "target_on_grammar",
            "target_on_other",
            "control_on_grammar",
            "control_on_other",
        )
    }
    with capsys.disabled():
        print(f"\n    without the plant, p of the interaction: {np.sort(p).round(3)}")
        print(f"    median effects on accuracy: {effect}")
    assert np.isfinite(p).all()
    assert max(effect.values()) < -0.05  # there is something that could dissociate
    assert (p < 0.05).sum() <= 2
    assert sum(map(is_double, removed)) <= 2
