"""Makes processes that commit to a store until they are killed; run by test_crashes.py.

Reads one order per line: JSON of the arguments of ``commit``. For each it forks a process, says
its number, and when that has ended, how. Forking spares the imports for every death.
"""

import itertools
import json
import os
import signal
import sys

import pyarrow as pa

from sweeper.store import Writer, new_attempt_name

NUM_ITEMS = 50
NUM_CELLS = 3


def make_items(keys: list[str]) -> pa.Table:
    pairs = [(key, item) for key in keys for item in range(NUM_ITEMS)]
    columns = {
        "cell_key": [key for key, _ in pairs],
        "item": [item for _, item in pairs],
        "logprob": [float(item) for _, item in pairs],
        "num_tokens": [7] * len(pairs),
    }
    texts = dict.fromkeys(("item_id", "group", "cluster"), ["x"] * len(pairs))
    nulls = ("logprob_bad", "margin", "correct", "num_tokens_bad")
    return pa.table({**columns, **texts, **dict.fromkeys(nulls, [None] * len(pairs))})


def die_at_replace(count: int) -> None:
    """Kill this process when it is about to rename its file number ``count``."""
    calls = itertools.count(1)
    original = os.replace

    def replace(source: str, target: str) -> None:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = replace


def commit(uri: str, name: str, num_commits: int | None, death: int | None) -> None:
    if death is not None:
        die_at_replace(death)
    writer = Writer(uri)
    for number in itertools.count() if num_commits is None else range(num_commits):
        keys = [f"{name}-{number}-{cell}" for cell in range(NUM_CELLS)]
        attempt = new_attempt_name(f"unit-{number}")
        tables = {"items": make_items(keys)}
        writer.commit(attempt, f"unit-{number}", "r", tables, dict.fromkeys(keys, "done"))


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            commit(*json.loads(line))
            os._exit(0)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
