"""The executor without a cluster: one worker, in the driver itself."""

from sweeper.errors import StoreError
from sweeper.records import Unit
from sweeper.run.backlog import Room
from sweeper.run.executor import Event, Finished, Lost


class InProcessExecutor:
    """Computes each unit when it is polled for."""

    NAME = "in-process"

    def __init__(self, store: str, run: str, threads: int) -> None:
        """Prepare a worker for the store and the run, with compute threads on CPU."""
        self._arguments = (store, run, self.NAME, threads)
        self._unit: Unit | None = None

    def start(self) -> list[str]:
        """Make the worker."""
        # Here, since only a process that computes needs torch.
        from sweeper.run.worker import Worker

        self._worker = Worker(*self._arguments)
        return [self.NAME]

    def room(self, worker: str) -> Room:
        """All models: here nothing is shared out beforehand."""
        return None

    def submit(self, worker: str, unit: Unit) -> None:
        """Keep the unit until it is polled for."""
        self._unit = unit

    def poll(self, seconds: float) -> list[Event]:
        """Compute the unit, however long it takes."""
        unit, self._unit = self._unit, None
        if unit is None:
            return []
        try:
            return [Finished(worker=self.NAME, outcome=self._worker.run(unit))]
        except Exception as error:
            kind, text = type(error).__name__, str(error)
            charged = not isinstance(error, StoreError)
            return [Lost(worker=self.NAME, error=kind, text=text, charged=charged)]

    def stop(self) -> None:
        """Nothing is left running."""
