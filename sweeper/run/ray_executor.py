"""Ray as the executor: one actor per worker, plain data in, small answers out."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.errors import UserError
from sweeper.records import Outcome, Unit
from sweeper.run.executor import Event, Finished, Lost, Ready

# Before Ray is imported: no telemetry, and no packaging of the caller's environment.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

OBJECT_STORE_BYTES = 100 * 2**20
"""Small: results go to the store, never through Ray."""

START_SECONDS = 300.0
"""How long workers may take to start (a node may be coming up) before the run is given up."""

ANSWER_SECONDS = 10.0
"""How long a cluster's head may take to answer a connection."""

BROKEN_DEVICE = "AcceleratorError"
"""The error of torch after which a process can use its GPU no more."""

_log = logging.getLogger("sweeper")


class SweepWorker:
    """The worker inside an actor; imports torch there and only there."""

    def __init__(self, store: str, run: str, name: str, threads: int) -> None:
        from sweeper.run.worker import Worker

        self._worker = Worker(store, run, name, threads)

    def ready(self) -> int:
        """Process id; answers once the worker's packages are imported."""
        return os.getpid()

    def run(self, unit: Unit) -> Outcome:
        """Compute a unit."""
        return self._worker.run(unit)


class RayExecutor:
    """Actors on an embedded local Ray or on a running cluster."""

    def __init__(
        self, store: str, run: str, *, address: str, workers: int | None, cpus: int, gpus: float
    ) -> None:
        """Prepare, without starting anything.

        Args:
            store: address of the store; on a cluster all nodes must reach it.
            run: name of the run.
            address: "local", "auto" or ``host:port``.
            workers: number of actors; None for as many as fit.
            cpus: CPU cores of one actor.
            gpus: GPUs of one actor.
        """
        self._store, self._run, self._address = store, run, address
        self._num_workers, self._cpus, self._gpus = workers, cpus, gpus
        self._connected = False
        self._actors: dict[str, Any] = {}
        self._calls: dict[Any, str] = {}
        self._starting: dict[Any, _Start] = {}

    def start(self) -> list[str]:
        """Start or join Ray and start the actors; waits until they have imported their packages.

        Raises:
            UserError: no such cluster, or too few CPUs or GPUs for the job.
        """
        self._connect()
        for index in range(self._fitting()):
            self._spawn(f"worker-{index}")
        calls, self._starting = list(self._starting), {}
        try:
            ray.get(calls, timeout=START_SECONDS)
        except ray.exceptions.GetTimeoutError as error:
            raise UserError(
                f"cluster: not all of {len(calls)} workers with {self._cpus} CPUs and "
                f"{self._gpus:g} GPUs started within {START_SECONDS:g} s"
            ) from error
        except RayError as error:
            raise UserError(f"cluster: a worker could not start: {_reason(error)}") from error
        return list(self._actors)

    def _connect(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address == "local":
            options |= {
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "num_cpus": self._local_cpus(),
            }
        if ray.is_initialized():
            raise UserError("cluster: Ray runs in this process already; call ray.shutdown() first")
        self._check_answers()
        # Ray puts its own handler in the place of the driver's, which stops cleanly.
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=self._address, **options)
        except (ConnectionError, ValueError, RuntimeError, RayError) as error:
            text = " ".join(str(error).split())
            raise UserError(f"cluster.address = {self._address!r}: {text}") from error
        self._connected = True
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)

    def _check_answers(self) -> None:
        """A head that does not answer must not keep Ray waiting for minutes."""
        host, separator, port = self._address.rpartition(":")
        if not separator:
            return
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        except (OSError, ValueError) as error:
            raise UserError(
                f"cluster.address = {self._address!r}: no Ray answers there: {error}"
            ) from error

    def _local_cpus(self) -> int:
        # More workers than cores are the user's choice; Ray must not let them wait for ever.
        return max(os.cpu_count() or 1, (self._num_workers or 1) * self._cpus)

    def _fitting(self) -> int:
        """Number of actors to start; resources that Ray lacks would pend without a word."""
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fit = sum(self._on_node(resources) for resources in alive)
        wanted = self._num_workers or fit
        if fit < max(wanted, 1):
            nodes = ", ".join(
                f"{node['NodeManagerHostname']} {node['Resources'].get('CPU', 0):g} CPUs "
                f"{node['Resources'].get('GPU', 0):g} GPUs"
                for node in ray.nodes()
                if node["Alive"]
            )
            raise UserError(
                f"cluster: {max(wanted, 1)} workers with {self._cpus} CPUs and {self._gpus:g} GPUs "
                f"each do not fit on the nodes: {nodes}"
            )
        return wanted

    def _on_node(self, resources: Mapping[str, float]) -> int:
        """Actors that one node has room for; an actor never spans nodes."""
        fit = int(resources.get("CPU", 0) // self._cpus)
        if not self._gpus:
            return fit
        gpus = resources.get("GPU", 0)
        # Below one GPU, several actors share a whole one; none takes parts of two.
        share = int(gpus) * int(1 / self._gpus) if self._gpus <= 1 else int(gpus // self._gpus)
        return min(fit, share)

    def _spawn(self, name: str) -> None:
        options = ray.remote(
            num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0, max_task_retries=0
        )
        self._actors[name] = options(SweepWorker).remote(self._store, self._run, name, self._cpus)
        ready = self._actors[name].ready.remote()
        self._starting[ready] = _Start(name, time.monotonic() + START_SECONDS)

    def submit(self, worker: str, unit: Unit) -> None:
        """Call the worker's actor."""
        self._calls[self._actors[worker].run.remote(unit)] = worker

    def poll(self, seconds: float) -> list[Event]:
        """Wait until a call has ended, at most ``seconds``.

        Raises:
            UserError: no worker is left, and none could be started again.
        """
        self._drop_late_starts()
        calls = [*self._calls, *self._starting]
        if not self._actors:
            raise UserError("cluster: all workers have died, and none could be started again")
        if not calls:
            return []
        ready, _ = ray.wait(calls, num_returns=1, timeout=seconds)
        return [event for call in ready for event in self._events(call)]

    def _drop_late_starts(self) -> None:
        """Give up workers that wait too long for a place (their node is gone, say)."""
        for call, start in list(self._starting.items()):
            if time.monotonic() > start.deadline:
                _log.warning("%s found no place within %g s", start.worker, START_SECONDS)
                del self._starting[call]
                ray.kill(self._actors.pop(start.worker))

    def _events(self, call: Any) -> list[Event]:
        if call not in self._starting:
            return [self._answer(call, self._calls.pop(call))]
        worker = self._starting.pop(call).worker
        try:
            ray.get(call)
        except RayError as error:
            _log.warning("%s could not start again: %s", worker, _reason(error))
            self._actors.pop(worker)
            return []
        return [Ready(worker=worker)]

    def _answer(self, call: Any, worker: str) -> Event:
        try:
            return Finished(worker=worker, outcome=ray.get(call))
        except RayTaskError as error:
            # The actor lives; its worker could not answer (the store is full, say).
            cause = error.cause if isinstance(error.cause, Exception) else error
            if type(cause).__name__ == BROKEN_DEVICE:
                return self._replace(worker, cause)
            kind, text = type(cause).__name__, str(cause)
            return Lost(worker=worker, error=kind, text=text, charged=True)
        except RayError as error:
            return self._replace(worker, error)

    def _replace(self, worker: str, error: Exception) -> Event:
        """Start a dead actor anew; its unit comes back through the event."""
        _log.warning("%s died (%s); starting it again", worker, type(error).__name__)
        ray.kill(self._actors[worker])
        self._spawn(worker)
        preempted = isinstance(error, ActorDiedError) and bool(getattr(error, "preempted", False))
        return Lost(
            worker=worker,
            error=type(error).__name__,
            text=_reason(error),
            charged=not preempted,
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
        ray.shutdown()
        self._connected = False


@dataclass(frozen=True, slots=True)
class _Start:
    """A worker that is starting again, and until when it may."""

    worker: str
    deadline: float


def _reason(error: Exception) -> str:
    """What happened in one line: the error that a trace ends with, or the first line of a text."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if any(line.startswith("File ") for line in lines) else lines[0]
