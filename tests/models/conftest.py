import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_models import write_gguf

from sweeper.models.conversion import CONVERTER
from sweeper.models.fingerprint import file_sha256

_CONVERT = """
import pathlib, sys
from sweeper.models.conversion import converted
print(converted(pathlib.Path(sys.argv[1])), "torch" in sys.modules)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test shares a cache with the user or another test, or reaches the real hub."""
    folder = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("SWEEPER_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tiny_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Llama as a GGUF file."""
    return write_gguf(tiny_folder("llama"), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@dataclass(frozen=True)
class TwoConversions:
    """What two processes said that converted the same GGUF file at the same time."""

    answers: list[str]
    home: Path


@pytest.fixture(scope="session")
def two_conversions(tiny_gguf, tmp_path_factory: pytest.TempPathFactory) -> TwoConversions:
    cache = tmp_path_factory.mktemp("cache")
    half = (
        cache / "gguf" / f"{file_sha256(tiny_gguf)}-v{CONVERTER}.partial-0"
    )  # as a kill leaves it
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _CONVERT, str(tiny_gguf)],
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "SWEEPER_CACHE": str(cache)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate()[0].strip() for process in both]
    return TwoConversions(answers, cache / "gguf")


@pytest.fixture
def converted_before(two_conversions, own_cache) -> Path:
    """The test's own cache, with the small GGUF file already converted in it."""
    shutil.copytree(two_conversions.home, own_cache / "gguf")
    return own_cache
