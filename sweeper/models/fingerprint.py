"""What identifies local weights: a hash over the files that the numbers depend on."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from sweeper.atomic import write_atomically
from sweeper.errors import UserError
from sweeper.models.cache import cache_folder

CONFIG = "config.json"
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
)
SAFETENSORS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
BIN = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
CODE = ("*.py",)

_SMALL = 1 << 20
"""Files below this many bytes are hashed each time: quicker than to look their hash up."""


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads weights from: safetensors before pickled ones."""
    return _matching(folder, SAFETENSORS) or _matching(folder, BIN)


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a tokenizer."""
    return _matching(folder, TOKENIZER)


def folder_fingerprint(folder: Path, *, weights: bool = True) -> str:
    """``sha256:<hash>`` over names and contents of configuration, tokenizer, code and weights.

    The folder's own name and place, and any other file in it, do not matter.

    Args:
        folder: in Hugging Face format.
        weights: whether the weights count; without them there need be none.

    Raises:
        UserError: no folder, or something of this is not in it.
    """
    if not folder.is_dir():
        raise UserError(f"path: there is no folder {str(folder)!r}")
    if not (folder / CONFIG).is_file():
        raise UserError(f"path: the folder {str(folder)!r} has no {CONFIG}")
    kinds = {"tokenizer.json": tokenizer_files(folder)}
    if weights:
        kinds[" or ".join([SAFETENSORS[0], BIN[0]])] = weight_files(folder)
    for needed, found in kinds.items():
        if not found:
            raise UserError(f"path: the folder {str(folder)!r} has no {needed}")
    files = {folder / CONFIG, *_matching(folder, CODE)}.union(*kinds.values())
    listing = [(file.name, file_sha256(file)) for file in sorted(files)]
    return f"sha256:{hashlib.sha256(json.dumps(listing).encode()).hexdigest()}"


def file_sha256(path: Path) -> str:
    """Hash of a file's content; large files are read again only after they have changed."""
    before = _state(path)
    if before["size"] < _SMALL:
        return _read_sha256(path)
    note = cache_folder() / "hashes" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()}"
    known = _read_note(note)
    if known is not None and known["state"] == before:
        return str(known["sha256"])
    digest = _read_sha256(path)
    if _state(path) == before:
        write_atomically(note, json.dumps({"state": before, "sha256": digest}).encode())
    return digest


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}
    return sorted(found)


def _state(path: Path) -> dict[str, int]:
    """What changes when the content does; ctime also where a tool puts the old mtime back."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns}


def _read_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_note(note: Path) -> dict[str, object] | None:
    try:
        content: dict[str, object] = json.loads(note.read_text())
    except FileNotFoundError:
        return None
    return content
