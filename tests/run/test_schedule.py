"""Large sweeps played through in events; ``make bench`` plays the one with 1,000 GPUs."""

import pytest
from benchmarks.schedule import Scenario, play


@pytest.mark.parametrize("seed", range(2))
def test_a_sweep_over_checkpoints_ends_soon_after_the_lower_bound(seed):
    played = play(Scenario(workers=200, revisions=16, tasks=40, cell_seconds=1.8e-9), seed)
    assert played.lower_bound > played.longest
    assert 1 <= played.ratio <= 1.1
    assert played.deaths > 0
    # Units of a checkpoint stay together: 192 checkpoints, and every worker helps once or twice.
    assert played.loads < 192 + 2 * 200 + played.deaths


def test_one_model_is_shared_out_among_all_workers():
    played = play(Scenario(workers=50, sizes=(12e9,), revisions=1, tasks=200, deaths=0.0), 0)
    # Every worker loads it, which the bound counts once.
    alike = played.work / 50 + played.loads_once
    assert played.makespan <= 1.1 * alike + 60
    assert played.loads <= 50


def test_nobody_loads_what_others_will_have_done_by_then():
    played = play(Scenario(workers=50, sizes=(12e9,), revisions=4, tasks=1, deaths=0.0), 0)
    # A minute or two of work each, and 99 s to load.
    assert played.loads <= 8
