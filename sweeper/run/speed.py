"""How fast workers are: remembered from measurements, guessed before the first one."""

import json
import os
import secrets
from pathlib import Path

from sweeper.models import cache_folder
from sweeper.plan.cost import guessed_rate
from sweeper.records import Checkpoint, Outcome, Unit, content_hash

SMOOTHING = 0.3


class Speeds:
    """Token positions per second of one worker, by model, numerics and what the worker has.

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
        self._known = self._read()

    def _read(self) -> dict[str, float]:
        try:
            content = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        known = content.items() if isinstance(content, dict) else ()
        return {key: rate for key, rate in known if isinstance(rate, float) and rate > 0}

    def _key(self, checkpoint: Checkpoint) -> str:
        worker = {"device": checkpoint.device, "cpus": self._cpus, "gpus": self._gpus}
        return content_hash({**checkpoint.identity(), **worker})

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
        if not outcome.done or outcome.errors or seconds <= 0 or unit.cells[0].kind == "census":
            return
        old = self.measured(unit.checkpoint)
        new = unit.cost / seconds
        self.set(unit.checkpoint, new if old is None else old + SMOOTHING * (new - old))

    def save(self) -> None:
        """Write what is known, all at once."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        aside = self._file.with_name(f".{self._file.name}.{secrets.token_hex(4)}")
        aside.write_text(json.dumps(self._known, indent=1))
        os.replace(aside, self._file)
