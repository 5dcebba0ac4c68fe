import hashlib
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from sweeper.spec import TrainingJob
from sweeper.train import train

STEPS = [0, 1, 2, 5, 12]
TINY: dict[str, Any] = {
    "kind": "training",
    "text": {"corpus": {"kind": "topics", "limit": 2}, "sentences": 20},
    "architecture": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 32,
        "vocab_size": 400,
    },
    "optimiser": {"learning_rate": 0.01, "warmup": 3},
    "steps": 12,
    "checkpoints": 5,
    "resume_every": 4,
    "batch": 8,
    "threads": 1,
}


def tiny_job(output: Path, **changes: Any) -> TrainingJob:
    """A training of twelve steps."""
    return TrainingJob.model_validate({**TINY, "output": str(output), **changes})


def run(job: TrainingJob) -> tuple[Path, str]:
    """Train; the folder, and what was said."""
    console = Console(file=StringIO(), width=200)
    return train(job, console), console.file.getvalue()


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file of every checkpoint."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("step*/*"))
    }
