"""The image files, by the rules that linters of Dockerfiles check; no engine is needed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("Dockerfile.*"))
KNOWN = {
    *("FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "HEALTHCHECK", "CMD"),
}
SECRET = re.compile(r"(token|secret|password|passwd|key|credential)s?$", re.IGNORECASE)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instructions and their arguments, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    found = [line.split(None, 1) for line in lines if line.strip()]
    return [(name, rest) for name, rest in found]


def stages(path: Path) -> list[list[tuple[str, str]]]:
    parts: list[list[tuple[str, str]]] = []
    for name, rest in instructions(path):
        if name == "FROM":
            parts.append([])
        parts[-1].append((name, rest))
    return parts


def variables(path: Path) -> dict[str, str]:
    words = [w for name, rest in instructions(path) if name == "ENV" for w in rest.split()]
    return dict(word.split("=", 1) for word in words)


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def file(request) -> Path:
    return request.param


def test_there_is_one_for_cpu_and_one_for_cuda():
    assert [path.name for path in FILES] == ["Dockerfile.cpu", "Dockerfile.cuda"]


def test_every_instruction_is_known(file):
    assert {name for name, _ in instructions(file)} <= KNOWN


def test_bases_are_pinned_to_an_exact_version(file):
    bases = [rest.split()[0] for name, rest in instructions(file) if name == "FROM"]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base)
    assert len(set(bases)) == 1


def test_it_does_not_run_as_root(file):
    users = [rest for name, rest in stages(file)[-1] if name == "USER"]
    assert len(users) == 1
    number, group = users[0].split(":")
    assert int(number) > 0
    assert int(group) > 0
    # Nothing that needs root comes after.
    names = [name for name, _ in stages(file)[-1]]
    assert "RUN" not in names[names.index("USER") :]


def test_packages_of_the_system_are_pinned_few_and_clean(file):
    for name, rest in instructions(file):
        assert "sudo" not in rest
        assert "apt-get upgrade" not in rest
        if name == "RUN" and "apt-get" in rest:
            assert "apt-get update &&" in rest
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists/*" in rest
            packages = re.search(r"--no-install-recommends ([^&]+)", rest)[1].split()
            assert packages
            assert all("=" in package for package in packages)


def test_python_packages_are_pinned_by_the_constraints(file):
    pins = {
        Requirement(line).name.lower(): line.strip()
        for line in (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }
    for _, rest in instructions(file):
        for command in re.findall(r"pip install [^&]+", rest):
            assert "--constraint constraints.txt" in command or "--no-deps" in command
            for package in re.findall(r"[\w.-]+==\S+", command):
                assert package == pins[package.split("==")[0].lower()]
    assert variables(file)["PIP_NO_CACHE_DIR"] == "1"


def test_the_builder_stays_behind(file):
    last = stages(file)[-1]
    assert not any("pip" in rest for _, rest in last)
    copies = [rest for name, rest in last if name == "COPY"]
    assert copies == ["--from=build /opt/sweeper /opt/sweeper", "jobs /jobs"]


def test_what_is_copied_exists_and_is_sent_to_the_builder(file):
    allowed = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for name, rest in instructions(file):
        if name != "COPY" or rest.startswith("--from"):
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists()
            assert source in allowed


def test_no_secrets_are_baked_in(file):
    for variable, value in variables(file).items():
        assert not SECRET.search(variable) or not value
    assert not re.search(r"hf_[A-Za-z0-9]{20}|AKIA[A-Z0-9]{16}", file.read_text())


def test_ray_asks_for_its_token(file):
    assert variables(file)["RAY_AUTH_MODE"] == "token"


def test_folders_are_absolute_and_commands_are_lists(file):
    for name, rest in instructions(file):
        if name == "WORKDIR":
            assert rest.startswith("/")
        if name in ("CMD", "VOLUME"):
            assert isinstance(yaml.safe_load(rest), list)
        if name == "RUN":
            assert "|" not in rest.replace("||", "")  # the status of all but the last is lost


def test_health_is_somebody_elses_and_said_so(file):
    assert ("HEALTHCHECK", "NONE") in instructions(file)
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert "healthcheck" in compose["services"]["head"]


def test_both_images_differ_in_torch_and_the_driver_alone():
    texts = [
        {line for line in path.read_text().splitlines() if not line.startswith("#")}
        for path in FILES
    ]
    only_cpu, only_cuda = texts[0] - texts[1], texts[1] - texts[0]
    assert all("torch" in line or line.startswith("RUN pip") for line in only_cpu)
    assert all("torch" in line or "NVIDIA" in line for line in only_cuda)


def test_hadolint_agrees(file):
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed (extra: dev; Linux on x86-64 only)")
    done = subprocess.run([str(hadolint), str(file)], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0
