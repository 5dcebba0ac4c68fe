import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from sweeper.store import Store

COMMITTER = Path(__file__).with_name("committer.py")
NUM_ITEMS = 50
NUM_CELLS = 3


class Committer:
    """Processes that commit, one after the other; see committer.py."""

    def __init__(self):
        # A script finds its own folder only, not the project that the tests run in.
        env = {**os.environ, "PYTHONPATH": str(COMMITTER.parents[2])}
        command = [sys.executable, str(COMMITTER)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.parent = subprocess.Popen(command, text=True, env=env, **pipes)

    def start(self, store, name, num_commits=None, death=None):
        self.parent.stdin.write(json.dumps([store.uri, name, num_commits, death]) + "\n")
        self.parent.stdin.flush()
        self.pid = int(self.parent.stdout.readline())

    def wait(self):
        return int(self.parent.stdout.readline())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def committers():
    both = [Committer(), Committer()]
    yield both
    for committer in both:
        committer.parent.communicate()


def check_all_or_nothing(store):
    """Every marker's cells are there whole and once, and nothing else is."""
    keys = store.done_keys()
    units = Counter(key.rpartition("-")[0] for key in keys)
    assert set(units.values()) <= {NUM_CELLS}
    table = store.table("items", columns=["cell_key", "item"])
    assert len(table) == NUM_ITEMS * len(keys)
    expected = {(key, item) for key in keys for item in range(NUM_ITEMS)}
    assert set(zip(*(column.to_pylist() for column in table.columns), strict=True)) == expected


def test_kills_at_random_moments_leave_whole_commits(store, committers):
    draw = random.Random(7)
    for life in range(25):
        committers[0].start(store, f"life{life}")
        time.sleep(draw.uniform(0, 0.15))
        committers[0].kill()
        # A reader that was there all along, and one that comes fresh, see the same.
        store.refresh()
        check_all_or_nothing(store)
        assert Store(store.uri).done_keys() == store.done_keys()
    # The store still takes commits after all that.
    committers[0].start(store, "last", num_commits=2)
    assert committers[0].wait() == 0
    store.refresh()
    assert {f"last-{number}-0" for number in range(2)} <= store.done_keys()


@pytest.mark.parametrize(("death", "commits"), [(1, 0), (2, 0), (3, 1), (4, 1)])
def test_kill_just_before_each_file_appears(store, committers, death, commits):
    committers[0].start(store, "x", death=death)
    assert committers[0].wait() == -signal.SIGKILL
    # The file that the process was about to rename lies around under its temporary name.
    assert len(list(Path(store.uri).rglob(".*.tmp"))) == 1
    store.refresh()
    assert len(store.done_keys()) == commits * NUM_CELLS
    check_all_or_nothing(store)
    assert len(list(Path(store.uri, "tables/items").glob("*.parquet"))) == death // 2


def test_two_processes_that_commit_the_same_cells_double_nothing(store, committers):
    for committer in committers:
        committer.start(store, "same", num_commits=15)
    assert [committer.wait() for committer in committers] == [0, 0]
    store.refresh()
    assert len(store.files.names("commits")) == 30
    assert len(store.done_keys()) == 15 * NUM_CELLS
    check_all_or_nothing(store)


def test_queries_while_a_writer_goes_on(store, committers):
    committers[0].start(store, "busy")
    try:
        seen = 0
        while seen < 5 * NUM_CELLS:
            store.refresh()
            cells = len(store.done_keys())
            assert cells >= seen
            seen = cells
            query = "SELECT count(*) AS n, count(DISTINCT (cell_key, item)) AS u FROM items"
            assert store.sql(query).to_dict("records") == [
                {"n": cells * NUM_ITEMS, "u": cells * NUM_ITEMS}
            ]
    finally:
        committers[0].kill()
