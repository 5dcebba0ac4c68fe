"""The nodes of a Ray cluster: what they have, how large their GPUs are, which are about to go.

Ray is imported inside the functions: ``ray_executor`` sets what it reads when it is imported.
"""

import logging
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sweeper.errors import UserError
from sweeper.run.placement import MEMORY_LABEL, Node

ANSWER_SECONDS = 60.0
"""How long nodes may take to say how large their GPUs are; a process starts there first."""

SMI = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")

_log = logging.getLogger("sweeper")


def cluster_nodes(*, gpu_memory: bool) -> list[Node]:
    """The living nodes of the cluster that this process has joined.

    Args:
        gpu_memory: whether to find out how large their GPUs are: by the label ``MEMORY_LABEL``,
            or else by asking the GPUs' driver there.

    Raises:
        UserError: a label that says how large GPUs are is no number.
    """
    import ray

    nodes = nodes_of(ray.nodes(), draining_nodes())
    asked = [key for key, node in nodes.items() if node.gpus and node.gpu_bytes is None]
    for key, memory in _ask(asked if gpu_memory else ()).items():
        nodes[key] = replace(nodes[key], gpu_bytes=memory)
        if memory is None:
            _log.warning(
                "%s: how large its GPUs are is not known, so a worker there gets a whole one; "
                "start Ray with the label %s to say it",
                *(nodes[key].name, MEMORY_LABEL),
            )
    return list(nodes.values())


def draining_nodes() -> set[str]:
    """Ids of the nodes that take no new work, since they are about to go."""
    import ray

    # Ray has no public call for this.
    return set(ray._private.state.state.get_draining_nodes())


def nodes_of(listed: Iterable[Mapping[str, Any]], leaving: Collection[str]) -> dict[str, Node]:
    """The living nodes by their ids.

    Args:
        listed: what Ray lists of them.
        leaving: ids of those that are about to go.

    Raises:
        UserError: a label that says how large GPUs are is no number.
    """
    return {
        node["NodeID"]: Node(
            name=node["NodeManagerHostname"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            gpu_bytes=_labelled_bytes(node["NodeManagerHostname"], node["Labels"]),
            labels=node["Labels"],
            draining=node["NodeID"] in leaving,
        )
        for node in listed
        if node["Alive"]
    }


def _labelled_bytes(name: str, labels: Mapping[str, str]) -> float | None:
    value = labels.get(MEMORY_LABEL)
    if value is None:
        return None
    try:
        gigabytes = float(value)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < float("inf"):
        raise UserError(
            f"cluster: node {name} has the label {MEMORY_LABEL}={value}; allowed is the memory of "
            "one of its GPUs in GB, a number above 0"
        )
    return gigabytes * 1e9


def _ask(nodes: Collection[str]) -> dict[str, float | None]:
    """How large the GPUs of nodes are, where their driver says it within a minute."""
    import ray
    from ray.exceptions import RayError

    if not nodes:
        return {}
    ask = ray.remote(num_cpus=0, max_retries=0)(smallest_gpu)
    calls = {ask.options(label_selector={"ray.io/node-id": node}).remote(): node for node in nodes}
    found: dict[str, float | None] = dict.fromkeys(nodes)
    for call in ray.wait(list(calls), num_returns=len(calls), timeout=ANSWER_SECONDS)[0]:
        try:
            found[calls[call]] = ray.get(call)
        except RayError as error:
            _log.warning("node %s does not say how large its GPUs are: %s", calls[call], error)
    return found


def smallest_gpu() -> float | None:
    """Memory (bytes) of the smallest GPU of this machine; None where its driver does not say."""
    try:
        done = subprocess.run(SMI, capture_output=True, text=True, check=True, timeout=10.0)
        return min(float(line) for line in done.stdout.split()) * 2**20
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
