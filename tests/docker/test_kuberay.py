"""The manifests: KubeRay's own kinds by its documented fields, the others by schema."""

import shlex
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docker" / "kuberay"
FILES = sorted(FOLDER.glob("*.yaml"))
DOCUMENTS = {
    (path.stem, document["kind"]): document
    for path in FILES
    for document in yaml.safe_load_all(path.read_text())
}
KUBERNETES = "1.33"

# Fields of KubeRay's API reference (ray.io/v1, KubeRay 1.6) and their types.
CLUSTER = {
    "suspend": bool,
    "managedBy": str,
    "autoscalerOptions": dict,
    "authOptions": dict,
    "enableInTreeAutoscaling": bool,
    "gcsFaultToleranceOptions": dict,
    "headGroupSpec": dict,
    "rayVersion": str,
    "workerGroupSpecs": list,
}
JOB = {
    "activeDeadlineSeconds": int,
    "backoffLimit": int,
    "rayClusterSpec": dict,
    "submitterPodTemplate": dict,
    "metadata": dict,
    "clusterSelector": dict,
    "submitterConfig": dict,
    "deletionStrategy": dict,
    "entrypoint": str,
    "runtimeEnvYAML": str,
    "jobId": str,
    "submissionMode": str,
    "entrypointNumCpus": float,
    "ttlSecondsAfterFinished": int,
    "shutdownAfterJobFinishes": bool,
    "suspend": bool,
}
HEAD = {
    "template": dict,
    "headService": dict,
    "enableIngress": bool,
    "resources": dict,
    "labels": dict,
    "rayStartParams": dict,
    "serviceType": str,
}
WORKERS = {
    "groupName": str,
    "suspend": bool,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "idleTimeoutSeconds": int,
    "resources": dict,
    "labels": dict,
    "rayStartParams": dict,
    "template": dict,
    "numOfHosts": int,
}
AUTOSCALER = {
    "resources": dict,
    "image": str,
    "imagePullPolicy": str,
    "securityContext": dict,
    "idleTimeoutSeconds": int,
    "upscalingMode": str,
    "version": str,
    "env": list,
    "envFrom": list,
    "volumeMounts": list,
}


def fits(content: dict[str, Any], fields: dict[str, type]) -> None:
    for key, value in content.items():
        assert key in fields, key
        assert type(value) is fields[key], (key, value)


CLUSTERS = {
    "cluster": DOCUMENTS["cluster", "RayCluster"]["spec"],
    "job": DOCUMENTS["job", "RayJob"]["spec"]["rayClusterSpec"],
}
each_cluster = pytest.mark.parametrize("spec", list(CLUSTERS.values()), ids=CLUSTERS)


