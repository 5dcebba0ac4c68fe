"""Models of spaCy: their own words and their own universal tags."""

import hashlib
import json
import os
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sweeper.errors import UserError
from sweeper.models.fingerprint import file_sha256
from sweeper.score.pos.tags import UPOS, Words, make_words

RULES = 1
"""Part of the tagger's identity: a change of what is made of the model's tags raises it."""

_UNUSED = ["ner", "lemmatizer", "entity_linker"]
"""The parser stays: a model's rules for tags may look at dependencies."""


def is_installed(model: str) -> bool:
    """Whether spaCy and the model are here; imports neither."""
    return _version("spacy") is not None and (
        (Path(model) / "meta.json").is_file() if os.sep in model else _version(model) is not None
    )


def identity(model: str) -> dict[str, str]:
    """What the tags depend on besides the text.

    Raises:
        UserError: spaCy or the model is not installed.
    """
    if not is_installed(model):
        raise UserError(_missing(model))
    if os.sep not in model:
        known = {"model": model, "model_version": str(_version(model))}
    else:
        known = {"model": _name(Path(model)), "model_version": _folder_hash(Path(model))}
    return {"tagger": "spaCy", "version": version("spacy"), **known, "rules": str(RULES)}


def tag(text: str, model: str) -> Words:
    """Find a text's words and their parts of speech.

    Raises:
        UserError: the model has no parts of speech.
    """
    document = _load(model)(text)
    if document and not document.has_annotation("POS"):
        raise UserError(f"tagger.model: spaCy's model {model!r} gives no parts of speech")
    seen = [word for word in document if not word.is_space]
    places = [(word.idx, word.idx + len(word.text)) for word in seen]
    return make_words(places, [word.pos_ if word.pos_ in UPOS else "X" for word in seen])


@lru_cache(maxsize=1)
def _load(model: str) -> Any:
    import spacy  # here, since it takes seconds

    return spacy.load(model, exclude=_UNUSED)


def _missing(model: str) -> str:
    if _version("spacy") is None:
        return (
            "tagger.kind: spaCy is not installed; install the extra `pos` of sweeper, or choose "
            "kind auto or hanta"
        )
    if os.sep in model:
        return f"tagger.model: {model!r} is no folder of a spaCy model; it needs a meta.json"
    return (
        f"tagger.model: spaCy's model {model!r} is not installed; install it "
        f"(python -m spacy download {model}), give the folder of a model, or choose kind hanta"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _name(folder: Path) -> str:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        return f"{meta['lang']}_{meta['name']} {meta['version']}"
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"tagger.model: {str(folder)!r} is no folder of a spaCy model; its meta.json tells no "
            "lang, name and version"
        ) from error


def _folder_hash(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    listing = [(file.relative_to(folder).as_posix(), file_sha256(file)) for file in files]
    return "sha256:" + hashlib.sha256(json.dumps(listing).encode()).hexdigest()
