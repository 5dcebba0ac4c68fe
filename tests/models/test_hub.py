from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import Repository, answers, serve
from safetensors.torch import load_file

from sweeper.models.loading import load
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec

MAIN, STEP, GATED = "a" * 40, "b" * 40, "c" * 40

PROGRAM = """
import dataclasses, json, sys
from sweeper.errors import UserError
from sweeper.models import resolve, weights_folder
from sweeper.spec.model import ModelSpec

answers = []
for path, revision in json.loads(sys.argv[1]):
    spec = ModelSpec(path=path, revision=revision)
    try:
        checkpoint = resolve("mine", spec, "cpu")
        folder = str(weights_folder(checkpoint, spec))
        answers.append({"checkpoint": dataclasses.asdict(checkpoint), "folder": folder})
    except UserError as error:
        answers.append({"error": str(error)})
print(json.dumps({"answers": answers, "torch": "torch" in sys.modules}))
"""


@pytest.fixture(scope="module")
def endpoint(tiny_folder, tmp_path_factory) -> Iterator[str]:
    """A hub with ``org/tiny``: safetensors on main, pickled weights alone at step1."""
    folder = tiny_folder("gpt_neox")
    main = {file.name: file.read_bytes() for file in folder.iterdir()}
    pickled = tmp_path_factory.mktemp("bin") / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), pickled)
    step = {name: content for name, content in main.items() if name != "model.safetensors"}
    extra = {"consolidated.safetensors": b"not wanted", "pytorch_model.bin": b"not wanted"}
    commits = {
        MAIN: {**main, **extra},
        STEP: {**step, "pytorch_model.bin": pickled.read_bytes()},
    }
    tiny = Repository(branches={"main": MAIN, "step1": STEP}, commits=commits)
    closed = Repository(branches={"main": GATED}, commits={GATED: {}}, is_gated=True)
    with serve({"org/tiny": tiny, "org/closed": closed}) as served:
        yield served.endpoint


def ask(home: Path, endpoint: str, *models: tuple[str, str], offline: bool = False) -> list[dict]:
    """Resolve in a process of its own."""
    return answers(PROGRAM, models, endpoint, home, offline=offline)


@pytest.fixture(scope="module")
def home(endpoint, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(endpoint, home) -> list[dict]:
    return ask(home, endpoint, ("org/tiny", "main"), ("org/tiny", "step1"), ("org/tiny", STEP))


def test_revisions_resolve_to_commits(online):
    found = [Checkpoint(**answer["checkpoint"]) for answer in online]
    assert [checkpoint.commit for checkpoint in found] == [MAIN, STEP, STEP]
    assert [checkpoint.revision for checkpoint in found] == ["main", "step1", STEP]
    assert [checkpoint.fingerprint for checkpoint in found] == [
        f"hub:{commit}" for commit in (MAIN, STEP, STEP)
    ]
    assert {checkpoint.location for checkpoint in found} == {"org/tiny"}
    assert {checkpoint.origin for checkpoint in found} == {"hub org/tiny"}
    assert {checkpoint.num_neurons for checkpoint in found} == {48}


def test_only_the_weights_that_are_loaded_are_downloaded(online):
    main, step, _ = ({path.name for path in Path(answer["folder"]).iterdir()} for answer in online)
    common = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert main == common | {"model.safetensors"}
    assert step == common | {"pytorch_model.bin"}


def test_safetensors_and_pickled_weights_load_alike(online):
    ids = torch.arange(16)[None]
    logits = []
    for answer in online[:2]:
        checkpoint = Checkpoint(**answer["checkpoint"])
        spec = ModelSpec(path=checkpoint.location, revision=checkpoint.revision)
        logits.append(load(checkpoint, spec, Path(answer["folder"])).model(ids).logits)
    assert torch.equal(*logits)


def test_what_is_cached_resolves_alike_without_the_hub(online, home, endpoint):
    main, step, absent = ask(
        home, endpoint, ("org/tiny", "main"), ("org/tiny", STEP), ("org/tiny", "x"), offline=True
    )
    for answer, before in ((main, online[0]), (step, online[2])):
        origin = "hub org/tiny (local cache; hub not reachable)"
        assert answer["checkpoint"] == {**before["checkpoint"], "origin": origin}
        assert answer["folder"] == before["folder"]
    assert "the hub cannot be reached" in absent["error"]


def test_what_the_hub_does_not_have_is_named(home, endpoint):
    models = [("org/tiny", "step7"), ("org/absent", "main"), ("org/closed", "main")]
    revision, repository, gated = (a["error"] for a in ask(home, endpoint, *models))
    assert revision == (
        "model.mine.revision: the hub repository 'org/tiny' has no revision 'step7'"
    )
    assert "neither a local folder nor a hub repository 'org/absent'" in repository
    assert "access to the hub repository 'org/closed' must be asked for" in gated


def test_a_hub_that_is_down_is_told_from_one_that_says_no(tmp_path, endpoint):
    (down,) = ask(tmp_path, endpoint, ("org/down", "main"))
    (refused,) = ask(tmp_path, "http://127.0.0.1:9", ("org/tiny", "main"))
    assert "the hub cannot be reached" in down["error"]
    assert "the hub cannot be reached" in refused["error"]
