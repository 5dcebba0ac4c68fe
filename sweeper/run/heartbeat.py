"""Signs of life of a driver, also while it computes a long unit itself."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

BEAT_SECONDS = 5.0
PATIENCE = 6
"""Beats in a row that may fail (a slow disk, a store's hiccup) before the work is told."""


class Heartbeat:
    """Calls a function every few seconds from a thread, for as long as a context lasts."""

    def __init__(self, beat: Callable[[], None], seconds: float = BEAT_SECONDS) -> None:
        """Prepare; nothing is called yet.

        Args:
            beat: what is called.
            seconds: time between calls.
        """
        self._beats, self._seconds = [beat], seconds
        self._stop = threading.Event()
        self._failures = 0
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def also(self, beat: Callable[[], None]) -> None:
        """Call another function as well from now on."""
        self._beats.append(beat)

    def __enter__(self) -> Self:
        """Begin to beat."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; no beat comes after this."""
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Raise what the beats raise, once they have failed too often in a row."""
        if self._error is not None and self._failures >= PATIENCE:
            raise self._error

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                for beat in list(self._beats):
                    beat()
                self._failures = 0
            except Exception as error:
                self._error = error
                self._failures += 1
