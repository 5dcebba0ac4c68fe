"""Keys, parts and costs of firing, n-grams, routing and removal."""

import pytest
from records_factory import checkpoint

from sweeper.plan.analysis import (
    INTERVENTIONS,
    firing_bytes,
    firing_cell,
    firing_parts,
    ngrams_cell,
    ngrams_parts,
    num_parts,
    removal_cell,
    routing_cell,
)
from sweeper.plan.census import MIN_WINDOWS
from sweeper.spec.firing import FiringSpec
from sweeper.spec.routing import RoutingSpec

FIRING = FiringSpec(corpora=["c", "d"], length=32, windows=10)
ROUTING = RoutingSpec(corpus="c", length=32, windows=10)
TEXTS = {"c": "sha256:0", "d": "sha256:1", "e": "sha256:0"}

MODELS = [{"fingerprint": "hub:abd"}, {"dtype": "bfloat16"}, {"attention": "eager"}]
"""Changes of a checkpoint that change its numbers."""


def firing(**changes) -> FiringSpec:
    return FIRING.model_copy(update=changes)


def routing(**changes) -> RoutingSpec:
    return ROUTING.model_copy(update=changes)


def keys(spec=FIRING, *, count=2, texts=TEXTS, **model) -> dict[str, set[str]]:
    """Keys by kind of cell."""
    parts = (checkpoint(**model), spec, texts)
    return {
        "firing_part": {part.cell.key for part in firing_parts(*parts, count)},
        "firing": {firing_cell(*parts).key},
        "ngrams_part": {part.cell.key for part in ngrams_parts(*parts, count)},
        "ngrams": {ngrams_cell(*parts).key},
    }


def changed(found: dict[str, set[str]]) -> set[str]:
    """Kinds of cells of which no key is as it was."""
    before = keys()
    return {kind for kind in before if not before[kind] & found[kind]}


EVERY = {"firing_part", "firing", "ngrams_part", "ngrams"}


@pytest.mark.parametrize("model", MODELS)
def test_every_ingredient_of_the_model_changes_all_keys(model):
    assert changed(keys(**model)) == EVERY
    assert routing_keys(ROUTING, **model).isdisjoint(routing_keys(ROUTING))


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"length": 16}, EVERY),
        ({"threshold": 0.1}, EVERY),
        ({"threshold": {"relu": 0.0}}, EVERY),
        ({"corpora": ["c", "e"]}, EVERY - {"firing_part"}),  # the parts of c stay
        ({"windows": 12}, EVERY),  # halves are others, too
        ({"ngrams": [1, 2]}, {"ngrams_part", "ngrams"}),
        ({"most_ngrams": 5}, {"ngrams_part", "ngrams"}),
        ({"least_activations": 5}, {"ngrams"}),
        ({"tokens": 5}, {"ngrams"}),
        ({"ngrams": [3, 2, 1]}, set()),
        ({"parts": 4}, set()),
    ],
)
def test_every_ingredient_of_a_firing_census_changes_the_keys_that_depend_on_it(change, kinds):
    assert changed(keys(firing(**change))) == kinds


def test_the_threshold_of_the_model_counts_and_not_how_the_job_gives_it():
    named = firing(threshold={"silu": 0.2, "relu": 0.0})
    for activation, number in (("silu", 0.2), ("relu", 0.0)):
        expected = keys(firing(threshold=number), activation=activation)
        assert keys(named, activation=activation) == expected
        alone = firing(threshold={activation: number})
        assert keys(alone, activation=activation) == expected
    assert keys(named) == keys(named, activation="gelu")  # not told apart, and no number for it
    assert keys(named) != keys(firing(threshold=0.2))


def test_another_text_changes_all_that_reads_it():
    found = keys(texts={**TEXTS, "c": "sha256:2", "d": "sha256:3"})
    assert changed(found) == EVERY
    found = keys(texts={**TEXTS, "d": "sha256:3"})
    assert changed(found) == EVERY - {"firing_part"}
    assert len(keys()["firing_part"] & found["firing_part"]) == 2
    # What can be explained depends on all texts together.
    assert not keys()["ngrams_part"] & found["ngrams_part"]


def test_names_of_corpora_are_no_part_of_the_parts():
    renamed = keys(firing(corpora=["e", "d"]))
    assert renamed["firing_part"] == keys()["firing_part"]
    assert renamed["firing"] != keys()["firing"]  # its rows tell the names
    one = checkpoint(model="x", revision="v1", location="elsewhere")
    assert firing_cell(one, FIRING, TEXTS).key == firing_cell(checkpoint(), FIRING, TEXTS).key


def test_what_is_cut_to_the_context_is_the_same():
    assert changed(keys(firing(length=64))) == EVERY
    assert keys(firing(length=64)) == keys(firing(length=2048))
    assert routing_keys(routing(length=64)) == routing_keys(routing(length=2048))


def test_how_many_parts_there_are_changes_neither_the_whole_nor_equal_parts():
    halves, quarters = keys(firing(windows=8)), keys(firing(windows=8), count=4)
    assert halves["firing"] == quarters["firing"]
    assert halves["ngrams"] == quarters["ngrams"]
    assert not halves["firing_part"] & quarters["firing_part"]
    assert {len(kinds) for kinds in quarters.values()} == {1, 8}
    # The first half of 8 windows is the whole of 4.
    whole = keys(firing(windows=4), count=1)
    assert whole["firing_part"] <= halves["firing_part"]
    assert not whole["firing"] & halves["firing"]


