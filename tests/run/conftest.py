from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper.spec.job import JobSpec

TEXT = """Once upon a time there was a little girl named Lily. She loved to play outside in the
park with her friends. One day she saw a big red ball and wanted to play with it. """


def deep_update(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = deep_update(base[key], value) if both else value
    return merged


def story_job_in(shared: Path, folder: Path) -> Callable[..., JobSpec]:
    """A real sweep over the tiny real model that takes a second or two in one process."""
    text = folder / "story.txt"
    text.write_text(TEXT * 20)
    top = {"kind": "top", "statistic": "wd", "fraction": 0.05}
    plain: dict[str, Any] = {
        "name": "story",
        "store": str(folder / "store"),
        "model": {"stories": {"path": str(shared / "models" / "stories260K")}},
        "corpus": {"text": {"kind": "file", "path": str(text)}},
        "census": {"corpus": "text", "length": 64, "windows": 16},
        "suite": {
            "perplexity": {"kind": "perplexity", "corpus": "text", "length": 64, "limit": 6},
            "grammar": {"kind": "minimal_pairs", "source": {"kind": "grammar"}, "limit": 2},
        },
        "condition": {
            "baseline": {"operation": None},
            "top": {"operation": "negative_clamp", "neurons": top},
            "random": {
                "operation": "negative_clamp",
                "neurons": {"kind": "random", "match": "top"},
            },
        },
        "seeds": 3,
        "statistics": {"resamples": 200},
        "cluster": {"executor": "in_process"},
    }

    def build(**changes: Any) -> JobSpec:
        return JobSpec.model_validate(deep_update(plain, changes))

    return build


@pytest.fixture
def story_job(shared: Path, tmp_path: Path) -> Callable[..., JobSpec]:
    """``story_job_in`` a folder of the test's own."""
    return story_job_in(shared, tmp_path)


@pytest.fixture(scope="session")
def make_story_job(shared: Path) -> Callable[[Path], Callable[..., JobSpec]]:
    """``story_job_in`` any folder."""
    return lambda folder: story_job_in(shared, folder)
