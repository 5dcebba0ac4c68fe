import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from sweeper.errors import UserError
from sweeper.store import RunFolder

CLAIM = """
import sys
from sweeper.store import RunFolder, Store
RunFolder(Store(sys.argv[1]), "r1").claim()
print("claimed", flush=True)
sys.stdin.read()
"""


def start_driver(store):
    command = [sys.executable, "-c", CLAIM, store.uri]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"claimed\n"
    return process


def end(process):
    process.communicate()


def change_claim(store, **changes):
    path = Path(store.uri, "runs/r1/driver.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def ago(seconds):
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_second_driver_is_refused_until_the_first_is_killed(store):
    process = start_driver(store)
    folder = RunFolder(store, "r1")
    with pytest.raises(UserError, match=f"process {process.pid} on .* since 20") as caught:
        folder.claim()
    assert "\n" not in str(caught.value)
    RunFolder(store, "r2").claim()
    assert folder.is_driven()
    process.kill()
    # Killed but not waited for: a zombie drives nothing.
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not folder.is_driven()
    folder.claim()
    assert folder.is_driven()
    end(process)
    folder.beat()


def test_a_gone_process_is_taken_over(store):
    end(start_driver(store))
    RunFolder(store, "r1").claim()


def test_claim_beat_release(store):
    first, second = RunFolder(store, "r1"), RunFolder(store, "r1")
    first.claim({"user": "ann"})
    content = json.loads(Path(store.uri, "runs/r1/driver.json").read_text())
    assert content["pid"] == os.getpid()
    assert content["user"] == "ann"
    with pytest.raises(UserError, match="is driven by"):
        second.claim()
    second.release()
    first.beat()
    after = json.loads(Path(store.uri, "runs/r1/driver.json").read_text())
    assert after["beat_at"] > content["beat_at"]
    assert after["started_at"] == content["started_at"]
    first.claim()
    first.release()
    second.claim()
    with pytest.raises(RuntimeError, match="not claimed"):
        first.beat()


def test_pid_of_another_process_is_taken_over(store):
    RunFolder(store, "r1").claim()
    change_claim(store, process_started=psutil.Process().create_time() - 1000)
    RunFolder(store, "r1").claim()


@pytest.mark.parametrize(("age", "refused"), [(20, True), (31, False), (-5, True)])
def test_another_host_counts_by_its_beat(store, age, refused):
    RunFolder(store, "r1").claim({"host": "elsewhere", "pid": 1})
    change_claim(store, beat_at=ago(age))
    if refused:
        with pytest.raises(UserError, match="process 1 on elsewhere"):
            RunFolder(store, "r1").claim()
    else:
        RunFolder(store, "r1").claim()


def test_a_driver_learns_that_it_was_taken_over(store):
    slow, eager = RunFolder(store, "r1"), RunFolder(store, "r1")
    slow.claim({"host": "elsewhere"})
    change_claim(store, beat_at=ago(60))
    eager.claim()
    with pytest.raises(UserError, match="is driven by"):
        slow.beat()
    slow.release()
    eager.beat()


def test_a_live_process_on_this_host_keeps_its_run_however_busy_it_is(store):
    RunFolder(store, "r1").claim()
    change_claim(store, beat_at=ago(3600))
    with pytest.raises(UserError, match="is driven by process"):
        RunFolder(store, "r1").claim()


def test_a_damaged_claim_is_named(store):
    store.files.write("runs/r1/driver.json", b"{")
    with pytest.raises(UserError, match=r"runs/r1/driver\.json is damaged"):
        RunFolder(store, "r1").claim()
