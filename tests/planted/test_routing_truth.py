"""The routing analysis finds the circuit that a model was built with, and nothing else."""

from dataclasses import dataclass

import numpy as np
import pytest
from planted.routing_model import (
    BASE_RATE,
    DECISION,
    DIFFUSE,
    FIRST_WORD,
    LAYERS,
    SCAFFOLD,
    Routing,
    build_routing_model,
    chance_of,
    texts,
)
from tiny_models import load_folder

from sweeper.models.loading import LoadedModel
from sweeper.neurons.routing.gradient import (
    gradient,
    gradient_range,
    is_monotonic,
    joint_counts,
    levels,
)
from sweeper.neurons.routing.passes import LayerTokens, routing_tokens
from sweeper.neurons.routing.removal import removal
from sweeper.neurons.routing.roles import (
    CONSENSUS_RATE,
    CONSENSUS_SHIFT,
    HANDLER_RATE,
    HANDLER_SHIFT,
    Regimes,
    Roles,
    exclusivity,
    find_roles,
)
from sweeper.neurons.routing.splits import random_splits
from sweeper.score.memory import TokenBudget

WINDOWS, REMOVED = 512, 128
SPLITS = 300


@dataclass(frozen=True)
class Analysed:
    """A model and what the analysis tells of its layers."""

    truth: Routing
    model: LoadedModel
    rows: list[list[int]]
    layers: list[LayerTokens]
    roles: list[Roles]

    @property
    def words(self) -> np.ndarray:
        """The word at each token."""
        return np.array(self.rows).ravel() - FIRST_WORD


def analysed(truth: Routing, model: LoadedModel) -> Analysed:
    rows = texts(truth.words, WINDOWS, seed=1)
    layers = routing_tokens(model, rows, TokenBudget(8192))
    roles = [find_roles(layer.fires, Regimes.of(layer.residuals)) for layer in layers]
    return Analysed(truth, model, rows, layers, roles)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routing")
    return build_routing_model(folder), folder


@pytest.fixture(scope="module")
def found(built):
    truth, folder = built
    return analysed(truth, load_folder("opt", folder))


def test_the_quorum_is_the_planted_one_and_there_is_no_other(found):
    quorums = {layer: roles.quorum for layer, roles in enumerate(found.roles) if roles.quorum}
    assert {layer: set(q.consensus) for layer, q in quorums.items()} == found.truth.consensus
    assert {layer: q.handler for layer, q in quorums.items()} == found.truth.handler


def test_the_gateway_is_the_planted_one_and_there_is_no_other(found):
    gateways = {layer: roles.gateway for layer, roles in enumerate(found.roles)}
    assert {k: v for k, v in gateways.items() if v is not None} == found.truth.gateway
    phases = [roles.phase for roles in found.roles]
    assert [phases.index(p) for p in ("scaffold", "diffuse", "decision")] == [
        SCAFFOLD,
        DIFFUSE,
        DECISION,
    ]


def test_decoys_fail_by_one_rule_alone(found):
    rates = found.roles[DECISION].rates
    shift, decoys = rates.highly - rates.linear, found.truth.decoys
    often, seldom, patchy = (decoys[name] for name in ("often", "seldom", "patchy"))
    assert shift[often] > HANDLER_SHIFT
    assert rates.overall[often] >= HANDLER_RATE
    assert shift[seldom] < CONSENSUS_SHIFT
    assert rates.overall[seldom] <= CONSENSUS_RATE
    assert rates.overall[patchy] > CONSENSUS_RATE
    assert shift[patchy] >= CONSENSUS_SHIFT


