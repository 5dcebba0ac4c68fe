"""Makes processes that train until they are killed; run by test_deaths.py.

Reads one order per line: JSON of the command's arguments, the file for its messages, and the number
of the fsync at which to die. For each it forks a process, says its number, and when that has ended,
how. Forking spares the imports for every death.
"""

import itertools
import json
import os
import signal
import sys

import sweeper.commands
import sweeper.spec.options
import sweeper.train  # noqa: F401
from sweeper.cli import err, main


def die_at_fsync(place: int) -> None:
    """Kill this process when it is about to make its file or folder number ``place`` durable."""
    calls = itertools.count(1)
    original = os.fsync

    def fsync(handle: int) -> None:
        if next(calls) == place:
            os.kill(os.getpid(), signal.SIGKILL)
        original(handle)

    os.fsync = fsync


def obey(arguments: list[str], messages: str, death: int | None) -> int:
    if death is not None:
        die_at_fsync(death)
    sys.argv = ["sweeper", *arguments]
    with open(messages, "w") as err.file:
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


for line in sys.stdin:
    process = os.fork()
    if not process:
        os._exit(obey(*json.loads(line)))
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
