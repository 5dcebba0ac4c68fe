"""Which workers a cluster's nodes have room for: CPUs, GPUs and models of each.

Pure planning over plain facts, so that what does not fit is an error before anything starts: Ray
lets actors without a place wait without a word. A worker never spans nodes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from sweeper.errors import UserError
from sweeper.run.backlog import Room
from sweeper.run.needs import Need

MEMORY_LABEL = "gpu-memory-gb"
"""Label of a node that says how much memory each of its GPUs has, in GB (10^9 bytes)."""

NODE_LABELS = (MEMORY_LABEL, "ray.io/accelerator-type", "ray.io/node-id")
"""Labels that may tell nodes apart, those first that a node which joins later would share."""

USABLE = 0.95
"""Part of a GPU's memory that workers may plan with."""

MOST_PER_GPU = 4
"""Workers on one GPU. It computes for one process at a time: beyond a few, which fill each other's
gaps, more only wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the cluster."""

    name: str
    cpus: float
    gpus: float = 0.0
    gpu_bytes: float | None = None
    """Memory of each of its GPUs; None where it is not known."""
    labels: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False
    """Whether it is about to leave: nothing new is placed there."""

    def __str__(self) -> str:
        """The node with what it has."""
        memory = "" if self.gpu_bytes is None else f" of {self.gpu_bytes / 1e9:.3g} GB"
        return f"{self.name} ({self.cpus:g} CPUs, {self.gpus:g} GPUs{memory})"

    def lack(self, labels: Mapping[str, str]) -> str | None:
        """Why nothing is placed there by a job that asks for labels; None where it may be."""
        if self.draining:
            return "is about to leave"
        for label, value in labels.items():
            if self.labels.get(label) != value:
                return f"lacks the label {label}={value}"
        return None

    def usable(self, labels: Mapping[str, str]) -> bool:
        """Whether a job that asks for labels may use the node."""
        return self.lack(labels) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one worker gets, where, and for which models."""

    cpus: int
    gpus: float
    room: Room = None
    """Names of the models that fit; None for all of the job."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Conditions on the labels of its node, as Ray's ``label_selector`` takes them."""

    def __str__(self) -> str:
        """What it asks for."""
        return f"{self.cpus} CPUs and {self.gpus:g} GPUs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a job asks of the cluster."""

    needs: Sequence[Need] = ()
    """One for each model; none where models are not looked at."""
    cpus: int = 1
    """Of one worker."""
    gpus: float | None = 0.0
    """Of one worker; None for as many as each model's memory asks for."""
    workers: int | None = None
    """Number of workers; None for as many as fit."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have to be used."""
    wait_seconds: float = 0.0
    """As ``ClusterSpec.wait_seconds``."""


class NoRoomError(UserError):
    """The nodes have no room for the workers that are asked for."""


def place(nodes: Sequence[Node], asked: Asked) -> list[Shape]:
    """One shape for each worker that is to start.

    Where ``asked.gpus`` is None, a model that does not fit into the memory of one GPU gets the
    smallest number that it fits into, on the nodes where that number is smallest. All models that
    fit on one GPU of a node share workers there, several to a GPU if even the largest of them
    leaves room: a worker that can take any model is never idle while another one has work.

    Raises:
        NoRoomError: there are too few nodes for the workers; names every node and what it lacks.
        UserError: a model fits on none of them.
    """
    usable = [node for node in nodes if node.usable(asked.labels)]
    if asked.gpus is None:
        shapes = _by_memory(usable, nodes, asked)
    else:
        shape = Shape(cpus=asked.cpus, gpus=asked.gpus, labels=dict(asked.labels))
        shapes = [shape for node in usable for _ in range(_room_for(shape, node.cpus, node.gpus))]
    wanted = asked.workers or max(len(shapes), 1)
    if len(shapes) < wanted:
        alike = Shape(cpus=asked.cpus, gpus=1.0 if asked.gpus is None else asked.gpus)
        lacks = _each(nodes, partial(_lack, asked, alike))
        raise NoRoomError(f"cluster: {wanted} workers with {alike} each do not fit on {lacks}")
    chosen = _choose(shapes, wanted)
    for need in asked.needs:
        if not any(shape.room is None or need.model in shape.room for shape in chosen):
            lacks = _each(nodes, partial(_lack_of_memory, asked, need))
            raise UserError(
                f"cluster: none of {wanted} workers has room for model {need.model!r}: {lacks}"
            )
    return chosen


def _by_memory(usable: Sequence[Node], nodes: Sequence[Node], asked: Asked) -> list[Shape]:
    """Workers on all nodes, each with the GPUs that its models need."""
    kinds: dict[float | None, list[Node]] = {}
    for node in usable:
        if node.gpus >= 1:
            kinds.setdefault(node.gpu_bytes, []).append(node)
    models: dict[float | None, dict[int, list[Need]]] = {}
    for need in asked.needs:
        numbers = {memory: _fewest_gpus(need, memory, kind) for memory, kind in kinds.items()}
        fewest = min((number for number in numbers.values() if number), default=None)
        if fewest is None:
            lacks = _each(nodes, partial(_lack_of_memory, asked, need))
            raise UserError(f"cluster: no node has room for model {need.model!r}: {lacks}")
        for memory, number in numbers.items():
            if number == fewest:
                models.setdefault(memory, {}).setdefault(number, []).append(need)
    return [
        shape
        for memory, by_number in models.items()
        for shape in _on_kind(kinds[memory], usable, by_number, asked)
    ]


