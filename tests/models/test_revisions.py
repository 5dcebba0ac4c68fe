"""Revisions in a folder, and on a hub that is a real server on the loopback interface."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Repository, Served, serve
from tiny_models import build_tiny

from sweeper.errors import UserError
from sweeper.models import resolve, resolve_all, weights_folder
from sweeper.models.fingerprint import folder_fingerprint
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec
from sweeper.spec.revisions import PYTHIA_STEPS

STEPS = (0, 1, 8, 64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with four checkpoints and something else in it."""
    folder = tmp_path_factory.mktemp("trained")
    for step in STEPS:
        build_tiny("gpt_neox", folder / f"step{step}", seed=step)
    (folder / "logs").mkdir()
    (folder / "notes.txt").write_text("about")
    return folder


def local(folder: Path, revisions: str | list[str] | None) -> tuple[Checkpoint, ...]:
    return resolve_all("mine", ModelSpec(path=str(folder), revisions=revisions), "cpu")


def problem(folder: Path, revisions: str | list[str] | None) -> str:
    with pytest.raises(UserError) as caught:
        local(folder, revisions)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("revisions", ["step*", ["step64, step8", "step0, step1"], None])
def test_subfolders_are_revisions_in_the_order_of_their_steps(trained, revisions):
    found = local(trained, revisions)
    assert [checkpoint.step for checkpoint in found] == list(STEPS)
    for step, checkpoint in zip(STEPS, found, strict=True):
        folder = trained / f"step{step}"
        assert (checkpoint.model, checkpoint.revision) == ("mine", f"step{step}")
        assert (checkpoint.location, checkpoint.commit) == (str(folder), None)
        assert checkpoint.fingerprint == folder_fingerprint(folder)
        assert weights_folder(checkpoint, ModelSpec(path=str(trained))) == folder
    assert len({checkpoint.fingerprint for checkpoint in found}) == len(STEPS)


def test_a_revision_is_the_same_as_its_folder_alone(trained):
    alone = resolve("mine", ModelSpec(path=str(trained / "step8")), "cpu")
    revision = local(trained, "step8")[0]
    assert alone.identity() == revision.identity()
    assert (alone.revision, alone.step) == ("local", None)


def test_a_model_that_is_no_folder_of_steps_stays_one(tiny_folder):
    (only,) = resolve_all("mine", ModelSpec(path=str(tiny_folder("llama"))), "cpu")
    assert only == resolve("mine", ModelSpec(path=str(tiny_folder("llama"))), "cpu")


def test_missing_subfolders_are_named_with_their_neighbours(trained):
    assert problem(trained, "step0, step9, step1000, last") == (
        f"model.mine.revisions: folder {trained} lacks step9, step1000, last; "
        "nearest of its 5: step8, step64"
    )
    many = problem(trained, "pythia-steps")
    assert "lacks step2, step4, step16, step32, step128, step256, step512, step1000 and 142" in many
    assert "nearest of its 5: pythia-steps" in problem(trained, "pythia-step")


