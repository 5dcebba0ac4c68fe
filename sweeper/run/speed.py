"""How fast workers are: remembered from measurements, guessed before the first one."""

import logging
from pathlib import Path

from sweeper.models import cache_folder
from sweeper.plan.cost import guessed_rate
from sweeper.records import Checkpoint, Outcome, Unit, content_hash
from sweeper.run.remembered import read_numbers, write_numbers

SMOOTHING = 0.3

_log = logging.getLogger("sweeper")


class Speeds:
    """Token positions per second of one worker, by shape, numerics and what the worker has.

    Models of one shape compute alike, as all revisions of a model do. Positions are those computed:
    what cells of a unit share counts once.

    Kept in the cache folder of the machine; losing it costs nothing but a worse first estimate.
    """

    def __init__(self, cpus: int, gpus: float, file: Path | None = None) -> None:
        """Read what is remembered.

        Args:
            cpus: compute threads of a worker.
            gpus: GPUs of a worker.
            file: where to remember; None for the cache folder.
        """
        self._cpus, self._gpus = cpus, gpus
        self._file = cache_folder() / "speeds.json" if file is None else file
        self._known = read_numbers(self._file)
        self._keys: dict[Checkpoint, str] = {}

    def _key(self, checkpoint: Checkpoint) -> str:
        if checkpoint not in self._keys:
            shape = (checkpoint.model_type, checkpoint.num_parameters, checkpoint.num_layers)
            numerics = (checkpoint.num_neurons, checkpoint.dtype, checkpoint.attention)
            worker = (checkpoint.device, self._cpus, self._gpus)
            self._keys[checkpoint] = content_hash([*shape, *numerics, *worker])
        return self._keys[checkpoint]

    def measured(self, checkpoint: Checkpoint) -> float | None:
        """The remembered speed, if any."""
        return self._known.get(self._key(checkpoint))

    def rate(self, checkpoint: Checkpoint) -> float:
        """The remembered speed, or a guess from the model's shape."""
        known = self.measured(checkpoint)
        return guessed_rate(checkpoint, self._cpus, self._gpus) if known is None else known

    def set(self, checkpoint: Checkpoint, rate: float) -> None:
        """Remember a speed."""
        self._known[self._key(checkpoint)] = rate

    def learn(self, unit: Unit, outcome: Outcome) -> None:
        """Take the speed at which a unit was computed into account."""
        seconds = outcome.seconds - outcome.load_seconds
        if not outcome.done or outcome.errors or seconds <= 0 or unit.cells[0].kind != "score":
            return
        old = self.measured(unit.checkpoint)
        new = unit.cost / seconds
        self.set(unit.checkpoint, new if old is None else old + SMOOTHING * (new - old))

    def save(self) -> None:
        """Write what is known, all at once; where that is impossible, the next run guesses."""
        try:
            write_numbers(self._file, self._known)
        except OSError as error:
            _log.warning("speeds cannot be remembered: %s", error)
