"""A real Ray with its dashboard, in a process and a home of its own, reachable on loopback only."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

CLUSTER = """
import json, sys
from sweeper.run import ray_executor
from sweeper.run.ray_cluster import _loopback_only
from sweeper.run.ray_token import ensure_token
import ray
from ray._private.parameter import RayParams
from ray._private.utils import write_ray_address

# Any free port for the agent that starts jobs: another Ray of this machine may have the usual one.
plain = RayParams.__init__
RayParams.__init__ = lambda self, **given: plain(self, dashboard_agent_listen_port=0, **given)
ensure_token()
with _loopback_only():
    context = ray.init(
        address="local", include_dashboard=True, num_cpus=2, object_store_memory=100 * 2**20,
        logging_level="ERROR", log_to_driver=False, _temp_dir=sys.argv[1],
    )
# As `ray start` does: the jobs of this cluster must not find another one of this machine.
write_ray_address(context.address_info["gcs_address"], sys.argv[1])
print(json.dumps([context.dashboard_url, context.address_info["gcs_address"]]), flush=True)
sys.stdin.read()
ray.shutdown()
"""


@dataclass(frozen=True)
class Cluster:
    """Where its dashboard and its nodes' meeting point are, its home, the file with its token."""

    url: str
    gcs: str
    home: Path
    token: Path


def cluster_environment(home: Path) -> dict[str, str]:
    """As a user's shell would have it, with the project's own commands on the path."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    return {
        **kept,
        "HOME": str(home),
        "PATH": os.pathsep.join([str(home / "bin"), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "SWEEPER_CACHE": str(home / "cache"),
    }


def write_command(home: Path) -> None:
    """The command ``sweeper`` of this checkout, whatever is installed."""
    command = home / "bin" / "sweeper"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sweeper.cli "$@"\n')
    command.chmod(0o755)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("home")
    write_command(home)
    # The names of its sockets must be short.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, folder],
            env=cluster_environment(home),
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url, gcs = json.loads(process.stdout.readline())
            yield Cluster(f"http://{url}", gcs, home, home / ".ray" / "auth_token")
        finally:
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


@pytest.fixture
def environment(cluster, tmp_path) -> dict[str, str]:
    """Variables for a process of another user of the cluster's machine."""
    variables = {"HOME": str(tmp_path), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return {**cluster_environment(cluster.home), **variables}


@pytest.fixture
def trusted(cluster, monkeypatch) -> Cluster:
    """The cluster, for a user who has its token."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token))
    return cluster


@pytest.fixture
def job_file(shared, tmp_path) -> Callable[..., Path]:
    """Function from the name of a run to a job file for the tiny real model."""
    text = tmp_path / "story.txt"
    text.write_text("Once upon a time there was a little girl named Lily who loved her dog. " * 40)

    def write(name: str, **changes: object) -> Path:
        content = {
            "name": name,
            "store": str(tmp_path / "store"),
            "seeds": 1,
            "model": {"stories": {"path": str(shared / "models" / "stories260K")}},
            "corpus": {"text": {"kind": "file", "path": str(text)}},
            "suite": {
                "perplexity": {"kind": "perplexity", "corpus": "text", "length": 64, "limit": 4}
            },
            "condition": {
                "baseline": {"operation": None},
                "zero": {
                    "operation": "zero",
                    "neurons": {"kind": "explicit", "neurons": {1: [3, 5]}},
                },
            },
            "statistics": {"resamples": 100},
            "cluster": {
                "workers": 1,
                "address": "auto",
                "gpus_per_worker": 0,
                "shared_folders": [str(tmp_path)],
            },
            **changes,
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    return write
