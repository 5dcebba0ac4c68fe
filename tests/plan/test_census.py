import pytest
from records_factory import checkpoint

from sweeper.plan.census import MIN_WINDOWS, census_bytes, census_parts, num_parts, part_windows
from sweeper.plan.keys import census_key
from sweeper.spec.corpus import CensusSpec

CENSUS = CensusSpec(corpus="c", length=32)


def census(**changes) -> CensusSpec:
    return CENSUS.model_copy(update=changes)


@pytest.mark.parametrize(
    ("asked", "workers", "checkpoints", "expected"),
    [
        ({}, 1, 1, 1),
        ({}, 8, 1, 8),
        ({}, 8, 3, 3),  # 8 workers, 3 censuses: 3 parts each keep all of them busy
        ({}, 8, 8, 1),
        ({}, 64, 1, 256 // MIN_WINDOWS),
        ({"windows": 20}, 8, 1, 1),
        ({"parts": 5}, 1, 9, 5),
        ({"parts": 5, "windows": 3}, 8, 1, 3),
        ({"parts": 5, "method": "exact"}, 8, 1, 1),
    ],
)
def test_number_of_parts(asked, workers, checkpoints, expected):
    assert num_parts(census(**asked), workers, checkpoints) == expected


@pytest.mark.parametrize(("windows", "parts"), [(256, 1), (256, 7), (10, 3), (5, 5)])
def test_parts_cover_every_window_once(windows, parts):
    ranges = part_windows(census(windows=windows), parts)
    assert [window for first, end in ranges for window in range(first, end)] == list(range(windows))
    sizes = [end - first for first, end in ranges]
    assert max(sizes) - min(sizes) <= 1


def test_parts_are_cells_of_their_own():
    cells = census_parts(checkpoint(), census(windows=10), "sha256:0", 3)
    assert [cell.kind for cell in cells] == ["census_part"] * 3
    assert [cell.cost for cell in cells] == [3 * 32, 3 * 32, 4 * 32]
    whole = census_key(checkpoint(), census(windows=10), "sha256:0")
    assert len({whole, *(cell.key for cell in cells)}) == 4
    assert {cell.task for cell in cells} == {"c"}


def test_the_key_of_a_part_depends_on_its_windows_and_not_on_how_many_there_are():
    def keys(count: int, **changes) -> list[str]:
        asked = census(**{"windows": 8, **changes})
        return [cell.key for cell in census_parts(checkpoint(), asked, "sha256:0", count)]

    assert set(keys(2)) == set(keys(2, parts=2, memory_gb=1.0))
    # Windows 0 to 3 are a part of two as they are the first of 4-window parts in other cuts.
    assert keys(2)[0] not in keys(4)
    for change in ({"bins": 128}, {"pairs": 7}, {"length": 16}, {"overlap": 0.25}):
        assert not set(keys(2)) & set(keys(2, **change))


def test_memory_grows_with_neurons_and_bins_and_not_with_windows():
    base = census_bytes(checkpoint(), CENSUS)
    assert base == 2 * 4 * 32 * 1024 * 5
    assert census_bytes(checkpoint(), census(windows=10_000, length=2048)) == base
    assert census_bytes(checkpoint(), census(bins=2048)) == 2 * base
    assert census_bytes(checkpoint(num_neurons=64), CENSUS) == 2 * base
    assert census_bytes(checkpoint(), census(method="exact", memory_gb=3.0)) == 3e9
