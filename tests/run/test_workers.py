import os

import pytest
from records_factory import checkpoint

from sweeper.run import workers
from sweeper.run.workers import PROCESS_BYTES, available_bytes, num_workers


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


def job_with(story_job, **cluster):
    model = {"stories": {"batch_memory_gb": 0.5}}
    census = {"method": "exact", "memory_gb": 2.0}
    return story_job(model=model, cluster={"executor": "ray", **cluster}, census=census)


EACH = 2 * 250_000_000 * 4 + 0.5e9 + PROCESS_BYTES
MODEL = checkpoint(num_parameters=250_000_000)


@pytest.mark.parametrize(
    ("room", "cpus", "expected"), [(2.5, 1, 2), (0.0, 1, 1), (7.9, 1, 7), (99, 1, 8), (99, 3, 2)]
)
def test_as_many_workers_as_cores_and_memory_allow(story_job, eight_cores, room, cpus, expected):
    job, said = job_with(story_job, cpus_per_worker=cpus), []
    found = num_workers(job, [checkpoint(), MODEL], said.append, 2e9 + room * EACH)
    assert found == expected
    if expected < 8 // cpus:
        (line,) = said
        assert line.startswith(f"{expected} worker(s) on 8 cores: ")
        assert "\n" not in line
        assert "set cluster.workers" in line
    else:
        assert said == []


def test_a_streaming_census_takes_memory_in_every_worker(story_job, eight_cores):
    census = {"method": "streaming", "bins": 1024}
    job = story_job(
        model={"stories": {"batch_memory_gb": 0.5}}, cluster={"executor": "ray"}, census=census
    )
    # 4 layers of 32 neurons, 5 bytes for each of 1,024 bins, twice.
    histograms = 2 * 4 * 32 * 1024 * 5
    room = 3 * (EACH + histograms)
    assert num_workers(job, [MODEL], available=room) == 3
    assert num_workers(job, [MODEL], available=room - 1) == 2


def test_a_firing_census_takes_memory_beside_the_model_too(story_job, eight_cores):
    long = checkpoint(num_parameters=250_000_000, context=100_000)
    job = story_job(
        model={"stories": {"batch_memory_gb": 0.5}},
        cluster={"executor": "ray"},
        census={"bins": 64},
        firing={"corpora": ["text"], "length": 100_000},
    )
    # 4 bytes for each position and each of 513 classes of tokens of 4 layers of 32 neurons, and 24
    # for sums; not beside the census' histograms, which are smaller.
    room = 3 * (EACH + 4 * 32 * ((100_000 + 513) * 4 + 24))
    assert num_workers(job, [long], available=room) == 3
    assert num_workers(job, [long], available=room - 1) == 2


def test_memory_is_asked_about_only_where_it_decides(story_job, eight_cores):
    def count(found, **cluster) -> int:
        return num_workers(job_with(story_job, **cluster), [found], pytest.fail, 1.0)

    assert count(MODEL, workers=5) == 5
    assert count(MODEL, executor="in_process") == 1
    # Other machines have other memory, and on a GPU it is not this one that the model needs.
    assert count(MODEL, address="auto") == 8
    assert count(checkpoint(device="cuda", num_parameters=10**12)) == 8


def test_half_precision_weights_count_half_and_have_no_second_layout(story_job, eight_cores):
    job = job_with(story_job)
    double = checkpoint(num_parameters=1_000_000_000, dtype="bfloat16")
    room = 2e9 + 3 * EACH
    assert num_workers(job, [double], available=room) == num_workers(job, [MODEL], available=room)


def test_a_container_s_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "CGROUP", tmp_path)
    free = available_bytes()
    assert free > 0
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes() > 1000
    (tmp_path / "memory.max").write_text("51000\n")
    assert available_bytes() == 50000
    # Files that were read, and that the system drops when somebody needs the memory.
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 200\nactive_file 100\n")
    assert available_bytes() == 50200
