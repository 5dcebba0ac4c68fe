import os

import pytest

from sweeper.atomic import write_folder_atomically


def test_a_folder_is_made_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "above" / "model"

    def broken(aside):
        (aside / "first").write_text("a")
        assert not folder.exists()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_folder_atomically(folder, broken)
    assert os.listdir(tmp_path / "above") == []
    write_folder_atomically(folder, lambda aside: (aside / "first").write_text("a"))
    assert (folder / "first").read_text() == "a"
    assert os.listdir(tmp_path / "above") == ["model"]


def test_a_folder_takes_the_place_of_another(tmp_path):
    folder = tmp_path / "model"
    for text in ("old", "new"):
        write_folder_atomically(folder, lambda aside, text=text: (aside / text).write_text(text))
    assert os.listdir(folder) == ["new"]
    assert os.listdir(tmp_path) == ["model"]
    with pytest.raises(ZeroDivisionError):
        write_folder_atomically(folder, lambda aside: 1 / 0)
    assert os.listdir(folder) == ["new"]
    assert os.listdir(tmp_path) == ["model"]
