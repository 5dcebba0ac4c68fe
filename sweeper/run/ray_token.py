"""The token that the processes of a Ray cluster ask each other for: found, made, kept private."""

import logging
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from sweeper.errors import UserError

MODE_VARIABLE = "RAY_AUTH_MODE"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"

_NUM_BYTES = 32

_log = logging.getLogger("sweeper")


@dataclass(frozen=True, slots=True)
class Token:
    """A token and where it was found."""

    text: str
    origin: str

    def __repr__(self) -> str:
        """Without the secret, for logs and tracebacks."""
        return f"Token(origin={self.origin!r})"


def default_path() -> Path:
    """Where Ray looks for a token, and leaves a new one."""
    return Path.home() / ".ray" / "auth_token"


def find_token() -> Token | None:
    """This user's token, in Ray's own order: the variable, the named file, the default file.

    Raises:
        UserError: the named file cannot be read or holds nothing.
    """
    text = os.environ.get(TOKEN_VARIABLE, "").strip()
    if text:
        return Token(text, TOKEN_VARIABLE)
    named = os.environ.get(PATH_VARIABLE)
    path = Path(named).expanduser() if named else default_path()
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        if not named:
            return None
        raise UserError(f"{PATH_VARIABLE}: there is no file {str(path)!r}") from None
    except OSError as error:
        raise UserError(f"token file {path}: cannot be read: {error.strerror}") from error
    if not text:
        raise UserError(f"token file {path}: is empty; allowed is one line with the token")
    _keep_private(path)
    return Token(text, str(path))


def ensure_token() -> None:
    """Make a token for a Ray that is about to start here, unless there is one.

    Ray would make one too, readable by everybody on the machine.

    Raises:
        UserError: the token's file cannot be written, or the one that is named not be read.
    """
    if find_token() is not None:
        return
    path = default_path()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return  # another process was quicker
    except OSError as error:
        raise UserError(f"token file {path}: cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "w") as stream:
        stream.write(secrets.token_hex(_NUM_BYTES))


def _keep_private(path: Path) -> None:
    """Take the rights of others from the default file; only tell of another one."""
    state = path.stat()
    if not stat.S_IMODE(state.st_mode) & 0o077 or state.st_uid != os.getuid():
        return  # a secret that an orchestrator mounts is its own to protect
    if path == default_path():
        path.chmod(0o600)
    else:
        _log.warning("token file %s: others can read it; mend that with chmod 600", path)
