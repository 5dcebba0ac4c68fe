"""Ray as the executor: one actor per worker, plain data in, small answers out."""

import logging
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

from sweeper.errors import StoreError, UserError, lines_of
from sweeper.records import Outcome, Unit
from sweeper.run.backlog import Room
from sweeper.run.executor import Event, Finished, Lost, Ready
from sweeper.run.placement import Asked, NoRoomError, Shape, place
from sweeper.run.ray_cluster import join
from sweeper.run.ray_growth import wait_for_room
from sweeper.run.ray_nodes import cluster_nodes, draining_nodes
from sweeper.run.signs import Sign, Signs, Watch, pulse_seconds, show

# Before Ray is imported: no telemetry, and no packaging of the caller's environment.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import ActorUnavailableError, NodeDiedError, RayError, RayTaskError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

START_SECONDS = 300.0
"""How long workers may take to start (a node may be coming up) before the run is given up."""

BROKEN_DEVICE = "AcceleratorError"
"""The error of torch after which a process can use its GPU no more."""

MOST_STARTS = 3
"""How often in a row a worker is started that dies before it is ready (its node is gone, say)."""

NODE_SECONDS = 1.0
"""How often the cluster is asked which nodes are about to go."""

SIGNS = "sweeper-signs"
"""Namespace, in the key-value store of Ray's head, of what workers show of themselves."""

_log = logging.getLogger("sweeper")


class HungError(RuntimeError):
    """A worker has shown no progress for too long."""


class DrainedError(RuntimeError):
    """A worker's node takes no new work, since it is about to go."""


class SweepWorker:
    """The worker inside an actor; imports torch there and only there."""

    def __init__(
        self, store: str, run: str, name: str, shape: Shape, sign_key: str, pulse: float
    ) -> None:
        from sweeper.run.worker import Worker, keep_to_share

        def send(sign: Sign) -> None:
            _internal_kv_put(sign_key, sign.dump(), namespace=SIGNS)

        signs = Signs()
        # On the main thread others compute; only a thread beside it can tell of that.
        show(signs, send, pulse)
        if 0 < shape.gpus < 1:
            keep_to_share(shape.gpus)
        self._worker = Worker(store, run, name, shape.cpus, signs)

    def ready(self) -> str:
        """Id of the node; answers once the worker's packages are imported."""
        return str(ray.get_runtime_context().get_node_id())

    def run(self, unit: Unit) -> Outcome:
        """Compute a unit."""
        return self._worker.run(unit)