@pytest.mark.parametrize(("windows", "count"), [(256, 1), (256, 7), (10, 3), (5, 5)])
def test_parts_cover_every_window_of_every_corpus_once(windows, count):
    parts = firing_parts(checkpoint(), firing(windows=windows), TEXTS, count)
    covered = [
        (part.corpus, window)
        for part in parts
        for window in range(part.windows[0], part.windows[1])
    ]
    assert covered == [(corpus, window) for corpus in "cd" for window in range(windows)]
    assert {(part.cell.kind, part.cell.condition) for part in parts} == {("firing_part", "firing")}
    assert [part.cell.task for part in parts] == [part.corpus for part in parts]
    places = [(part.corpus, part.windows) for part in parts]
    counted = ngrams_parts(checkpoint(), firing(windows=windows), TEXTS, count)
    assert [(part.corpus, part.windows) for part in counted] == places


def test_costs_are_token_positions():
    parts = firing_parts(checkpoint(), FIRING, TEXTS, 3)
    assert [part.cell.cost for part in parts] == [3 * 32, 3 * 32, 4 * 32] * 2
    whole = firing_cell(checkpoint(), FIRING, TEXTS)
    assert (whole.task, whole.condition, whole.cost) == ("c,d", "firing", 2 * 10 * 32)
    assert ngrams_cell(checkpoint(), FIRING, TEXTS).cost == whole.cost
    assert routing_cell(checkpoint(), ROUTING, "sha256:0").cost == 2 * 10 * 32
    removal = removal_cell(checkpoint(), routing(removal_windows=6), "sha256:0")
    # The model as it is, and from each of 4 layers upwards: (4 + 3 + 2 + 1) / 4 is a bit more.
    assert removal.cost == 6 * 32 * (1 + INTERVENTIONS * 4 / 2)
    assert (removal.kind, removal.condition, removal.task) == ("removal", "removal", "c")


@pytest.mark.parametrize(
    ("asked", "workers", "checkpoints", "expected"),
    [
        ({}, 1, 1, 1),
        ({}, 8, 1, 4),  # of each of two corpora
        ({}, 8, 3, 2),
        ({}, 8, 8, 1),
        ({}, 64, 1, 256 // MIN_WINDOWS),
        ({"windows": 20}, 8, 1, 1),
        ({"windows": 3}, 8, 1, 1),
        ({"parts": 5}, 1, 9, 5),
        ({"parts": 5, "windows": 3}, 8, 1, 3),
    ],
)
def test_number_of_parts(asked, workers, checkpoints, expected):
    assert num_parts(firing(**{"windows": 256, **asked}), workers, checkpoints) == expected


def test_memory_grows_with_positions_and_not_with_the_text():
    base = firing_bytes(checkpoint(), FIRING)
    assert base == 4 * 32 * ((32 + 513) * 4 + 24)
    assert firing_bytes(checkpoint(), firing(windows=10_000, corpora=["c"])) == base
    assert firing_bytes(checkpoint(), firing(length=2048)) == 4 * 32 * ((64 + 513) * 4 + 24)


def routing_keys(spec: RoutingSpec, text: str = "sha256:0", **model) -> set[str]:
    one = checkpoint(**model)
    return {routing_cell(one, spec, text).key, removal_cell(one, spec, text).key}


ROUTING_CHANGES = {
    "length": 16,
    "windows": 3,
    "threshold": 0.2,
    "thresholds": [0.1],
    "fires": "product",
    "fit_tokens": 7,
    "splits": 7,
    "resamples": 7,
    "predicted_tokens": 0,
}


@pytest.mark.parametrize("name", ROUTING_CHANGES)
def test_every_ingredient_of_routing_changes_its_keys(name):
    other = routing_keys(routing(**{name: ROUTING_CHANGES[name]}))
    assert not other & routing_keys(ROUTING)


def test_no_key_of_routing_is_forgotten():
    """A new one must be sorted in: it changes the numbers, or it does not."""
    assert RoutingSpec.model_fields.keys() == {*ROUTING_CHANGES, "corpus", "removal_windows"}
    assert routing_keys(routing(corpus="e")) == routing_keys(ROUTING)
    assert not routing_keys(ROUTING, "sha256:9") & routing_keys(ROUTING)


def test_the_order_of_thresholds_is_no_matter():
    ways = [routing(thresholds=limits) for limits in ([0.5, 0.1, 1.0], [1.0, 0.5, 0.1])]
    assert routing_keys(ways[0]) == routing_keys(ways[1])


def test_how_much_is_removed_is_no_matter_to_the_analysis():
    few, many = (routing(removal_windows=count) for count in (2, 20))
    one = checkpoint()
    assert routing_cell(one, few, "s").key == routing_cell(one, many, "s").key
    assert removal_cell(one, few, "s").key != removal_cell(one, many, "s").key


def test_no_key_of_firing_is_forgotten():
    known = {"corpora", "length", "windows", "threshold", "ngrams", "most_ngrams", "tokens"}
    known |= {"least_activations"}
    assert FiringSpec.model_fields.keys() == known | {"parts"}
