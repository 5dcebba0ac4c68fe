"""Sweeps to disturb: jobs with many small units, and their drivers as processes."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import psutil
import yaml

from sweeper.spec.job import JobSpec

PATIENCE = 600.0
"""Seconds after which something hangs; nothing waits for the clock otherwise."""

MOST_SEEDS = 28
"""Seeds of the reference: 2 x (2 + 28) scored cells."""

PAIRS = 12
"""Of each of the grammar's 30 paradigms."""

TEXT = """Once upon a time there was a little girl named Lily. She loved to play outside in the
park with her friends. One day she saw a big red ball and wanted to play with it. """

INJECTED = Path(__file__).with_name("injected")


def disturbed_job(shared: Path, folder: Path, store: str, **changes: Any) -> JobSpec:
    """A sweep over the tiny real model in which every cell is a unit, however fast the machine.

    Args:
        shared: folder with the model.
        folder: where the text goes.
        store: address of the store.
        changes: parts of the job to replace; ``cluster`` is merged.
    """
    text = folder / "story.txt"
    text.write_text(TEXT * 20)
    clamp, top = "negative_clamp", {"kind": "top", "statistic": "wd", "fraction": 0.05}
    matched = {"kind": "random", "match": "top"}
    plain: dict[str, Any] = {
        "name": "story",
        "store": store,
        "model": {"stories": {"path": str(shared / "models" / "stories260K")}},
        "corpus": {"text": {"kind": "file", "path": str(text)}},
        # In as many parts wherever it runs: merging rounds.
        "census": {"corpus": "text", "length": 64, "windows": 16, "parts": 2},
        "suite": {
            "perplexity": {"kind": "perplexity", "corpus": "text", "length": 64, "limit": 6},
            "grammar": {"kind": "minimal_pairs", "source": {"kind": "grammar"}, "limit": PAIRS},
        },
        "condition": {
            "baseline": {"operation": None},
            "top": {"operation": clamp, "neurons": top},
            "random": {"operation": clamp, "neurons": matched},
        },
        "seeds": 3,
        "statistics": {"resamples": 200},
    }
    cluster = {"executor": "in_process", "unit_seconds": 1e-3, "workers": "auto"}
    cluster |= changes.pop("cluster", {})
    return JobSpec.model_validate(plain | changes | {"cluster": cluster})


def on_ray(address: str = "local", workers: int = 2, **changes: Any) -> dict[str, Any]:
    """The part ``cluster`` of a job for workers of Ray."""
    return {"executor": "ray", "address": address, "workers": workers, **changes}


class Driver:
    """``sweeper run`` as a process in a group of its own, and what it says."""

    started: ClassVar[list["Driver"]] = []
    """All of this test."""

    def __init__(
        self,
        job: JobSpec,
        folder: Path,
        env: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        """Start it.

        Args:
            job: the job.
            folder: where the job file goes.
            env: more of the environment.
            before: called in the new process, before the program.
            wrapper: a command that takes the program's command as its last arguments.
        """
        self.job = job
        file = folder / f"{job.name}.yaml"
        plain = json.loads(job.model_dump_json(), object_pairs_hook=_with_numbers)
        file.write_text(yaml.safe_dump(plain))
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "sweeper.cli", "run", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
            preexec_fn=before,
        )
        self.started.append(self)
        self._lines: list[str] = []
        # Read all along, so that it never waits for a reader.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self._lines.append(line)

    @property
    def output(self) -> str:
        """What it has said so far, in one line."""
        return " ".join("".join(list(self._lines)).split())

    def wait(self) -> int:
        """Its exit code."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)
        # Its workers hold the other end of the pipe for a moment longer.
        self._reader.join(PATIENCE)

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait for a condition while the driver lives; what the condition gives."""
        return until(holds, self.alive)

    def alive(self) -> None:
        """Raises where it has ended."""
        assert self.process.poll() is None, self.output

    def has_said(self, text: str) -> None:
        """Wait for a piece of text."""
        self.until(lambda: text in self.output)

    def committed(self, count: int) -> None:
        """Wait until so many attempts of its store are committed."""
        self.until(lambda: commits(self.job) >= count)

    def workers(self) -> list[psutil.Process]:
        """Processes of the workers of an embedded Ray."""
        return workers_below(self.process.pid)


def _with_numbers(pairs: list[tuple[str, Any]]) -> dict[str | int, Any]:
    """A mapping of JSON whose keys may be layers."""
    return {int(key) if key.isdigit() else key: value for key, value in pairs}


def until(holds: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
    """Wait for a condition; what it gives."""
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        meanwhile()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def commits(job: JobSpec) -> int:
    """Number of committed attempts in a local store."""
    folder = Path(job.store) / "commits"
    return len(list(folder.glob("2*.json"))) if folder.is_dir() else 0


def workers_below(pid: int) -> list[psutil.Process]:
    """Processes of workers of Ray below a process."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if child.cmdline() and child.cmdline()[0].startswith("ray::SweepWorker"):
                found.append(child)
        except psutil.Error:
            continue
    return found


def injecting(fault: str, condition: str, once: Path | None = None, **options: Any) -> dict:
    """Environment of a driver whose workers meet a fault; see ``injected/sitecustomize.py``.

    Args:
        fault: its name.
        condition: the fault comes with units of this condition.
        once: a file that is made when the fault comes, after which there is no other; None where
            it comes every time.
        options: of the fault.
    """
    told = {"fault": fault, "condition": condition, "once": once and str(once), **options}
    path = os.pathsep.join(filter(None, [str(INJECTED), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "SWEEPER_INJECTED_FAULT": json.dumps(told)}
