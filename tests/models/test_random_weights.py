"""Random weights as a control: a model's shape and tokenizer, and nothing that it learnt."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hub_server import Repository, answers, serve
from tiny_models import load_folder
from transformers import AutoConfig, AutoModelForCausalLM

import sweeper
from sweeper.errors import UserError
from sweeper.models import FAMILIES, resolve, resolve_all, weights_folder
from sweeper.models.fingerprint import folder_fingerprint
from sweeper.models.neuron_weights import open_rows
from sweeper.models.prefetch import CheckpointFiles
from sweeper.records import Checkpoint, Outlook
from sweeper.score.fidelity import check_fidelity
from sweeper.spec.model import ModelSpec

MAIN = "a" * 40

PROGRAM = """
import dataclasses, json, sys
from sweeper.errors import UserError
from sweeper.models import resolve, weights_folder
from sweeper.spec.model import ModelSpec

answers = []
for fields in json.loads(sys.argv[1]):
    spec = ModelSpec(**fields)
    try:
        checkpoint = resolve("mine", spec, "cpu")
        folder = str(weights_folder(checkpoint, spec))
        answers.append({"checkpoint": dataclasses.asdict(checkpoint), "folder": folder})
    except UserError as error:
        answers.append({"error": str(error)})
print(json.dumps({"answers": answers, "torch": "torch" in sys.modules}))
"""


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


def drawn(folder: Path, seed: int, **changes) -> ModelSpec:
    return ModelSpec(path=str(folder), random_weights=seed, **changes)


def weights(model) -> dict[str, torch.Tensor]:
    return dict(model.model.named_parameters())


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_weights_are_those_of_transformers_own_initialisation(tiny_folder, tiny_model, model_type):
    before = torch.random.get_rng_state()
    found = weights(load_folder("control", tiny_folder(model_type), random_weights=7))
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        config = AutoConfig.from_pretrained(tiny_folder(model_type))
        expected = dict(AutoModelForCausalLM.from_config(config).named_parameters())
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
    trained = weights(tiny_model(model_type))
    assert not any(torch.equal(found[name], trained[name]) for name in found)


def test_another_seed_gives_other_weights_and_the_same_one_the_same(tiny_folder):
    one, again, other = (
        weights(load_folder("control", tiny_folder("gpt2"), random_weights=seed))
        for seed in (1, 1, 2)
    )
    matrices = [name for name, weight in one.items() if weight.dim() == 2]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in matrices)


def test_smaller_formats_round_the_float32_weights(tiny_folder):
    fine = weights(load_folder("control", tiny_folder("gpt_neox"), random_weights=3))
    coarse = load_folder("control", tiny_folder("gpt_neox"), random_weights=3, dtype="bfloat16")
    assert not any(weight.requires_grad for weight in weights(coarse).values())
    for name, weight in weights(coarse).items():
        assert torch.equal(weight, fine[name].bfloat16()), name


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_the_engine_scores_it_as_plain_hugging_face_does(tiny_folder, model_type):
    check_fidelity(load_folder("control", tiny_folder(model_type), random_weights=0))


def test_the_fingerprint_tells_the_seed_and_all_that_is_read(folder):
    trained = resolve("mine", ModelSpec(path=str(folder)), "cpu")
    checkpoint = resolve("mine", drawn(folder, 7), "cpu")
    kind, seed, files = checkpoint.fingerprint.split(":", 2)
    assert (kind, seed, files) == ("random", "7", folder_fingerprint(folder, weights=False))
    assert resolve("mine", drawn(folder, 8), "cpu").fingerprint == f"random:8:{files}"
    assert trained.identity() != checkpoint.identity()
    assert checkpoint.origin == f"random weights, seed 7, in the shape of folder {folder}"
    assert checkpoint.num_parameters == trained.num_parameters

    (folder / "model.safetensors").unlink()  # weights are not read, and need not be there
    assert resolve("mine", drawn(folder, 7), "cpu") == checkpoint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "initializer_range": 0.1}))
    changed = resolve("mine", drawn(folder, 7), "cpu")
    assert changed.fingerprint != checkpoint.fingerprint
    with pytest.raises(UserError, match="where the sweep was planned"):
        weights_folder(checkpoint, drawn(folder, 7))
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b"\n")
    assert resolve("mine", drawn(folder, 7), "cpu").fingerprint != changed.fingerprint


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ("revisions=step*", "revisions is 'step*': allowed beside it is null"),
        ("offload=disk", "offload is 'disk': allowed beside it is none"),
        ("random_weights=-1", "random_weights: -1 is not allowed; allowed is a whole number"),
        ("random_weights=4294967296", "at least 0 and below 4294967296"),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_one_line(job_file, changes, told):
    with pytest.raises(UserError) as caught:
        sweeper.load_job(job_file, ["model.tiny.random_weights=1", f"model.tiny.{changes}"])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_checkpoints_is_no_shape(tiny_folder, tmp_path):
    for step in (0, 1):
        shutil.copytree(tiny_folder("gpt2"), tmp_path / f"step{step}")
    with pytest.raises(UserError, match=r"model\.mine\.path: the folder '.*' has no config\.json"):
        resolve_all("mine", drawn(tmp_path, 0), "cpu")


def test_the_rows_of_its_neurons_are_not_those_of_the_files(folder):
    spec = drawn(folder, 5, dtype="bfloat16")
    checkpoint = resolve("mine", spec, "cpu")
    expected = load_folder("mine", folder, random_weights=5).sites[2].pre_activation.weight
    with open_rows(checkpoint, spec, folder) as rows:
        assert torch.equal(rows(2), expected)


def test_a_worker_reads_no_trained_weights_ahead(folder, tiny_folder, monkeypatch):
    read: list[Path] = []
    monkeypatch.setattr(CheckpointFiles, "_read", lambda _, folder: read.append(folder))
    current = ModelSpec(path=str(tiny_folder("gpt2")))
    for spec, expected in ((drawn(folder, 1), []), (ModelSpec(path=str(folder)), [folder])):
        files = CheckpointFiles(lambda: 1e12)
        files.folder(resolve("first", current, "cpu"), current)
        ahead = resolve("mine", spec, "cpu")
        files.look_ahead(Outlook(next_checkpoint=ahead, next_model=spec.model_dump()))
        files.wait()
        assert read == expected


def test_a_gguf_file_gives_its_shape_and_tokenizer(tiny_gguf, converted_before):
    spec = drawn(tiny_gguf, 2)
    checkpoint = resolve("mine", spec, "cpu")
    trained = resolve("mine", ModelSpec(path=str(tiny_gguf)), "cpu")
    assert checkpoint.fingerprint == f"random:2:{trained.fingerprint}"
    assert weights_folder(checkpoint, spec).parent.parent == converted_before


def ask(home: Path, endpoint: str, *models: dict, offline: bool = False) -> list[dict]:
    """Resolve in a process of its own."""
    return answers(PROGRAM, models, endpoint, home, offline=offline)


def test_no_weights_are_fetched_from_the_hub(tiny_folder, tmp_path):
    files = {file.name: file.read_bytes() for file in tiny_folder("gpt_neox").iterdir()}
    tiny = Repository(branches={"main": MAIN, "step1": MAIN}, commits={MAIN: files})
    trained, control = {"path": "org/tiny"}, {"path": "org/tiny", "random_weights": 4}
    with serve({"org/tiny": tiny}) as hub:
        (online,) = ask(tmp_path, hub.endpoint, {**control, "revision": "step1"})
        (main,) = ask(tmp_path, hub.endpoint, control)
        cached, absent = ask(tmp_path, hub.endpoint, control, trained, offline=True)
    assert not any("safetensors" in request for request in hub.requests)
    kept = {file.name for file in Path(main["folder"]).iterdir()}
    assert kept == {"config.json", "tokenizer.json", "tokenizer_config.json"}
    found = [Checkpoint(**answer["checkpoint"]) for answer in (online, main, cached)]
    assert {checkpoint.fingerprint for checkpoint in found} == {f"random:4:hub:{MAIN}"}
    assert {checkpoint.step for checkpoint in found} == {None}
    assert "the hub cannot be reached" in absent["error"]
    load_folder("control", Path(cached["folder"]), random_weights=4)


JOB = """
name: control
store: STORE
model:
  tiny: {path: FOLDER}
  control: {path: FOLDER, random_weights: 1}
