from pathlib import Path

import pytest
from tiny_training import run, tiny_job


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of an undisturbed training of twelve steps; do not write in it."""
    return run(tiny_job(tmp_path_factory.mktemp("trained") / "tiny"))[0]
