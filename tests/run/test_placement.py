"""Which workers fit where, with nodes and models of known size; what Ray does with it is below."""

import math

import pytest
from records_factory import checkpoint

from sweeper.errors import UserError
from sweeper.models.shape import Shape as ModelShape
from sweeper.run.needs import PROCESS_BYTES, Need, needs_of, position_bytes
from sweeper.run.placement import USABLE, Asked, Node, Shape, place
from sweeper.score.memory import position_bytes as from_shape

GB = 1e9


def need(model: str, layers: float, batch: float = 2.0, work: float = 1.0) -> Need:
    """Sizes in GB; the smallest batches take 1 GB."""
    return Need(
        model=model,
        layers=layers * GB,
        beside=1 * GB,
        wanted=(layers + batch) * GB,
        work=work,
    )


def node(name: str, gpus: float, memory: float | None = None, cpus: float = 64, **more) -> Node:
    size = None if memory is None else memory * GB / USABLE
    labels = {"ray.io/node-id": f"id{name}", **more.pop("labels", {})}
    return Node(name=name, cpus=cpus, gpus=gpus, gpu_bytes=size, labels=labels, **more)


def kinds(shapes: list[Shape]) -> list[tuple[float, int]]:
    """GPUs of a worker and how many such workers there are, the largest first."""
    counts: dict[float, int] = {}
    for shape in shapes:
        counts[shape.gpus] = counts.get(shape.gpus, 0) + 1
    return sorted(counts.items(), reverse=True)


def by_memory(needs: list[Need], **changes) -> Asked:
    return Asked(needs=needs, gpus=None, **changes)


@pytest.mark.parametrize(
    ("layers", "share"), [(38.1, 1.0), (38.0, 0.5), (18.0, 0.25), (0.1, 0.25), (24.0, 0.3333)]
)
def test_models_that_leave_room_share_a_gpu(layers, share):
    # 80 GB for 2 GB of batches and the model: 40 GB each is two of them.
    shapes = place([node("a", 2, 80)], by_memory([need("m", layers)]))
    assert kinds(shapes) == [(share, 2 * int(1 / share))]
    assert {shape.room for shape in shapes} == {None}


def test_the_largest_model_that_fits_on_one_gpu_says_how_many_share_it():
    shapes = place([node("a", 1, 80)], by_memory([need("small", 1), need("large", 30)]))
    assert kinds(shapes) == [(0.5, 2)]
    assert {shape.room for shape in shapes} == {None}