corpus:
  text: {kind: file, path: TEXT}
suite:
  perplexity: {kind: perplexity, corpus: text, length: 32, limit: 2}
condition:
  baseline: {operation: null}
  two: {operation: zero, neurons: {kind: explicit, neurons: {1: [3, 5]}}}
cluster: {executor: in_process}
"""


@pytest.fixture
def job_file(tiny_folder, tmp_path) -> Path:
    text = tmp_path / "text.txt"
    text.write_text("the cat sees the dogs that the old man feeds every morning\n" * 20)
    job = tmp_path / "job.yaml"
    paths = {"STORE": tmp_path / "store", "FOLDER": tiny_folder("llama"), "TEXT": text}
    content = JOB
    for name, path in paths.items():
        content = content.replace(name, str(path))
    job.write_text(content)
    return job


def test_as_a_second_model_of_a_job_it_has_cells_of_its_own(job_file, tiny_folder):
    run = sweeper.run_job(sweeper.load_job(job_file))
    cells = run.table("cells")
    cells = cells[cells["kind"] == "score"]
    assert len(cells) == cells["cell_key"].nunique() == 4
    found = run.estimates()
    found = found[found["condition"] == "two"].set_index("model")
    assert found["baseline"].nunique() == 2
    config = AutoConfig.from_pretrained(tiny_folder("llama"))
    # It knows nothing: close to all tokens being equally probable.
    uniform = torch.tensor(float(config.vocab_size)).log().item()
    assert found.loc["control", "baseline"] == pytest.approx(uniform, rel=0.02)
