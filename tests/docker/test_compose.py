import json
import stat
import subprocess
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PROMETHEUS = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())


def ray_options(command: list[str]) -> list[str]:
    """The options of a ``ray start``, known ones."""
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    assert command[:2] == ["ray", "start"]
    options = [part.split("=")[0] for part in command[2:]]
    assert set(options) <= known
    return options


def test_it_is_what_the_compose_specification_allows():
    if find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema, which carries the schema, is not installed (extra: dev)")
    folder = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((folder / "compose-spec.json").read_text())
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(COMPOSE)] == []
    assert list(validator.iter_errors({**COMPOSE, "servces": {}}))


def test_only_this_machine_is_let_in():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"head": ["127.0.0.1:8265:8265"], "grafana": ["127.0.0.1:3000:3000"]}
    for service in SERVICES.values():
        assert "network_mode" not in service
        assert "privileged" not in service
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not any("docker.sock" in str(volume) for volume in service["volumes"])


def test_the_token_is_a_file_and_on():
    for name in ("head", "worker"):
        environment = SERVICES[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert SERVICES[name]["secrets"] == ["ray_token"]
        assert "RAY_AUTH_TOKEN" not in environment
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "/docker/secrets/" in ignored
    assert not any(
        "PASSWORD" in key and not key.endswith("__FILE")
        for key in SERVICES["grafana"]["environment"]
    )


def test_every_image_is_pinned():
    for service in SERVICES.values():
        image = service["image"].removeprefix("${SWEEPER_IMAGE:-").removesuffix("}")
        name, tag = image.rsplit(":", 1)
        assert name
        assert any(character.isdigit() for character in tag)
        assert tag != "latest"


def test_the_commands_of_ray_exist():
    head = ray_options(SERVICES["head"]["command"])
    worker = ray_options(SERVICES["worker"]["command"])
    assert {"--head", "--block", "--dashboard-host", "--metrics-export-port"} <= set(head)
    assert {"--address", "--block", "--metrics-export-port"} <= set(worker)
    assert "--num-cpus=0" in SERVICES["head"]["command"]


def test_the_health_check_of_ray_exists():
    from ray.scripts.scripts import cli

    _, program, command, option, address = SERVICES["head"]["healthcheck"]["test"]
    assert program == "ray"
    names = {name for parameter in cli.commands[command].params for name in parameter.opts}
    assert option in names
    assert address == "head:6379"


def test_what_is_mounted_is_there():
    named = set(COMPOSE["volumes"])
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in named or (DOCKER / source).exists()
            assert source in named or volume.endswith(":ro")


def test_prometheus_asks_every_node_at_the_port_it_listens_at():
    ports = {
        part.split("=")[1]
        for name in ("head", "worker")
        for part in SERVICES[name]["command"]
        if part.startswith("--metrics-export-port=")
    }
    assert ports == {"8080"}
    head, workers = PROMETHEUS["scrape_configs"]
    assert head["static_configs"] == [{"targets": ["head:8080"]}]
    assert workers["dns_sd_configs"] == [{"names": ["worker"], "type": "A", "port": 8080}]
    assert set(SERVICES) == {"head", "worker", "prometheus", "grafana"}


def test_secrets_are_made_once_and_are_private(tmp_path):
    script = tmp_path / "make_secrets.sh"
    text = (DOCKER / "make_secrets.sh").read_text()
    # Whoever runs the tests as root keeps the files.
    script.write_text(text.replace('$(id -u)" != 0', '$(id -u)" != x'))
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=True)
    assert not done.stdout
    files = sorted((tmp_path / "secrets").iterdir())
    assert [file.name for file in files] == ["grafana_password", "ray_token"]
    before = [file.read_text() for file in files]
    assert before[0] != before[1]
    for file, content in zip(files, before, strict=True):
        assert len(bytes.fromhex(content)) == 32
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    subprocess.run(["sh", str(script)], check=True)
    assert [file.read_text() for file in files] == before
