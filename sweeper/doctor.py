"""Checks of the machine, for ``sweeper doctor``."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console

from sweeper.errors import UserError
from sweeper.models import cache_folder
from sweeper.models.hub import hub_reachable
from sweeper.store import open_filesystem

Check = tuple[str, bool | None, str]
"""What is checked, whether it is fine (None: worth knowing, not needed), and the finding."""


def check_machine(store: str, out: Console) -> bool:
    """Print one line for each check; False when something needed is missing."""
    fine = True
    for name, good, finding in _checks(store):
        mark = {True: "ok  ", None: "note", False: "FAIL"}[good]
        out.print(f"{mark}  {name}: {finding}", markup=False, soft_wrap=True)
        fine = fine and good is not False
    return fine


def _checks(store: str) -> Iterator[Check]:
    yield "python", sys.version_info >= (3, 11), platform.python_version()
    yield _imports()
    memory = psutil.virtual_memory().available / 1e9
    yield "cores and memory", memory > 2, f"{os.cpu_count()} cores, {memory:.1f} GB free"
    yield _gpus()
    yield _folder("cache", cache_folder())
    yield _store(store)
    reachable = hub_reachable()
    text = "reachable" if reachable else "not reachable; local files and the cache still work"
    yield "model hub", True if reachable else None, text


def _imports() -> Check:
    """Import the heavy packages in a child, so that a crash of one is a finding."""
    names = ("torch", "transformers", "ray")
    code = f"import {', '.join(names)}; print({', '.join(f'{n}.__version__' for n in names)})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found = zip(names, done.stdout.split(), strict=True)
        return "packages", True, ", ".join(f"{name} {number}" for name, number in found)
    return "packages", False, (done.stderr.strip().splitlines() or ["import failed"])[-1]


def _gpus() -> Check:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "GPU", None, "none found; everything runs on CPU"
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    names = "; ".join(done.stdout.strip().splitlines())
    return "GPU", None if done.returncode else True, names or "the driver does not answer"


def _folder(name: str, folder: Path) -> Check:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        probe.write_text("probe")
        probe.unlink()
    except OSError as error:
        return name, False, f"{folder} cannot be written: {error.strerror}"
    free = shutil.disk_usage(folder).free / 1e9
    return name, free > 2, f"{folder}, {free:.0f} GB free"


def _store(store: str) -> Check:
    try:
        filesystem, root = open_filesystem(store)
    except UserError as error:
        return "store", False, str(error)
    if "local" not in filesystem.type_name:
        return "store", None, f"{store} is an object store; a run checks that it can be written"
    existing = next(folder for folder in (Path(root), *Path(root).parents) if folder.exists())
    writable = os.access(existing, os.W_OK)
    return "store", writable, f"{root} can{'' if writable else 'not'} be written"
