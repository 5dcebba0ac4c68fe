"""Makes processes that compact a store until they die; run by test_compaction.py.

Reads one order per line: JSON of the arguments of ``run``. For each it forks a process and says how
that has ended. Forking spares the imports for every death. With orders as its arguments it carries
out those, in this process.
"""

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sweeper.store import compact
from sweeper.store.filesystem import Files

ENDLESS = -1


def die_at(stage: int, moment: str) -> None:
    """Kill this process before, inside or after its write or deletion number ``stage``."""
    stages = itertools.count(1)
    original = os.replace

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(act: Callable[..., None]) -> Callable[..., None]:
        def act_or_die(*arguments: Any) -> None:
            here = next(stages) == stage
            if here and moment == "before":
                kill()
            if here and moment == "inside":
                os.replace = lambda *_: kill()
            act(*arguments)
            os.replace = original
            if here:
                kill()

        return act_or_die

    Files.write = counted(Files.write)
    Files.delete = counted(Files.delete)


def run(uri: str, stage: int, moment: str) -> None:
    if stage == ENDLESS:
        while True:
            compact(uri, grace=timedelta(0))
    die_at(stage, moment)
    compact(uri, grace=timedelta(0))


def main() -> None:
    if len(sys.argv) > 1:
        run(sys.argv[1], int(sys.argv[2]), sys.argv[3])
        return
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(*json.loads(line))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
