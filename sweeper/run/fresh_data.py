"""Whether a worker reads the data that the driver has put into the cell keys."""

from typing import Any

from sweeper.records import Unit


class StaleDataError(RuntimeError):
    """The worker finds other data than the driver has put into the cell keys."""


def check_fingerprint(unit: Unit, found: Any) -> None:
    """Refuse other data than the unit is keyed by.

    Raises:
        StaleDataError: they differ.
    """
    if found != unit.data_fingerprint:
        raise StaleDataError(
            f"task {unit.cells[0].task!r} has data {found} on this worker, "
            f"{unit.data_fingerprint} on the driver"
        )
