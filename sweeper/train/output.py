"""The folder of a training: its checkpoints, what they were trained on, and where it stands."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sweeper.atomic import write_atomically
from sweeper.errors import UserError
from sweeper.spec.wording import dotted, shown


@dataclass(frozen=True, slots=True)
class Output:
    """Names every path of a training's folder."""

    root: Path

    def checkpoint(self, step: int) -> Path:
        """Folder of a checkpoint, in Hugging Face format."""
        return self.root / f"step{step}"

    @property
    def state(self) -> Path:
        """What a stopped training goes on from; gone when the training is complete."""
        return self.root / "resume.safetensors"

    @property
    def facts(self) -> Path:
        """The job, the text's fingerprint, and the versions of libraries."""
        return self.root / "training.json"

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other trainings out of the folder, and clean up after those that were killed.

        Raises:
            UserError: another process trains into it, or it cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / ".lock", timeout=0):
                for left in self.root.glob(".step*.tmp"):
                    shutil.rmtree(left)
                yield
        except Timeout:
            raise UserError(f"output: another training writes to {str(self.root)!r}") from None
        except OSError as error:
            raise UserError(
                f"output: {str(self.root)!r} cannot be written: {error.strerror or error}"
            ) from error

    def begin(self, facts: Mapping[str, Any]) -> list[str]:
        """Note what is trained here, or compare it with what the folder was begun with.

        Args:
            facts: plain data with the keys ``job``, ``text`` and ``versions``.

        Returns:
            What differs without harm to the checkpoints, in one line each.

        Raises:
            UserError: the folder holds something else, or a training of another job.
        """
        if not self.facts.exists():
            others = [path.name for path in self.root.iterdir() if not path.name.startswith(".")]
            if others:
                raise UserError(
                    f"output: {str(self.root)!r} is no training's folder, but holds {others[0]!r}"
                )
            write_atomically(self.facts, json.dumps(facts, indent=1).encode())
            return []
        known = json.loads(self.facts.read_text())
        self._require_equal(known["job"], facts["job"], ())
        if known["text"] != facts["text"]:
            raise UserError(
                f"text: not the text that the training in {str(self.root)!r} has begun with "
                "(another file, or another Python); choose another output, or delete that one"
            )
        return [
            f"{name} is {facts['versions'][name]}, the training has begun with {version}: "
            "what follows may differ from an unbroken training in its last digits"
            for name, version in known["versions"].items()
            if facts["versions"][name] != version
        ]

    def _require_equal(self, known: Any, given: Any, path: tuple[str, ...]) -> None:
        if isinstance(known, Mapping) and isinstance(given, Mapping):
            for key in dict.fromkeys((*given, *known)):
                self._require_equal(known.get(key), given.get(key), (*path, key))
        elif known != given:
            raise UserError(
                f"{dotted(path)}: {shown(given)}, but the training in {str(self.root)!r} has begun "
                f"with {shown(known)}; choose another output, or delete that one"
            )
