from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SWEEPER_CACHE", str(folder))
    return folder


@pytest.fixture
def spacy_rules(tmp_path: Path) -> Path:
    """Folder of a pipeline of spaCy that has rules for a few words and no trained part."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("attribute_ruler")
    for word, pos in {"the": "DET", "cat": "NOUN", "ca": "AUX", "n't": "PART"}.items():
        ruler.add([[{"LOWER": word}]], {"POS": pos})
    ruler.add([[{"IS_PUNCT": True}]], {"POS": "PUNCT"})
    pipeline.to_disk(tmp_path / "rules")
    return tmp_path / "rules"
