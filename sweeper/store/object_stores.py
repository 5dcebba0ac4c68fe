"""Object stores by their address: which options it takes, and how requests are tried again."""

import difflib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote_plus, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from sweeper.errors import UserError, first_line

MAX_ATTEMPTS = 6
"""Times that a request to S3 is made, with growing pauses of up to 20 s between them."""
CONNECT_SECONDS = 5.0
RETRY_SECONDS = 60
"""How long a request to Google's store is tried again."""
_ENDPOINT_SCHEMES = ("https", "http")
_SWITCH = {"true": True, "false": False}


PAUSES = (0.1, 0.3, 1.0, 3.0)
"""Seconds before reading is tried again where Arrow's client does not do that by itself."""
_NOT_REPEATED = "Failed to flush response stream"
P = ParamSpec("P")
T = TypeVar("T")


def asked_again(read: Callable[P, T]) -> Callable[P, T]:
    """Let a function that reads do so again where the client of S3 gives up at once.

    It repeats requests that the server refuses for a passing reason, unless the refusal is longer
    than the bytes that were asked for, which does not fit into the place that it keeps for them.
    """

    @wraps(read)
    def patient(*args: P.args, **kwargs: P.kwargs) -> T:
        for pause in PAUSES:
            try:
                return read(*args, **kwargs)
            except UserError as error:
                if _NOT_REPEATED not in str(error):
                    raise
            time.sleep(pause)
        return read(*args, **kwargs)

    return patient


@dataclass(frozen=True, slots=True)
class _Address:
    shown: str
    """Without options, one of which might be a secret that there is no option for."""
    bucket: str
    root: str
    """Bucket and prefix."""
    options: Mapping[str, str]

    def refuse(self, reason: str) -> UserError:
        return UserError(f"store: {self.shown!r} {reason}")

    def switch(self, name: str) -> bool:
        text = self.options.get(name, "false")
        if text not in _SWITCH:
            raise self.refuse(f"has {name}={text}; allowed are true and false")
        return _SWITCH[text]

    def count(self, name: str, default: int) -> int:
        text = self.options.get(name, str(default))
        if not text.isdecimal() or int(text) == 0:
            raise self.refuse(f"has {name}={text}; allowed is a whole number above 0")
        return int(text)

    def endpoint_scheme(self) -> str:
        text = self.options.get("scheme", "https")
        if text not in _ENDPOINT_SCHEMES:
            raise self.refuse(f"has scheme={text}; allowed are https and http")
        return text


def open_object_store(uri: str) -> tuple[pafs.FileSystem, str]:
    """Find the filesystem of ``s3://bucket/prefix?option=value&...`` or ``gs://...`` and the root.

    Options of S3 are ``endpoint_override``, ``scheme``, ``region``, ``anonymous``,
    ``force_virtual_addressing``, ``tls_ca_file_path`` and ``max_attempts``, of Google's store
    ``endpoint_override``, ``scheme``, ``anonymous``, ``project_id`` and ``retry_limit_seconds``.
    What the address leaves open comes from the usual environment (``AWS_ACCESS_KEY_ID``,
    ``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``GOOGLE_APPLICATION_CREDENTIALS``, ...). Requests that
    fail for a passing reason are made again, with growing pauses, by Arrow's clients.

    Raises:
        UserError: the address has no bucket, credentials, or an option that there is not.
    """
    scheme = uri.partition("://")[0]
    names, open_ = _KINDS[scheme]
    address = _parse(uri, scheme, names)
    try:
        return open_(address), address.root
    except UserError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise address.refuse(f"cannot be opened: {first_line(error)}") from error


def _parse(uri: str, scheme: str, names: Collection[str]) -> _Address:
    parts = urlsplit(uri)
    shown = f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    folders = [part for part in parts.path.split("/") if part]
    root = "/".join((parts.netloc, *folders))
    address = _Address(shown, parts.netloc, root, dict(_pairs(parts.query)))
    if "@" in parts.netloc:
        # The address is kept in the store and shown in reports.
        raise address.refuse("has credentials before it; put them into the environment")
    if not parts.netloc or parts.fragment or {".", ".."} & set(folders):
        raise address.refuse(f"is no address; write {scheme}://bucket/folder")
    if len(address.options) < len(parts.query.split("&")) and parts.query:
        raise address.refuse("must end in ?option=value&option=value, each option once")
    for name in address.options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise address.refuse(
                f"has the option {name!r}; allowed are {', '.join(sorted(names))}{hint}"
            )
    return address


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for part in query.split("&"):
        name, separator, value = part.partition("=")
        if separator:
            yield unquote_plus(name), unquote_plus(value)


def _open_s3(address: _Address) -> pafs.FileSystem:
    attempts = address.count("max_attempts", MAX_ATTEMPTS)
    options: dict[str, Any] = {"scheme": address.endpoint_scheme()}
    if "tls_ca_file_path" in address.options:
        options["tls_ca_file_path"] = address.options["tls_ca_file_path"]
    return pafs.S3FileSystem(
        region=_region(address),
        anonymous=address.switch("anonymous"),
        force_virtual_addressing=address.switch("force_virtual_addressing"),
        connect_timeout=CONNECT_SECONDS,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        # One request for a small object instead of the three of an upload in parts.
        allow_delayed_open=True,
        **{**options, **_endpoint(address)},
    )


def _endpoint(address: _Address) -> dict[str, str]:
    """Another server than Amazon's: by the address, or by the environment."""
    if "endpoint_override" in address.options:
        return {"endpoint_override": address.options["endpoint_override"]}
    url = _first("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    if url is None:
        return {}
    scheme, separator, server = url.rstrip("/").partition("://")
    if not separator or scheme not in _ENDPOINT_SCHEMES:
        raise UserError(
            f"store: AWS_ENDPOINT_URL is {url!r}; allowed are https://server and http://server"
        )
    return {"endpoint_override": server, "scheme": scheme}


def _region(address: _Address) -> str:
    """Where the bucket is; only Amazon can tell, another endpoint rarely cares."""
    known = address.options.get("region") or _first("AWS_REGION", "AWS_DEFAULT_REGION")
    if known:
        return known
    if _endpoint(address):
        return "us-east-1"
    return str(pafs.resolve_s3_region(address.bucket))


def _first(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _open_gs(address: _Address) -> pafs.FileSystem:
    options: dict[str, Any] = {"scheme": address.endpoint_scheme()}
    for name in ("endpoint_override", "project_id"):
        if name in address.options:
            options[name] = address.options[name]
    seconds = address.count("retry_limit_seconds", RETRY_SECONDS)
    return pafs.GcsFileSystem(
        anonymous=address.switch("anonymous"),
        retry_time_limit=timedelta(seconds=seconds),
        **options,
    )


_KINDS: dict[str, tuple[Collection[str], Callable[[_Address], pafs.FileSystem]]] = {
    "s3": (
        frozenset(
            {
                *("endpoint_override", "scheme", "region", "anonymous"),
                *("force_virtual_addressing", "tls_ca_file_path", "max_attempts"),
            }
        ),
        _open_s3,
    ),
    "gs": (
        frozenset(
            {"endpoint_override", "scheme", "anonymous", "project_id", "retry_limit_seconds"}
        ),
        _open_gs,
    ),
}
SCHEMES = tuple(_KINDS)
