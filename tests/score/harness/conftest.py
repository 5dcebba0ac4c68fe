from collections.abc import Callable

import pytest
from harness_tasks import write_tasks

from sweeper.spec.task import LmEvalSpec


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LmEvalSpec]:
    """Function from the name of a local task to its specification."""
    return write_tasks(tmp_path_factory.mktemp("tasks"))