def _fewest_gpus(need: Need, memory: float | None, kind: Sequence[Node]) -> int | None:
    """Whole GPUs of one node that a model fits into; None if no node has so many.

    Where the memory is not known, the model is expected to fit: loading it checks that.
    """
    if memory is None:
        return 1
    number = need.whole_gpus(memory * USABLE)
    return number if number and any(number <= node.gpus for node in kind) else None


def _on_kind(
    kind: Sequence[Node],
    usable: Sequence[Node],
    by_number: Mapping[int, Sequence[Need]],
    asked: Asked,
) -> list[Shape]:
    """Workers on nodes whose GPUs are alike: those for the largest models first."""
    labels = {**asked.labels, **_telling_apart(kind, usable)}
    cpus, gpus = [node.cpus for node in kind], [float(int(node.gpus)) for node in kind]
    numbers = sorted(by_number, reverse=True)
    shapes: list[Shape] = []
    for index, number in enumerate(numbers):
        # What needs fewer GPUs fits as well: whoever has nothing left to do helps with that.
        needs = [need for fewer in numbers[index:] for need in by_number[fewer]]
        shape = Shape(
            cpus=asked.cpus,
            gpus=number if number > 1 else _share(needs, kind[0].gpu_bytes),
            room=_room(needs, asked),
            labels=labels,
        )
        part = sum(need.work for need in by_number[number]) / sum(need.work for need in needs)
        most = math.ceil(part * sum(gpus) / number) if number != numbers[-1] else None
        shapes += _fill(shape, cpus, gpus, most)
    return shapes


def _fill(shape: Shape, cpus: list[float], gpus: list[float], most: int | None) -> list[Shape]:
    """Put workers on nodes one after the other and take what they use off what is free there."""
    found: list[Shape] = []
    for index in range(len(cpus)):
        count = _room_for(shape, cpus[index], gpus[index])
        count = count if most is None else min(count, most - len(found))
        cpus[index] -= count * shape.cpus
        gpus[index] -= count * shape.gpus
        found += [shape] * count
    return found


def _room_for(shape: Shape, cpus: float, gpus: float) -> int:
    """Workers of a shape that one node has room for."""
    fit = int(cpus // shape.cpus)
    if not shape.gpus:
        return fit
    # Below one GPU, several workers share a whole one; none takes parts of two.
    share = int(gpus) * int(1 / shape.gpus) if shape.gpus <= 1 else int(gpus // shape.gpus)
    return min(fit, share)


def _share(needs: Sequence[Need], memory: float | None) -> float:
    """Part of a GPU for a worker that takes any of some models: 1, 1/2, 1/3 or 1/4."""
    if memory is None:
        return 1.0
    fitting = int(memory * USABLE // max(need.wanted for need in needs))
    number = min(max(fitting, 1), MOST_PER_GPU)
    # Ray counts in parts of 10,000: what is rounded up would not fit so many times.
    return math.floor(1e4 / number) / 1e4


def _room(needs: Sequence[Need], asked: Asked) -> Room:
    return None if len(needs) == len(asked.needs) else frozenset(need.model for need in needs)


def _telling_apart(kind: Sequence[Node], usable: Sequence[Node]) -> dict[str, str]:
    """A condition on labels that these nodes meet and the other usable ones do not."""
    others = [node for node in usable if node not in kind and node.gpus >= 1]
    if not others:
        return {}
    for label in NODE_LABELS:
        values = {node.labels.get(label) for node in kind}
        if None not in values and not values & {node.labels.get(label) for node in others}:
            return {label: f"in({','.join(sorted(str(value) for value in values))})"}
    return {}


def _choose(shapes: Sequence[Shape], wanted: int) -> list[Shape]:
    """As many workers as wanted, of every kind in turn as far as there are any."""
    if wanted >= len(shapes):
        return list(shapes)
    kinds: dict[tuple[object, ...], list[Shape]] = {}
    for shape in shapes:
        kinds.setdefault((shape.gpus, shape.room, *sorted(shape.labels.items())), []).append(shape)
    # Each kind's workers spread evenly over the list, which is cut off where it is long enough.
    spread = [
        ((index + 0.5) / len(kind) if index else 0.0, place, shape)
        for place, kind in enumerate(kinds.values())
        for index, shape in enumerate(kind)
    ]
    return [shape for _, _, shape in sorted(spread, key=lambda item: item[:2])][:wanted]


def _lack(asked: Asked, shape: Shape, node: Node) -> str:
    """Why a node has no room for more workers of a shape."""
    reason = node.lack(asked.labels)
    if reason is not None:
        return reason
    count = _room_for(shape, node.cpus, node.gpus)
    if count:
        return f"has room for {count}"
    if node.cpus < shape.cpus:
        return f"lacks {shape.cpus - node.cpus:g} CPUs"
    return f"lacks {shape.gpus - node.gpus:g} GPUs"


def _lack_of_memory(asked: Asked, need: Need, node: Node) -> str:
    """Why a node has no room for a model."""
    reason = node.lack(asked.labels)
    if reason is not None:
        return reason
    if node.gpus < 1 or node.gpu_bytes is None:
        return "lacks GPUs"
    number = need.whole_gpus(node.gpu_bytes * USABLE)
    if number is None:
        return f"lacks memory: each GPU needs {need.beside / 1e9:.3g} GB beside the weights"
    if number <= node.gpus:
        return (
            f"has room for a worker with {asked.cpus} CPUs and {number} GPUs if no other is there"
        )
    return f"lacks {number - node.gpus:g} of the {number} GPUs that it takes there"


def _each(nodes: Sequence[Node], tell: Callable[[Node], str]) -> str:
    return "; ".join(f"{node}: {tell(node)}" for node in nodes) or "a cluster without nodes"
