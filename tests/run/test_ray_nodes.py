"""Nodes of Ray: what is read of them, and where actors for models of different size end up."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sweeper.errors import UserError
from sweeper.run.placement import Node
from sweeper.run.ray_nodes import nodes_of, smallest_gpu
from sweeper.store import Store


def listed(**changes):
    """A node as Ray lists it."""
    plain = {
        "NodeID": "id0",
        "Alive": True,
        "NodeManagerHostname": "host",
        "Resources": {"CPU": 8.0, "GPU": 2.0, "memory": 1e9},
        "Labels": {"ray.io/node-id": "id0"},
    }
    return {**plain, **changes}


def test_what_is_read_of_the_nodes():
    labels = {"gpu-memory-gb": "79.5", "pool": "x"}
    found = nodes_of(
        [
            listed(),
            listed(NodeID="id1", Labels=labels),
            listed(NodeID="id2", Resources={}),
            listed(NodeID="id3", Alive=False),
        ],
        leaving={"id2", "id9"},
    )
    assert found == {
        "id0": Node(name="host", cpus=8, gpus=2, labels={"ray.io/node-id": "id0"}),
        "id1": Node(name="host", cpus=8, gpus=2, gpu_bytes=79.5e9, labels=labels),
        "id2": Node(name="host", cpus=0, labels={"ray.io/node-id": "id0"}, draining=True),
    }


@pytest.mark.parametrize("value", ["much", "0", "-3", "nan", "inf", ""])
def test_a_label_that_is_no_size_is_an_error(value):
    with pytest.raises(UserError, match=r"^cluster: node host has the label gpu-memory-gb="):
        nodes_of([listed(Labels={"gpu-memory-gb": value})], ())


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 81559; echo 40960", 40960 * 2**20),
        ("echo 143771", 143771 * 2**20),
        ("echo 'No devices were found'", None),
        ("exit 9", None),
        (None, None),
    ],
)
def test_the_driver_of_the_gpus_is_asked_for_their_size(tmp_path, monkeypatch, script, expected):
    if script is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if script else str(tmp_path))
    assert smallest_gpu() == expected


ON_NODES = """
import json, sys
from ray.cluster_utils import Cluster
from sweeper.errors import UserError
from sweeper.run.needs import Need
from sweeper.run.placement import Asked
from sweeper.run.ray_executor import RayExecutor, has_gpus
import ray

def need(model, gigabytes):
    return Need(model=model, layers=gigabytes * 1e9, beside=1e9, wanted=(gigabytes + 2) * 1e9,
                work=gigabytes)

def executor(**asked):
    return RayExecutor(sys.argv[1], "r", address=cluster.address, asked=Asked(**asked),
                       hang_seconds=600.0)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
cluster.add_node(num_cpus=2, num_gpus=1, labels={"gpu-memory-gb": "80"})
cluster.add_node(num_cpus=1, num_gpus=2, labels={"gpu-memory-gb": "16"})
print(json.dumps({"address": cluster.address}), flush=True)
found = {"gpus": [has_gpus(cluster.address, {}), has_gpus(cluster.address, {"pool": "x"})]}
one = executor(needs=[need("large", 60), need("small", 12)], gpus=None)
names = one.start()
places = {node["NodeID"]: node["Labels"]["gpu-memory-gb"] for node in ray.nodes()
          if "gpu-memory-gb" in node["Labels"]}
found["workers"] = [
    [places[one._nodes[name]], one._shapes[name].gpus, sorted(one.room(name) or ["all"])]
    for name in names
]
one.stop()
two = executor(needs=[need("huge", 300)], gpus=None)
try:
    two.start()
except UserError as error:
    found["error"] = str(error)
two.stop()
print(json.dumps(found), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def on_nodes(tmp_path_factory):
    """A cluster with GPUs of two sizes that are not there, and what the executor made of it."""
    folder = tmp_path_factory.mktemp("cluster")
    store = folder / "store"
    Store(str(store), create=True)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", ON_NODES, str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=env,
        )
        found = {}
        while "workers" not in found:
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            found |= json.loads(line) if line.startswith("{") else {}
        yield {**found, "env": env}
        process.communicate()


def test_actors_lie_where_the_memory_of_the_gpus_allows(on_nodes):
    # 15.2 GB of 16 are planned with: two of 14 do not share one; on 80 GB the large one sets it.
    # The old node has a core for one worker.
    assert sorted(on_nodes["workers"]) == [["16", 1, ["small"]], ["80", 1, ["all"]]]


def test_a_running_cluster_is_asked_whether_it_has_gpus(on_nodes):
    assert on_nodes["gpus"] == [True, False]


def test_what_no_node_can_hold_is_an_error_with_all_nodes(on_nodes):
    text = on_nodes["error"]
    assert text.startswith("cluster: no node has room for model 'huge': ")
    assert "(0 CPUs, 0 GPUs): lacks GPUs" in text
    assert "(2 CPUs, 1 GPUs of 80 GB): lacks 4 of the 5 GPUs that it takes there" in text


def test_the_command_line_ends_with_code_2(on_nodes, story_job, tmp_path):
    cluster = {"executor": "ray", "address": on_nodes["address"], "gpus_per_worker": 4.0}
    job = json.loads(story_job(cluster=cluster).model_dump_json())
    file = Path(tmp_path / "job.yaml")
    file.write_text(yaml.safe_dump(job))
    command = [sys.executable, "-m", "sweeper.cli", "run", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=on_nodes["env"], check=False, timeout=120
    )
    assert done.returncode == 2, done.stderr
    text = " ".join(done.stderr.split())
    assert "cluster: 1 workers with 1 CPUs and 4 GPUs each do not fit on " in text
    assert "(1 CPUs, 2 GPUs of 16 GB): lacks 2 GPUs" in text
