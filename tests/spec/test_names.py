from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sweeper.spec.base import EntryName, Name

NAME = TypeAdapter(Name)
ENTRY = TypeAdapter(EntryName)
NEAR_NAMES = st.text(st.sampled_from("aZ0_-./\\: \n\0~${}%é"), max_size=12)


def accepted(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


@given(st.text(max_size=120) | NEAR_NAMES)
@example("..")
@example("a..b")
@example("a\n")
@example("a.")
@example("C:")
@example(".hidden")
def test_a_name_is_one_part_of_a_path_and_stays_in_its_folder(text):
    if not accepted(NAME, text):
        return
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind("store") / text
        assert path.parent == kind("store")
        assert path.name == text
    assert ".." not in text
    assert not text.startswith((".", "-", "_", "~"))
    assert text.isascii()
    assert text.isprintable()


@given(NEAR_NAMES)
def test_an_entry_name_is_a_name_without_dots(text):
    assert accepted(ENTRY, text) == (accepted(NAME, text) and "." not in text)


@pytest.mark.parametrize("text", ["quickstart", "v1.2", "pythia-1_4b", "0", "a" * 100])
def test_usual_names_are_accepted(text):
    assert accepted(NAME, text)


@pytest.mark.parametrize("text", ["", "a" * 101, "..", "a/b", "a b", "a\n", ".a", "-a", "a."])
def test_other_names_are_rejected(text):
    assert not accepted(NAME, text)
