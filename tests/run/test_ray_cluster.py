"""The embedded Ray of `sweeper run`, started for real in a process and a home of its own."""

import ipaddress
import json
import os
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sweeper.run.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60

EMBEDDED = """
import json, sys
from dataclasses import replace
import records_factory
from sweeper.records import CellError, Outcome
from sweeper.run import ray_executor
from sweeper.run.metrics import SweepMetrics
from sweeper.run.progress import Tally
from sweeper.run.ray_cluster import join, recorder
import ray

join("local", 1)

class Actor:
    def ready(self):
        return True

actor = ray.remote(num_cpus=1)(Actor).remote()
ray.get(actor.ready.remote())
metrics = SweepMetrics("mine", recorder)
unit = records_factory.unit("u")
outcome = Outcome(
    unit="u", attempt="a", done=("k",), errors=(), num_tokens=1234, seconds=1.5, load_seconds=0.5
)
error = CellError(key="k", type="ValueError", text="no")
tally = Tally(cells_expected=9, cells_done=4, cells_reused=1, cells_failed=2, seconds_left=33.0)
tally.workers = {"worker-0": "busy"}
metrics.stands(tally, {"worker-0": unit})
metrics.finished(unit, outcome)
metrics.finished(unit, replace(outcome, done=(), errors=(error,), num_tokens=0))
metrics.lost()
port = ray.nodes()[0]["MetricsExportPort"]
print(json.dumps({"port": port, "model": unit.checkpoint.model}), flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory) -> Iterator[tuple[psutil.Process, dict, Path]]:
    home = tmp_path_factory.mktemp("home")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", EMBEDDED],
        env={
            **kept,
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            # Ray's own pace is ten seconds.
            "RAY_metrics_report_interval_ms": "1000",
        },
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        said = json.loads(process.stdout.readline())
        yield psutil.Process(process.pid), said, home
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()


def is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    # An IPv6 socket that is bound to an IPv4 address takes that one's connections only.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def test_it_listens_on_loopback_only(embedded):
    driver = embedded[0]
    names, listening = set(), []
    for process in [driver, *driver.children(recursive=True)]:
        names.add(process.name())
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                listening.append((process.name(), connection.laddr))
    # All parts of Ray are there to be looked at, the worker too.
    assert {"gcs_server", "raylet"} <= names
    assert any("Actor" in name for name in names)
    assert len(listening) >= 5
    open_to_all = [(name, address) for name, address in listening if not is_loopback(address.ip)]
    assert open_to_all == []


def test_its_token_is_on_and_private(embedded):
    driver, _, home = embedded
    token = home / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    raylet = next(child for child in driver.children() if child.name() == "raylet")
    assert raylet.environ()["RAY_AUTH_MODE"] == "token"
    # The secret is in no command line, which everybody on the machine can read.
    for process in [driver, *driver.children(recursive=True)]:
        assert token.read_text() not in " ".join(process.cmdline())


def read_metrics(port: int) -> dict[str, dict[str, float]]:
    """Name -> labels -> value, of what Prometheus would read now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        if not line.startswith("#"):
            place, value = line.rsplit(" ", 1)
            name, _, labels = place.partition("{")
            found.setdefault(name, {})[labels] = float(value)
    return found


def test_the_metrics_of_a_sweep_are_there_for_prometheus(embedded):
    _, said, _ = embedded
    wanted = {name for metric in METRICS for name in metric.exported}
    deadline = time.monotonic() + PATIENCE
    while not wanted <= (found := read_metrics(said["port"])).keys():
        assert time.monotonic() < deadline, wanted - found.keys()
        time.sleep(0.5)
    # No other name of ours, such as a second one for the same number.
    assert {name for name in found if name.startswith("ray_sweeper_")} == wanted
    values = {name: list(found[name].values()) for name in wanted}
    assert values["ray_sweeper_cells_expected"] == [9]
    assert values["ray_sweeper_cells_done"] == [4]
    assert values["ray_sweeper_units_in_flight"] == [1]
    assert values["ray_sweeper_tokens_total"] == [1234]
    assert values["ray_sweeper_cells_computed_total"] == [1]
    assert values["ray_sweeper_cell_errors_total"] == [1]
    assert values["ray_sweeper_workers_lost_total"] == [1]
    assert values["ray_sweeper_unit_seconds_count"] == [2]
    assert sum(values["ray_sweeper_unit_seconds_bucket"]) > 0
    for metric in METRICS:
        labels = next(iter(found[metric.exported[0]]))
        assert 'sweep="mine"' in labels
        assert (f'model="{said["model"]}"' in labels) == ("model" in metric.tags)
        assert "cell" not in labels.replace('Component="core_worker"', "")
