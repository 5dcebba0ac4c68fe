import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "sweeper"

ROOMS = {
    "errors": set(),
    "atomic": set(),
    "records": set(),
    "layout": {"records", "errors"},
    "spec": {"records", "errors"},
    "plan": {"spec", "records", "errors"},
    "models": {"spec", "records", "errors", "atomic"},
    "clamp": {"models", "records", "errors"},
    "score": {"models", "clamp", "spec", "records", "errors"},
    "neurons": {"models", "clamp", "score", "records", "errors"},
    "train": {"models", "score", "spec", "records", "errors", "atomic"},
    "store": {"records", "layout", "errors", "atomic"},
    "run": {
        *("plan", "spec", "models", "clamp", "score", "neurons", "store"),
        *("records", "errors", "atomic"),
    },
    "aggregate": {"store", "records", "errors"},
    "ingest": {"store", "layout", "spec", "records", "errors"},
    "report": {"aggregate", "store", "records", "errors", "atomic"},
    "api": {"spec", "run", "store", "aggregate", "ingest", "report", "records", "errors"},
    "service": {"spec", "run", "store", "report", "records", "errors"},
}
"""Room -> the rooms that it may import; the command line may import all."""

FRONT = {"api", "cli", "commands", "import_commands", "doctor", "__init__"}
TORCH = {"torch", "transformers", "accelerate"}
TORCH_ROOMS = {"models", "clamp", "neurons", "score", "train"}
TORCH_FILES = {"run/worker.py", "run/calibrate.py"}
RAY_FILES = {"run/ray_executor.py", "run/ray_cluster.py", "run/ray_growth.py", "run/ray_nodes.py"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[str]:
    """Full names of everything that a file imports, at any depth."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_room_imports_a_later_one(path):
    room = room_of(path)
    if room in FRONT - {"api"}:
        return
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("sweeper.")}
    assert ours <= ROOMS[room] | {room}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_torch_and_ray_stay_in_their_rooms(path):
    tops = {name.split(".")[0] for name in imported(path)}
    relative = path.relative_to(PACKAGE).as_posix()
    if room_of(path) not in TORCH_ROOMS and relative not in TORCH_FILES:
        assert not tops & TORCH
    if relative not in RAY_FILES and room_of(path) != "service":
        assert "ray" not in tops


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            assert node.end_lineno - node.lineno < 60, node.name


@pytest.mark.parametrize(
    "code",
    [
        "import sweeper",
        "import sweeper.cli, sweeper.commands",
        "import sweeper.plan.forecast, sweeper.aggregate, sweeper.report",
        "import sweeper.run.driver, sweeper.run.sweep, sweeper.run.execute",
    ],
)
def test_starting_needs_neither_torch_nor_ray(code):
    check = "import sys; print([n for n in ('torch', 'transformers', 'ray') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {check}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
