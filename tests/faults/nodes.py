"""Several nodes of Ray on this machine, in a process of their own that takes orders.

As a program: reads one order per line (JSON of a name and arguments) and answers each with a line
of JSON. The tests' own process neither imports Ray nor sets its environment.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

FAST = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "2",
}
"""A node that does not answer counts as dead after about two seconds."""


class Nodes:
    """A head without cores, and nodes that come and go."""

    def __init__(self, folder: Path) -> None:
        """Start the head; its token and the logs are in the folder."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.env = {**token, "RAY_USAGE_STATS_ENABLED": "0"}
        """What a driver needs to join."""
        self._log = (folder / "nodes.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **FAST, **self.env},
        )
        self.address: str = self._ask("start")
        self.alive: dict[str, int] = {}
        """Id of a node -> process that heads it."""

    def add(self) -> str:
        """Start a node with room for one worker; its id."""
        node, pid = self._ask("add")
        self.alive[node] = pid
        return node

    def kill(self, node: str) -> None:
        """SIGKILL to all processes of a node."""
        del self.alive[node]
        self._ask("kill", node)

    def drain(self, node: str) -> None:
        """Announce that a node will be taken away."""
        del self.alive[node]
        self._ask("drain", node)

    def workers(self) -> dict[str, psutil.Process]:
        """Id of a node -> the worker on it."""
        found = {}
        for node, pid in self.alive.items():
            for child in _children(pid):
                with suppress(psutil.Error):
                    if "".join(child.cmdline()).startswith("ray::SweepWorker"):
                        found[node] = child
        return found

    def close(self) -> None:
        """End all nodes, and processes that cannot end by themselves since they were stopped."""
        left = _children(self._process.pid)
        self._process.communicate()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._log.close()

    def _ask(self, *order: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, Path(self._log.name).read_text()
        return json.loads(line)


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


class _Keeper:
    """The other side of ``Nodes``."""

    def start(self) -> str:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes: dict[str, Any] = {}
        address: str = self._cluster.address
        return address

    def add(self) -> tuple[str, int]:
        node = self._cluster.add_node(num_cpus=1)
        self._nodes[node.node_id] = node
        return node.node_id, self._raylet(node.node_id)

    def kill(self, name: str) -> None:
        raylet = self._raylet(name)
        # The head of the node first: nobody is left to report how the others end.
        for process in [psutil.Process(raylet), *_children(raylet)]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def drain(self, name: str) -> None:
        import ray
        from ray.core.generated import autoscaler_pb2

        client = ray._raylet.GcsClient(address=self._cluster.address)
        reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
        deadline = int((time.time() + 3600) * 1000)
        accepted, text = client.drain_node(name, reason, "taken away soon", deadline)
        assert accepted, text

    def _raylet(self, name: str) -> int:
        (started,) = self._nodes[name].all_processes["raylet"]
        pid: int = started.process.pid
        return pid


def _obey() -> None:
    # What Ray prints must not come between the answers.
    answers, keeper = os.fdopen(os.dup(1), "w"), _Keeper()
    os.dup2(2, 1)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(keeper, name)(*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    _obey()
