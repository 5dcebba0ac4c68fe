"""A cluster whose autoscaler brings up nodes when a sweep asks for them."""

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from faults.sweeps import until
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FakeMultiNodeProvider,
)

pytestmark = pytest.mark.slow

MOST_NODES = 2


class Growing:
    """A head without cores on this machine; its autoscaler starts processes of Ray as nodes."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        config = folder / "autoscaler.json"
        config.write_text(json.dumps(_autoscaler(self.address)))
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.env = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"}
        of_the_head = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }
        start = "start --head --block --num-cpus=0 --node-ip-address=127.0.0.1"
        start += f" --include-dashboard=false --port={port} --autoscaling-config={config}"
        self.log = folder / "head.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [str(Path(sys.executable).with_name("ray")), *start.split()],
                stdout=log,
                stderr=log,
                env={**self.env, **of_the_head},
            )

    def answers(self) -> bool:
        """Whether the head can be joined."""
        assert self._process.poll() is None, self.log.read_text()
        host, port = self.address.split(":")
        with socket.socket() as tried:
            return tried.connect_ex((host, int(port))) == 0

    def close(self) -> None:
        """End the head and the nodes that it has brought up."""
        family = [psutil.Process(self._process.pid)]
        family += family[0].children(recursive=True)
        for process in family:
            process.kill()
        self._process.wait()


def _autoscaler(address: str) -> dict[str, Any]:
    mappings = ("docker", "file_mounts", "auth")
    lists = (
        *("initialization_commands", "setup_commands"),
        *("head_setup_commands", "worker_setup_commands"),
        *("head_start_ray_commands", "worker_start_ray_commands"),
        *("cluster_synced_files", "rsync_exclude", "rsync_filter"),
    )
    node = {"resources": {"CPU": 1}, "labels": {"pool": "sweeps"}, "node_config": {}}
    return {
        **{key: {} for key in mappings},
        **{key: [] for key in lists},
        "cluster_name": "growing",
        "max_workers": MOST_NODES,
        "idle_timeout_minutes": 10,
        "upscaling_speed": 1.0,
        "file_mounts_sync_continuously": False,
        "provider": {
            "type": "external",
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "gcs_address": address,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "launch_multiple": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "use_node_id_as_ip": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {**node, "min_workers": 0, "max_workers": MOST_NODES},
        },
    }


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    """One for the module: its head has no node at first."""
    cluster = Growing(tmp_path_factory.mktemp("growing"))
    try:
        until(cluster.answers)
        yield cluster
    finally:
        cluster.close()


def test_a_sweep_waits_for_the_nodes_that_it_asks_for(growing, story_job, tmp_path):
    done = _run(growing, story_job, tmp_path, workers=MOST_NODES, wait_seconds=240.0)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "2 workers with 1 CPUs and 0 GPUs each do not fit on " in said
    assert "waiting up to 240 s for the cluster to grow" in said


def test_what_the_cluster_cannot_grow_to_is_an_error_with_all_nodes(growing, story_job, tmp_path):
    done = _run(growing, story_job, tmp_path, workers=MOST_NODES + 1, wait_seconds=3.0)
    assert done.returncode == 2, done.stderr
    last = " ".join(done.stderr.split()).rpartition("cluster: ")[2]
    assert last.startswith("3 workers with 1 CPUs and 0 GPUs each do not fit on ")
    assert last.count("(1 CPUs, 0 GPUs): has room for 1") == MOST_NODES


def _run(growing: Growing, story_job: Callable, folder: Path, **changes: Any) -> Any:
    asked = {"gpus_per_worker": 0, "labels": {"pool": "sweeps"}, **changes}
    cluster = {"executor": "ray", "address": growing.address, **asked}
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(json.loads(story_job(cluster=cluster).model_dump_json())))
    return subprocess.run(
        [sys.executable, "-m", "sweeper.cli", "run", str(file)],
        capture_output=True,
        text=True,
        env=growing.env,
        check=False,
        timeout=300,
    )
