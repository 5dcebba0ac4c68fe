import pytest

from sweeper.aggregate.design import blocks


def _blocks(study):
    return blocks(study.manifest, lambda key: True)


def _pair(study, condition, **named):
    return study.pairs(condition, [1, 0], clusters=["a", "b"], **named)


def test_arms_collect_their_seeds_in_order(study):
    for condition, seed in (("r", 2), ("baseline", None), ("r", 0), ("top", None)):
        _pair(study, condition, seed=seed, num_neurons=seed or 0)
    (block,) = _blocks(study)
    assert [arm.condition for arm in block.arms] == ["baseline", "r", "top"]
    assert [arm.seeds for arm in block.arms] == [(None,), (0, 2), (None,)]
    assert [arm.num_seeds for arm in block.arms] == [0, 2, 0]
    assert block.arms[1].num_neurons == 1
    assert block.cell_keys[block.baseline()] == "m/main/t/baseline/None"


def test_controls_match_name_and_operation(study):
    for condition in ("baseline", "top"):
        _pair(study, condition)
    for seed in range(2):
        _pair(study, "r", seed=seed, control_of="top")
        _pair(study, "other operation", seed=seed, control_of="top", operation="positive_clamp")
        _pair(study, "of another", seed=seed, control_of="bottom")
    (block,) = _blocks(study)
    top = next(arm for arm in block.arms if arm.condition == "top")
    keys = [block.cell_keys[column] for column in block.controls(top)]
    assert keys == ["m/main/t/r/0", "m/main/t/r/1"]


def test_a_set_that_two_conditions_draw_is_one_control(study):
    for condition in ("baseline", "top"):
        _pair(study, condition)
    for seed in range(2):
        key = _pair(study, "r", seed=seed, control_of="top")
        _pair(study, "same", seed=seed, control_of="top", key=key)
    _pair(study, "same", seed=2, control_of="top")
    (block,) = _blocks(study)
    top = next(arm for arm in block.arms if arm.condition == "top")
    keys = [block.cell_keys[column] for column in block.controls(top)]
    assert keys == ["m/main/t/r/0", "m/main/t/r/1", "m/main/t/same/2"]


def test_a_random_set_has_no_controls(study):
    _pair(study, "r", seed=0)
    _pair(study, "s", seed=0, control_of="r")
    (block,) = _blocks(study)
    assert [block.controls(arm) for arm in block.arms] == [[], []]


def test_a_cell_named_twice_is_an_error(study):
    _pair(study, "r", seed=1)
    _pair(study, "r", seed=1, key="another")
    with pytest.raises(ValueError, match=r"condition r of task t has the seeds \[1, 1\]"):
        _blocks(study)


def test_different_baselines_are_an_error(study):
    _pair(study, "baseline")
    study.manifest_rows.append({**study.manifest_rows[0], "condition": "b2", "cell_key": "other"})
    (block,) = _blocks(study)
    with pytest.raises(ValueError, match="2 different baselines"):
        block.baseline()


def test_unknown_kind_of_task_is_an_error(study):
    _pair(study, "baseline")
    study.manifest_rows[0]["task_kind"] = "census"
    with pytest.raises(ValueError, match="census"):
        _blocks(study)