def test_half_a_folder_is_an_error_and_not_left_out(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    (folder / "step8" / "config.json").unlink()
    assert problem(folder, "step*").endswith("step8' has no config.json")
    assert problem(folder, "*").startswith("model.mine.path: the folder")
    assert "there is no folder" in problem(tmp_path / "absent", "step*")


def test_several_revisions_where_one_is_needed_are_an_error(trained):
    with pytest.raises(UserError, match=r"^model\.mine\.revisions: 'step\*' is not allowed here"):
        resolve("mine", ModelSpec(path=str(trained), revisions="step*"), "cpu")


def test_another_machine_finds_the_subfolders_again(trained, tmp_path):
    spec = ModelSpec(path=str(trained), revisions="step1")
    (checkpoint,) = resolve_all("mine", spec, "cpu")
    elsewhere = Path(shutil.copytree(trained, tmp_path / "elsewhere"))
    moved = Checkpoint(**{**_fields(checkpoint), "location": str(tmp_path / "gone" / "step1")})
    there = spec.model_copy(update={"path": str(elsewhere)})
    assert weights_folder(moved, there) == elsewhere / "step1"
    build_tiny("gpt_neox", elsewhere / "step1", seed=99)
    with pytest.raises(UserError, match="where the sweep was planned"):
        weights_folder(moved, there)


def test_a_revision_of_another_shape_than_planned_is_refused(trained):
    spec = ModelSpec(path=str(trained), revisions="step1")
    (checkpoint,) = resolve_all("mine", spec, "cpu")
    planned = Checkpoint(**{**_fields(checkpoint), "num_layers": 4})
    with pytest.raises(UserError, match=r"^model\.mine\.revisions: 'step1' has \(type, layers"):
        weights_folder(planned, spec)


def _fields(checkpoint: Checkpoint) -> dict:
    return {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}


PROGRAM = """
import dataclasses, json, sys
from sweeper.errors import UserError
from sweeper.models import resolve_all, weights_folder
from sweeper.spec.model import ModelSpec

answers = []
for path, revisions, fetch in json.loads(sys.argv[1]):
    spec = ModelSpec(path=path, revisions=revisions)
    try:
        found = resolve_all("mine", spec, "cpu")
        for checkpoint in found if fetch else ():
            weights_folder(checkpoint, spec)
        answers.append([dataclasses.asdict(checkpoint) for checkpoint in found])
    except UserError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


SCAN = """
import json
from huggingface_hub import scan_cache_dir

found = scan_cache_dir()
refs = {repo.repo_id: sorted(repo.refs) for repo in found.repos}
print(json.dumps({"warnings": [str(warning) for warning in found.warnings], **refs}))
"""


def commit_of(number: int) -> str:
    return f"{number:040x}"


DETACHED = commit_of(10**9)
"""No branch points to it."""


@pytest.fixture(scope="module")
def hub(trained) -> Iterator[Served]:
    """``org/pythia`` with all 154 branches, four of them with files, and ``org/odd``."""
    files = {
        step: {path.name: path.read_bytes() for path in (trained / f"step{step}").iterdir()}
        for step in STEPS
    }
    branches = {name: commit_of(place) for place, name in enumerate(PYTHIA_STEPS, start=1)}
    commits = {commit: files[0] for commit in branches.values()}
    commits |= {branches[f"step{step}"]: files[step] for step in STEPS}
    pythia = Repository(
        branches={"main": branches["step143000"], **branches},
        tags={"v1": branches["step8"]},
        commits={**commits, DETACHED: files[64]},
    )
    wide = json.loads(files[0]["config.json"]) | {"intermediate_size": 64}
    odd_files = {**files[0], "config.json": json.dumps(wide).encode()}
    odd = Repository(
        branches={"main": commit_of(500), "step0": commit_of(500), "step1": commit_of(501)},
        commits={commit_of(500): files[0], commit_of(501): odd_files},
    )
    with serve({"org/pythia": pythia, "org/odd": odd}) as served:
        yield served


def ask(hub: Served, home: Path, *asked: tuple[str, object, bool], offline: bool = False) -> list:
    """Resolve in a process of its own; the third entry of a question says whether to fetch."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)],
        cwd=Path(__file__).resolve().parents[2],
        env=hub.environment(home, offline=offline),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(hub, home) -> list:
    """Answers with the hub in reach, and what was asked of it for the 154 revisions."""
    hub.requests.clear()
    (all_steps,) = ask(hub, home, ("org/pythia", "pythia-steps", False))
    listing = list(hub.requests)
    rest = ask(
        hub,
        home,
        ("org/pythia", ["step64, main, v1", DETACHED], False),
        ("org/pythia", "step0, step1, step3, step7000, step7500", False),
        ("org/pythia", [commit_of(7**9)], False),
        ("org/pythia", "step64, step[018]", True),
        ("org/odd", "step*", True),
        ("org/absent", "step*", False),
    )
    return [all_steps, listing, *rest]


def test_all_revisions_cost_as_many_requests_as_one(online):
    found, requests = online[0], online[1]
    assert [checkpoint["revision"] for checkpoint in found] == list(PYTHIA_STEPS)
    assert [checkpoint["commit"] for checkpoint in found] == [commit_of(n) for n in range(1, 155)]
    assert [checkpoint["step"] for checkpoint in found[-2:]] == [142000, 143000]
    mine = [request for request in requests if "org/pythia" in request]
    assert mine.count("GET /api/models/org/pythia/refs") == 1
    # Whether the hub answers, the commits, and the configuration of one of them.
    assert len(mine) <= 4


def test_branches_tags_and_commits_are_revisions(online):
    found = [(c["revision"], c["commit"], c["step"]) for c in online[2]]
    assert found == [
        ("step64", commit_of(8), 64),
        ("main", commit_of(154), None),
        ("v1", commit_of(5), None),
        (DETACHED, DETACHED, None),
    ]
    assert {c["origin"] for c in online[2]} == {"hub org/pythia"}
    assert [c["fingerprint"] for c in online[2]] == [f"hub:{commit}" for _, commit, _ in found]


def test_what_the_hub_does_not_have_is_named_in_one_line(online):
    several, commit, absent = online[3], online[4], online[7]
    assert several == (
        "model.mine.revisions: the hub repository 'org/pythia' lacks step3, step7500; "
        "nearest of its 156: step2, step7000"
    )
    assert commit.startswith(
        f"model.mine.revisions: the hub repository 'org/pythia' lacks {commit_of(7**9)}"
    )
    assert absent.startswith(
        "model.mine.path: there is neither a local folder nor a hub repository"
    )


def test_a_revision_with_another_shape_is_refused_when_it_is_loaded(online):
    assert online[6].startswith(
        "model.mine.revisions: 'step1' has (type, layers, neurons, context)"
    )
    assert "('gpt_neox', 3, 64, 64), but ('gpt_neox', 3, 48, 64)" in online[6]


def test_without_the_hub_its_cache_is_asked(online, hub, home):
    hub.requests.clear()
    cached, missing, absent = ask(
        hub,
        home,
        ("org/pythia", "step*", True),
        ("org/pythia", "step0, step512, step1000", False),
        ("org/never", "step*", False),
        offline=True,
    )
    assert hub.requests == []
    origin = "hub org/pythia (local cache; hub not reachable)"
    assert cached == [{**checkpoint, "origin": origin} for checkpoint in online[5]]
    assert [checkpoint["step"] for checkpoint in cached] == list(STEPS)
    assert missing.startswith(
        "model.mine.revisions: the local cache of 'org/pythia' (the hub cannot be reached: "
    )
    assert missing.endswith("lacks step512, step1000; nearest of its 4: step64")
    assert "'org/never' is no local folder, and the hub cannot be reached" in absent


def test_the_hub_s_own_tools_find_the_cache_whole(online, hub, home):
    done = subprocess.run(
        [sys.executable, "-c", SCAN],
        env=hub.environment(home, offline=True),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["warnings"] == []
    assert found["org/pythia"] == sorted(f"step{step}" for step in STEPS)
