import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from object_stores import GcsServer, S3Server, gcs_server, s3_server
from tiny_models import build_tiny, load_folder

if TYPE_CHECKING:
    from sweeper.models.loading import LoadedModel

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before torch is imported: tiny models gain nothing from threads, which wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")


CLUSTERS = ("tests/faults/", "tests/service/", "tests/run/test_ray_", "tests/run/test_kills")
"""Tests that start clusters of their own and watch their processes: not two of them at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them, so that ``make test`` runs them apart from what two processes share out.

    Faults of whole clusters take minutes: they are part of ``make slow``.
    """
    for item in items:
        if any(part in item.path.as_posix() for part in CLUSTERS):
            item.add_marker("cluster")
        if "tests/faults/" in item.path.as_posix():
            item.add_marker("slow")


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Function from arguments of ``sweeper`` to (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        from sweeper import cli

        monkeypatch.setattr(sys, "argv", ["sweeper", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the public data and the tiny real model; it lies beside the project."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder 'shared' with evaluation data does not lie beside the project")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function from a model_type to the folder of a small random model; do not write in it."""
    built: dict[str, Path] = {}

    def folder_of(model_type: str) -> Path:
        if model_type not in built:
            built[model_type] = build_tiny(model_type, tmp_path_factory.mktemp(model_type))
        return built[model_type]

    return folder_of


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Callable[[str], Path]) -> Callable[[str], "LoadedModel"]:
    """Function from a model_type to a small random model, loaded."""
    loaded: dict[str, LoadedModel] = {}

    def model_of(model_type: str) -> "LoadedModel":
        if model_type not in loaded:
            loaded[model_type] = load_folder(model_type, tiny_folder(model_type))
        return loaded[model_type]

    return model_of


@pytest.fixture(scope="session")
def stories(shared: Path) -> "LoadedModel":
    """A real trained model of 260K parameters."""
    return load_folder("stories", shared / "models" / "stories260K")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server on loopback, with credentials for it in the environment."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def gs() -> Iterator[GcsServer]:
    """A server of Google's protocol on loopback."""
    with gcs_server() as server:
        yield server