def test_the_gradient_is_that_of_the_words(found):
    words, here = found.truth.words, found.words
    layer, quorum = found.layers[DECISION], found.roles[DECISION].quorum
    fires = layer.fires.of([quorum.handler, *quorum.consensus])
    level, handler = levels(fires[1:]), fires[0]
    np.testing.assert_array_equal(level, words.level[here])
    np.testing.assert_array_equal(handler, words.handler[here] > 0.1)
    table = gradient(level, 4, handler, layer.output_norms, layer.residuals)
    assert table["exception_rate"][0] == 1.0
    assert 0.3 < table["exception_rate"][1] < 0.7
    assert (table["exception_rate"][2:] == 0).all()
    for column in ("exception_rate", "output_norm", "residual"):
        assert is_monotonic(table[column])
        assert table[column][0] > 2 * table[column][3]
    fire, silent = (words.handler > 0.1)[here], words.features["strange"][here].T
    for neuron, fires_N in zip(quorum.consensus, fires[1:], strict=True):
        mark = next(mark for mark in silent if ((mark == 0) == fires_N).all())
        both, either = (fire & (mark == 0)).mean(), (fire | (mark == 0)).mean()
        assert exclusivity(fires[0], fires_N) == pytest.approx(1 - both / either), neuron


def test_no_random_split_reaches_the_gradient(found):
    """Twins see to it: what seldom fires does so for at most one word of a pair."""
    level = levels(found.layers[DECISION].fires.of(found.roles[DECISION].quorum.consensus))
    handler = found.layers[DECISION].fires.of([found.roles[DECISION].quorum.handler])[0]
    observed = float(gradient_range(joint_counts(level, 4, handler)))
    splits = random_splits(found.layers[DECISION].fires, 3, SPLITS, seed=0)
    assert observed == 1.0
    assert splits.num_reaching(observed) == 0
    assert np.nanmax(splits.ranges) < 0.75


@pytest.mark.parametrize("seed", [0, 1])
def test_random_weights_of_the_same_shape_have_no_such_quorum(built, seed):
    truth, folder = built
    control = analysed(truth, load_folder("opt", folder, random_weights=seed))
    for layer, roles in zip(control.layers, control.roles, strict=True):
        if roles.quorum is not None:
            fires = layer.fires.of([roles.quorum.handler, *roles.quorum.consensus])
            number = len(roles.quorum.consensus) + 1
            assert gradient_range(joint_counts(levels(fires[1:]), number, fires[0])) < 0.9


def test_removal_costs_what_the_construction_says(found):
    """Nats by level: those of the probabilities that the texts are drawn from."""
    words, rows = found.truth.words, found.rows[:REMOVED]
    quorums = {DECISION: found.roles[DECISION].quorum}
    table = removal(found.model, rows, quorums, TokenBudget(4096))
    here, following = (
        np.array(rows)[:, s].ravel() - FIRST_WORD for s in (slice(-1), slice(1, None))
    )
    is_response = words.is_response[following]
    full = words.response_chance
    for intervention, changed in (
        ("remove_mlp", np.full_like(full, BASE_RATE)),
        ("handler_zero", chance_of(words.answer - words.handler)),
    ):
        ratio = np.where(
            is_response, full[here] / changed[here], (1 - full[here]) / (1 - changed[here])
        )
        divergence = full * np.log(full / changed) + (1 - full) * np.log((1 - full) / (1 - changed))
        rows_of = table[table["intervention"] == intervention].set_index("level")
        for level in range(4):
            at_level = words.level[here] == level
            row = rows_of.loc[level]
            assert row["tokens"] == at_level.sum()
            assert row["change"] == pytest.approx(np.log(ratio[at_level]).mean(), abs=0.02)
            assert row["kl"] == pytest.approx(divergence[here][at_level].mean(), abs=0.02)
        assert is_monotonic(rows_of.loc[range(4), "kl"])
    removed = table[(table["intervention"] == "remove_mlp") & table["level"].notna()]
    assert is_monotonic(removed.sort_values("level")["change"])
    assert removed["change"].max() > 1.5
    overall = table[table["level"].isna()].set_index("intervention")["change"]
    assert overall["handler_zero"] < 0.05 * overall["remove_mlp"]


def test_the_circuit_is_found_under_other_draws(tmp_path):
    for seed in (2, 3):
        truth = build_routing_model(tmp_path / str(seed), seed)
        other = analysed(truth, load_folder("opt", tmp_path / str(seed)))
        assert {
            layer: (set(roles.quorum.consensus), roles.quorum.handler)
            for layer, roles in enumerate(other.roles)
            if roles.quorum
        } == {DECISION: (truth.consensus[DECISION], truth.handler[DECISION])}
        assert other.roles[SCAFFOLD].gateway == truth.gateway[SCAFFOLD]
        assert len(other.roles) == LAYERS