class RayExecutor:
    """Actors on an embedded local Ray or on a running cluster."""

    def __init__(
        self,
        store: str,
        run: str,
        *,
        address: str,
        asked: Asked,
        hang_seconds: float,
    ) -> None:
        """Prepare, without starting anything.

        Args:
            store: address of the store; on a cluster all nodes must reach it.
            run: name of the run.
            address: "local", "auto" or ``host:port``.
            asked: how many actors, and what each of them gets.
            hang_seconds: as ``ClusterSpec.hang_seconds``.
        """
        self._store, self._run, self._address = store, run, address
        self._asked = asked
        self._shapes: dict[str, Shape] = {}
        self._connected = False
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, str] = {}
        self._starting: dict[Any, _Start] = {}
        self._nodes: dict[str, str] = {}
        self._leaving: set[str] = set()
        self._nodes_seen = 0.0
        self._watch = Watch(hang_seconds)
        self._watched = 0.0
        self._sign_keys: dict[str, str] = {}
        self._signs, self._spawned = secrets.token_hex(8), count()

    def start(self) -> list[str]:
        """Start or join Ray and start the actors; waits until they have imported their packages.

        Raises:
            UserError: no such cluster, or too few CPUs or GPUs for the job.
        """
        join(self._address, self._local_cpus())
        self._connected = True
        shapes = self._places()
        self._shapes = {f"worker-{index}": shape for index, shape in enumerate(shapes)}
        for worker in self._shapes:
            self._spawn(worker)
        deadline = time.monotonic() + START_SECONDS
        while self._starting:
            left = max(deadline - time.monotonic(), 0.0)
            calls = ray.wait(list(self._starting), num_returns=1, timeout=left)[0]
            if not calls:
                kinds = " or ".join(sorted({str(shape) for shape in shapes}))
                raise UserError(
                    f"cluster: not all of {len(shapes)} workers with {kinds} started within "
                    f"{START_SECONDS:g} s"
                )
            self._started(calls[0])
        return list(self._actors)

    def _places(self) -> list[Shape]:
        """What each worker gets; waits for nodes as long as the job allows."""
        try:
            return place(cluster_nodes(gpu_memory=self._asked.gpus is None), self._asked)
        except NoRoomError as error:
            if not self._asked.wait_seconds:
                raise
            wait = f"waiting up to {self._asked.wait_seconds:g} s for the cluster to grow"
            _log.warning("%s; %s", error, wait)
        wait_for_room(self._asked)
        return place(cluster_nodes(gpu_memory=self._asked.gpus is None), self._asked)

    def _started(self, call: Any) -> None:
        """Take note of a worker of the beginning; one whose node goes meanwhile starts elsewhere.

        Raises:
            UserError: it cannot start (its node does not see the store, say).
        """
        start = self._starting.pop(call)
        try:
            self._nodes[start.worker] = ray.get(call)
        except RayError as error:
            if start.tries == MOST_STARTS or getattr(error, "actor_init_failed", False):
                text = f"cluster: a worker could not start: {_reason(error)}"
                raise UserError(text) from error
            self._start_again(start, error)

    def _local_cpus(self) -> int:
        # More workers than cores are the user's choice; Ray must not let them wait for ever.
        return max(os.cpu_count() or 1, (self._asked.workers or 1) * self._asked.cpus)

    def room(self, worker: str) -> Room:
        """Names of the models that a worker's GPUs have room for; None for all."""
        return self._shapes[worker].room

    def _spawn(self, name: str, tries: int = 1) -> None:
        shape = self._shapes[name]
        options = ray.remote(
            num_cpus=shape.cpus,
            num_gpus=shape.gpus,
            label_selector=dict(shape.labels),
            max_restarts=0,
            max_task_retries=0,
        )
        # Of this process alone: the one before it may still give a last sign.
        self._sign_keys[name] = f"{self._signs}/{next(self._spawned)}"
        pulse = pulse_seconds(self._watch.hang_seconds)
        self._actors[name] = options(SweepWorker).remote(
            self._store, self._run, name, shape, self._sign_keys[name], pulse
        )
        ready = self._actors[name].ready.remote()
        self._starting[ready] = _Start(name, time.monotonic() + START_SECONDS, tries)

    def submit(self, worker: str, unit: Unit) -> None:
        """Call the worker's actor."""
        self._calls[self._actors[worker].run.remote(unit)] = worker
        self._watch.begin(worker, time.monotonic())

    def poll(self, seconds: float) -> list[Event]:
        """Wait until a call has ended, at most ``seconds``.

        Raises:
            UserError: no worker is left, and none could be started again.
        """
        self._check_starts()
        calls = [*self._calls, *self._starting]
        ready = ray.wait(calls, num_returns=1, timeout=seconds)[0] if calls else []
        if ready:  # and all others that have ended, since a wait looks at every call
            ready = ray.wait(calls, num_returns=len(calls), timeout=0)[0]
        events = [event for call in ready for event in self._events(call)]
        return events + self._hung() + self._moved()

    def _check_starts(self) -> None:
        """Workers may wait long for a place (their node is gone, say) as long as others work."""
        now = time.monotonic()
        if not self._actors:
            raise UserError("cluster: all workers have died, and none could be started again")
        if not self._calls and not self._starting:
            raise UserError(
                "cluster: no worker that is left has room for the models of what is to be done; "
                "what was finished is kept, the same command goes on from there"
            )
        late = [start for start in self._starting.values() if now > start.deadline]
        if late and not self._calls and len(late) == len(self._starting):
            raise UserError(
                f"cluster: {len(late)} worker(s) found no place on the nodes within "
                f"{START_SECONDS:g} s, and the others have nothing to do; what was finished is "
                "kept, the same command goes on from there"
            )

    def _events(self, call: Any) -> list[Event]:
        if call not in self._starting:
            return [self._answer(call, self._calls.pop(call))]
        start = self._starting.pop(call)
        try:
            self._nodes[start.worker] = ray.get(call)
        except RayError as error:
            self._start_again(start, error)
            return []
        return [Ready(worker=start.worker)]

    def _start_again(self, start: "_Start", error: RayError) -> None:
        again = start.tries < MOST_STARTS
        what = "starting it again" if again else "going on without it"
        _log.warning("%s could not start (%s); %s", start.worker, _reason(error), what)
        ray.kill(self._actors.pop(start.worker))
        if again:
            self._spawn(start.worker, start.tries + 1)

    def _answer(self, call: Any, worker: str) -> Event:
        try:
            return Finished(worker=worker, outcome=ray.get(call))
        except RayTaskError as error:
            # The actor lives; its worker could not answer (the store is full, say).
            cause = error.cause if isinstance(error.cause, Exception) else error
            if type(cause).__name__ == BROKEN_DEVICE:
                return self._replace(worker, cause, charged=True)
            charged = not isinstance(cause, StoreError)
            return Lost(worker=worker, error=type(cause).__name__, text=str(cause), charged=charged)
        except RayError as error:
            return self._replace(worker, error, charged=not self._excused(worker, error))

    def _excused(self, worker: str, error: RayError) -> bool:
        """Whether a worker died with its node, or through nobody's fault."""
        if isinstance(error, ActorUnavailableError | NodeDiedError):
            return True
        if getattr(error, "preempted", False) or "its node has died" in str(error):
            return True
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        node = self._nodes[worker]
        return node not in alive or node in draining_nodes()

    def _hung(self) -> list[Event]:
        """Kill busy workers that have shown no progress for too long."""
        now = time.monotonic()
        if now < self._watched + pulse_seconds(self._watch.hang_seconds):
            return []
        self._watched = now
        events: list[Event] = []
        for call, worker in list(self._calls.items()):
            sign = self._sign(worker)
            if sign is not None:
                self._watch.see(worker, sign, now)
            reason = self._watch.hangs(worker, now)
            if reason is not None:
                del self._calls[call]
                events.append(self._replace(worker, HungError(reason), charged=True))
        return events

    def _sign(self, worker: str) -> Sign | None:
        try:
            text = _internal_kv_get(self._sign_keys[worker], namespace=SIGNS)
        except RayError:  # the head does not answer now
            return None
        return Sign.parse(text) if text else None

    def _moved(self) -> list[Event]:
        """Take workers off nodes that are about to go; those that compute answer first."""
        now = time.monotonic()
        if now >= self._nodes_seen + NODE_SECONDS:
            self._nodes_seen, self._leaving = now, draining_nodes()
        busy = {*self._calls.values(), *(start.worker for start in self._starting.values())}
        leaving = [worker for worker, node in self._nodes.items() if node in self._leaving]
        error = DrainedError("its node is drained")
        idle = [worker for worker in leaving if worker not in busy]
        return [self._replace(worker, error, charged=False) for worker in idle]

    def _replace(self, worker: str, error: Exception, *, charged: bool) -> Event:
        """Start an actor anew, elsewhere if need be; its unit comes back through the event."""
        ends: dict[type[Exception], str] = {HungError: "hangs", DrainedError: "has to leave"}
        what = ends.get(type(error), f"died ({type(error).__name__})")
        _log.warning("%s %s; starting it again: %s", worker, what, _reason(error))
        ray.kill(self._actors[worker])
        self._nodes.pop(worker, None)
        self._watch.forget(worker)
        self._spawn(worker)
        return Lost(
            worker=worker,
            error=type(error).__name__,
            text=_reason(error),
            charged=charged,
            usable=False,
        )

    def stop(self) -> None:
        """Kill the actors and leave Ray, if this executor joined it; an embedded Ray ends."""
        if not self._connected:
            return
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
        self._starting.clear()
        with suppress(RayError):  # a head that is gone has forgotten them
            _internal_kv_del(self._signs, del_by_prefix=True, namespace=SIGNS)
        ray.shutdown()
        self._connected = False


def has_gpus(address: str, labels: Mapping[str, str]) -> bool:
    """Whether a running cluster has GPUs on nodes with these labels; joins it for a moment.

    Raises:
        UserError: no such cluster.
    """
    join(address, num_cpus=0)
    try:
        nodes = cluster_nodes(gpu_memory=False)
    finally:
        ray.shutdown()
    return any(node.gpus > 0 and node.usable(labels) for node in nodes)


@dataclass(frozen=True, slots=True)
class _Start:
    """A worker that is starting again, and until when it may."""

    worker: str
    deadline: float
    tries: int


def _reason(error: Exception) -> str:
    """What happened in one line: the error that a trace ends with, or the first line of a text."""
    lines = lines_of(error)
    return lines[-1] if any(line.startswith("File ") for line in lines) else lines[0]