@pytest.mark.parametrize(("layers", "gpus"), [(79.0, 1), (79.1, 2), (143.0, 2), (144.0, 3)])
def test_a_model_too_large_for_one_gpu_gets_the_fewest_that_hold_it(layers, gpus):
    # Of 80 GB, 1 is kept for batches on each GPU; divided, the fullest holds 10 % more.
    assert kinds(place([node("a", 4, 80)], by_memory([need("m", layers)])))[0] == (gpus, 4 // gpus)


def test_gpus_are_divided_by_work_and_the_large_workers_take_all():
    needs = [need("large", 100, work=3.0), need("small", 30, work=1.0)]
    shapes = place([node(name, 8, 80) for name in "ab"], by_memory(needs))
    # 3 of 4 parts of 16 GPUs are 12: six workers with two each; the others share what is left.
    assert kinds(shapes) == [(2, 6), (0.5, 8)]
    assert {shape.room for shape in shapes if shape.gpus == 2} == {None}
    assert {shape.room for shape in shapes if shape.gpus == 0.5} == {frozenset({"small"})}


def test_a_large_model_stays_on_the_nodes_whose_gpus_hold_it():
    nodes = [node("big", 2, 80, labels={"gpu-memory-gb": "84"}), node("old", 4, 16)]
    shapes = place(nodes, by_memory([need("large", 60), need("small", 5)]))
    large = [shape for shape in shapes if shape.room is None]
    small = [shape for shape in shapes if shape.room == frozenset({"small"})]
    assert kinds(large) == [(1, 2)]
    assert kinds(small) == [(0.5, 8)]
    assert len(large) + len(small) == len(shapes)
    assert [shape.labels for shape in large] == [{"gpu-memory-gb": "in(84)"}] * 2
    # The old node has no label that tells what it is, but its id.
    assert [shape.labels for shape in small] == [{"ray.io/node-id": "in(idold)"}] * 8


def test_nodes_that_are_alike_need_no_condition():
    shapes = place([node("a", 1, 80), node("b", 1, 80), node("cpu", 0)], by_memory([need("m", 70)]))
    assert [shape.labels for shape in shapes] == [{}, {}]


def test_where_the_size_of_gpus_is_unknown_a_worker_gets_a_whole_one():
    assert kinds(place([node("a", 3)], by_memory([need("m", 1), need("n", 500)]))) == [(1, 3)]


def test_a_number_of_gpus_overrides_the_memory():
    nodes = [node("a", 4, 80), node("b", 3, 80)]
    for gpus, count in [(2.0, 3), (0.5, 14), (1.0, 7), (4.0, 1)]:
        assert kinds(place(nodes, Asked(needs=[need("m", 1)], gpus=gpus))) == [(gpus, count)]


def test_cores_bound_the_workers_of_a_node():
    assert len(place([node("a", 4, 80, cpus=5)], by_memory([need("m", 1)], cpus=2))) == 2
    assert len(place([node("a", 0, cpus=5), node("b", 0, cpus=2)], Asked(cpus=2))) == 3


def test_no_more_workers_than_asked_for_and_of_every_kind():
    needs = [need("large", 100, work=1.0), need("small", 30, work=100.0)]
    nodes = [node(name, 8, 80) for name in "ab"]
    shapes = place(nodes, by_memory(needs, workers=4))
    assert kinds(shapes) == [(2, 1), (0.5, 3)]
    assert kinds(place(nodes, by_memory(needs, workers=1))) == [(2, 1)]
    assert len(place(nodes, Asked(cpus=1, workers=5))) == 5


def test_draining_nodes_and_those_without_the_labels_are_left_out():
    nodes = [
        node("a", 1, 80, labels={"pool": "x"}),
        node("b", 1, 80, labels={"pool": "y"}),
        node("c", 1, 80, labels={"pool": "x"}, draining=True),
    ]
    shapes = place(nodes, by_memory([need("m", 70)], labels={"pool": "x"}))
    assert [shape.labels for shape in shapes] == [{"pool": "x"}]


def test_shares_fit_as_often_as_ray_counts_them():
    for layers in (18.0, 24.0, 38.0):
        (shape, *_), memory = place([node("a", 1, 80)], by_memory([need("m", layers)])), 80 * GB
        number = int(memory // ((layers + 2) * GB))
        # Ray rounds to parts of 10,000.
        assert round(shape.gpus * 1e4) * number <= 1e4


def refused(nodes, asked) -> str:
    with pytest.raises(UserError) as error:
        place(nodes, asked)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_fit_is_an_error_that_names_each_node_and_what_it_lacks():
    nodes = [
        node("old", 2, 19),
        node("cpu", 0, cpus=4),
        node("gone", 8, 19, draining=True),
        node("tiny", 8, 0.95),
    ]
    assert refused(nodes, by_memory([need("m", 100)])) == (
        "cluster: no node has room for model 'm': "
        "old (64 CPUs, 2 GPUs of 20 GB): lacks 5 of the 7 GPUs that it takes there; "
        "cpu (4 CPUs, 0 GPUs): lacks GPUs; "
        "gone (64 CPUs, 8 GPUs of 20 GB): is about to leave; "
        "tiny (64 CPUs, 8 GPUs of 1 GB): lacks memory: each GPU needs 1 GB beside the weights"
    )
    assert refused(nodes[:2], Asked(gpus=1.0, workers=3)) == (
        "cluster: 3 workers with 1 CPUs and 1 GPUs each do not fit on "
        "old (64 CPUs, 2 GPUs of 20 GB): has room for 2; cpu (4 CPUs, 0 GPUs): lacks 1 GPUs"
    )
    assert "cpu (4 CPUs, 0 GPUs): lacks 4 CPUs" in refused(nodes[1:2], Asked(cpus=8))
    assert "lacks the label pool=x" in refused(nodes[:1], Asked(labels={"pool": "x"}))
    assert refused([], Asked()).endswith("do not fit on a cluster without nodes")


def test_a_model_whose_workers_leave_no_cores_for_another_is_named():
    needs = [need("large", 60), need("small", 5)]
    nodes = [node("big", 1, 80, cpus=0), node("old", 1, 16)]
    assert "none of 2 workers has room for model 'large'" in refused(nodes, by_memory(needs))


def test_every_placement_fits_on_its_nodes():
    """Brute force: put the workers on nodes one by one, as Ray does, and see that all find room."""
    for layers in (3, 30, 100, 200):
        for count in (1, 2, 5):
            nodes = [node(str(i), 8, 80, cpus=20) for i in range(count)]
            needs = [need("large", layers, work=2.0), need("small", 2)]
            free = [[20.0, [1.0] * 8] for _ in nodes]
            for shape in place(nodes, by_memory(needs)):
                assert any(_take(spot, shape) for spot in free), (layers, count, shape)


def _take(spot, shape: Shape) -> bool:
    cpus, gpus = spot
    whole = [i for i, left in enumerate(gpus) if left == 1.0]
    some = [i for i, left in enumerate(gpus) if left >= shape.gpus - 1e-9]
    chosen = whole[: int(shape.gpus)] if shape.gpus >= 1 else some[:1]
    if cpus < shape.cpus or len(chosen) < math.ceil(shape.gpus):
        return False
    for i in chosen:
        gpus[i] -= min(shape.gpus, 1.0)
    spot[0] = cpus - shape.cpus
    return True


def test_needs_of_a_job_s_models(story_job):
    model = {"stories": {}, "other": {"path": "org/other", "max_batch_tokens": 1000}}
    job = story_job(model=model, census={"method": "exact"})
    one = checkpoint(model="stories", num_parameters=10**9, dtype="bfloat16")
    two = checkpoint(model="stories", revision="step1", num_parameters=10**9, dtype="bfloat16")
    three = checkpoint(model="other", num_parameters=10**8)
    stories, other = needs_of(job, [one, two, three])
    assert (stories.model, stories.layers, stories.work) == ("stories", 2e9, 2e9)
    assert stories.wanted == 2e9 + PROCESS_BYTES + 2**15 * position_bytes(one)
    assert (other.layers, other.work) == (4e8, 1e8)
    assert (
        other.wanted - other.layers == other.beside == PROCESS_BYTES + 1000 * position_bytes(three)
    )
    with pytest.raises(UserError, match=r"^model\.stories: its size is not known"):
        needs_of(job, [checkpoint(model="stories")])


def test_a_streaming_census_takes_memory_of_the_gpu(story_job):
    job = story_job(census={"method": "streaming", "bins": 1024})
    (found,) = needs_of(job, [checkpoint(model="stories", num_parameters=1000)])
    assert found.layers == 4 * 1000 + 2 * 4 * 32 * 1024 * 5


@pytest.mark.parametrize(
    ("hidden", "neurons", "heads", "keys"),
    [
        (512, 2048, 8, 512),  # Pythia 70M
        (5120, 20480, 40, 5120),  # Pythia 12B
        (576, 1536, 9, 192),  # SmolLM2 135M
        (4096, 11008, 32, 4096),  # Llama 2 7B
        (896, 4864, 14, 128),  # Qwen2.5 0.5B
        (2304, 9216, 8, 1024),  # Gemma 2 2B
    ],
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_bound_on_a_position_holds_for_real_models(hidden, neurons, heads, keys, attention):
    sizes = ModelShape(
        num_layers=1,
        hidden=hidden,
        neurons=neurons,
        heads=heads,
        queries=hidden,
        keys=keys,
        vocabulary=50000,
        num_projections=2,
        tied=True,
    )
    eager = 2048 if attention == "eager" else None
    exact = from_shape(sizes, "bfloat16", eager)
    one = checkpoint(num_neurons=neurons, dtype="bfloat16", attention=attention, context=2048)
    assert exact <= position_bytes(one) * 1.2
    assert position_bytes(one) <= exact * (6 if attention == "eager" else 2)
