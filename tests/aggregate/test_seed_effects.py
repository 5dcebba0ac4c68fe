import pytest

from sweeper.aggregate import estimate, seed_effects


def test_draws_by_hand(study):
    """Accuracy 3/4 at the baseline; 2/4 and 0/4 under the two draws."""
    clusters = ["a", "a", "b", "b"]
    study.pairs("baseline", [1, 1, 1, 0], clusters=clusters)
    study.pairs("top", [0, 0, 0, 0], clusters=clusters)
    study.pairs("random", [1, 0, 1, 0], clusters=clusters, seed=0, control_of="top")
    study.pairs("random", [0, 0, 0, 0], clusters=clusters, seed=1, control_of="top")
    draws = seed_effects(study.manifest, study.items)
    accuracy = draws[draws["metric"] == "accuracy"].sort_values("seed")
    assert accuracy["condition"].tolist() == ["random", "random"]
    assert accuracy["effect"].tolist() == pytest.approx([-0.25, -0.75])
    table = estimate(study.manifest, study.items, study.cells)
    (mean,) = table.query("condition == 'random' and metric == 'accuracy'")["effect"]
    assert accuracy["effect"].mean() == pytest.approx(mean)


def test_no_baseline_no_effects(study):
    study.pairs("random", [1, 0], clusters=["a", "b"], seed=0)
    assert seed_effects(study.manifest, study.items).empty