def templates(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"]["template"], *(g["template"] for g in spec["workerGroupSpecs"])]


def test_every_kind_is_there():
    assert {kind for _, kind in DOCUMENTS} == {
        *("RayCluster", "RayJob", "NetworkPolicy", "PodMonitor", "ConfigMap", "Secret"),
    }
    for document in DOCUMENTS.values():
        if document["kind"].startswith("Ray"):
            assert document["apiVersion"] == "ray.io/v1"


@each_cluster
def test_the_fields_of_kuberay_exist(spec):
    fits(spec, CLUSTER)
    fits(spec["headGroupSpec"], HEAD)
    fits(spec["autoscalerOptions"], AUTOSCALER)
    for group in spec["workerGroupSpecs"]:
        fits(group, WORKERS)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_fields_of_the_job_exist():
    fits(DOCUMENTS["job", "RayJob"]["spec"], JOB)


@each_cluster
def test_token_autoscaler_and_an_idle_head(spec):
    assert spec["rayVersion"] == version("ray")
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    head = spec["headGroupSpec"]
    assert head["resources"] == {"CPU": "0"}
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert head["serviceType"] == "ClusterIP"


@each_cluster
def test_the_start_parameters_are_options_of_ray(spec):
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        for name, value in group["rayStartParams"].items():
            assert f"--{name}" in known
            assert isinstance(value, str)


@each_cluster
def test_the_pods_are_confined(spec):
    for template in templates(spec):
        pod = template["spec"]
        assert template["metadata"]["labels"] == {"app.kubernetes.io/part-of": "sweeper"}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        assert pod["restartPolicy"] == "Never"
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert container["image"].rpartition(":")[2].startswith("0.1.0-")
            resources = container["resources"]
            assert resources["requests"] == resources["limits"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}
    for group in spec["workerGroupSpecs"]:
        assert group["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_job_cleans_up_after_itself_and_is_tried_again():
    spec = DOCUMENTS["job", "RayJob"]["spec"]
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0


def test_the_entrypoint_is_a_command_of_ours(tmp_path):
    from typer.testing import CliRunner

    from sweeper.cli import app

    words = shlex.split(DOCUMENTS["job", "RayJob"]["spec"]["entrypoint"])
    assert words[:2] == ["exec", "sweeper"]
    head = DOCUMENTS["job", "RayJob"]["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    container = head["spec"]["containers"][0]
    folder = next(m["mountPath"] for m in container["volumeMounts"] if m["name"] == "job")
    assert words[3] == f"{folder}/job.yaml"
    # Up to the job file, which is not here, everything is understood.
    store = DOCUMENTS["storage", "ConfigMap"]["data"]["SWEEPER_STORE"]
    arguments = [word.replace("$SWEEPER_STORE", store) for word in words[2:]]
    result = CliRunner().invoke(app, arguments)
    assert f"job file {folder}/job.yaml: no such file" in str(result.exception)


def test_keys_of_the_storage_come_from_a_secret_and_are_not_in_it():
    secret = DOCUMENTS["storage", "Secret"]["stringData"]
    assert set(secret) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert not any(secret.values())
    for spec in CLUSTERS.values():
        for template in templates(spec):
            sources = template["spec"]["containers"][0]["envFrom"]
            assert {"secretRef": {"name": "sweeper-storage"}} in sources


def test_the_network_is_closed_but_for_what_is_needed():
    spec = DOCUMENTS["network", "NetworkPolicy"]["spec"]
    ours = {"matchLabels": {"app.kubernetes.io/part-of": "sweeper"}}
    assert spec["podSelector"] == ours
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    for rule in spec["ingress"]:
        assert rule["from"]
        within = rule["from"] == [{"podSelector": ours}]
        assert within or {port["port"] for port in rule["ports"]} <= {8265, 8080}
    for rule in spec["egress"]:
        within = rule["to"] == [{"podSelector": ours}]
        assert within or {port["port"] for port in rule["ports"]} <= {53, 443, 6443}
    blocks = [to["ipBlock"] for rule in spec["egress"] for to in rule["to"] if "ipBlock" in to]
    assert all("169.254.169.254/32" in block["except"] for block in blocks)


@pytest.fixture
def validate():
    """Function that raises for what Kubernetes would not take."""
    if find_spec("kubernetes_validate") is None:
        pytest.skip("kubernetes-validate, which carries the schemas, is not installed (extra: dev)")
    import kubernetes_validate

    return lambda part: kubernetes_validate.validate(part, KUBERNETES, strict=True)


def test_the_schema_of_kubernetes_is_strict(validate):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
    container = {"name": "x", "image": "x:1"}
    validate({**pod, "spec": {"containers": [container]}})
    with pytest.raises(Exception, match="imagePulPolicy"):
        validate({**pod, "spec": {"containers": [{**container, "imagePulPolicy": "Always"}]}})


@pytest.mark.parametrize("place", sorted(DOCUMENTS), ids="-".join)
def test_the_schema_of_kubernetes_agrees(place, validate):
    document = DOCUMENTS[place]
    if document["kind"] in ("RayCluster", "RayJob"):
        spec = document["spec"].get("rayClusterSpec", document["spec"])
        found = [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": t["spec"]}
            for t in templates(spec)
        ]
    else:
        found = [document]
    for part in found:
        if part["kind"] != "PodMonitor":  # of the operator of Prometheus, not of Kubernetes
            validate(part)
