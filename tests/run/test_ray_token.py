import os
import stat

import pytest

from sweeper.errors import UserError
from sweeper.run.ray_token import Token, default_path, ensure_token, find_token


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def rights(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_token_is_nobody_elses(home):
    assert find_token() is None
    earlier = os.umask(0)
    try:
        ensure_token()
    finally:
        os.umask(earlier)
    assert rights(default_path()) == 0o600
    assert rights(home / ".ray") == 0o700
    token = find_token()
    assert len(bytes.fromhex(token.text)) == 32
    ensure_token()
    assert find_token() == token


def test_the_token_that_ray_left_open_is_closed(home):
    default_path().parent.mkdir()
    default_path().write_text("abc\n")
    default_path().chmod(0o644)
    assert find_token() == Token("abc", str(default_path()))
    assert rights(default_path()) == 0o600


def test_a_named_file_is_only_told_of(home, monkeypatch, caplog):
    file = home / "token"
    file.write_text("abc")
    file.chmod(0o640)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert find_token().text == "abc"
    assert rights(file) == 0o640
    assert "chmod 600" in caplog.text
    file.chmod(0o600)
    caplog.clear()
    find_token()
    assert not caplog.text


def test_the_variable_comes_first_and_the_secret_is_not_shown(home, monkeypatch):
    ensure_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", " secret ")
    assert find_token().text == "secret"
    assert "secret" not in repr(find_token())


@pytest.mark.parametrize(("content", "message"), [(None, "there is no file"), ("\n", "is empty")])
def test_a_named_file_without_a_token_is_one_line(home, monkeypatch, content, message):
    file = home / "token"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    with pytest.raises(UserError, match=message):
        find_token()
