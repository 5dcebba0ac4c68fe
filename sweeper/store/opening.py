"""Opening a folder as a store."""

import json

from sweeper.errors import UserError
from sweeper.layout import Layout
from sweeper.records import SCHEMA_VERSION
from sweeper.store.filesystem import Files


class NoStoreError(UserError):
    """Nothing is wrong with the address, but nobody has made a store there."""


def open_files(uri: str, create: bool = False) -> Files:
    """Open the files of a store; makes the store only if ``create`` is set.

    Raises:
        NoStoreError: no store there, and ``create`` is not set.
        UserError: a store of another schema version, or no access.
    """
    files = Files(uri)
    content = files.read(Layout.version)
    if content is not None:
        _check_version(files, content.to_pybytes())
    elif create:
        # Two processes may do this at once: both write the same text.
        files.write(Layout.version, json.dumps({"schema_version": SCHEMA_VERSION}).encode())
    else:
        raise NoStoreError(
            f"store: there is no store at {files.uri!r} ({Layout.version} is missing); "
            "'sweeper run' makes one"
        )
    return files


def _check_version(files: Files, content: bytes) -> None:
    path = files.layout.full(Layout.version)
    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"store: {path} does not say a schema_version") from error
    if version != SCHEMA_VERSION:
        raise UserError(
            f"store: {files.uri!r} has schema version {version!r}, this program needs "
            f"{SCHEMA_VERSION}; use another store"
        )
