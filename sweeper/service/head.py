"""The head of a Ray cluster, asked through the address of its dashboard."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx2
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from sweeper.errors import UserError, lines_of
from sweeper.run.ray_token import PATH_VARIABLE, TOKEN_VARIABLE, Token, find_token

ANSWER_SECONDS = 10.0
"""How long a head may take to answer before it counts as out of reach."""

_ADDRESS = re.compile(r"https?://[^/\s]+/?")

# Their notes repeat what the errors below say, or tell of temporary folders.
for _name in (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
):
    logging.getLogger(_name).setLevel(logging.ERROR)


def connect(address: str) -> Any:
    """A client of Ray Jobs for a head that answers and lets this user in.

    Args:
        address: of the dashboard, ``http://host:8265``.

    Raises:
        UserError: no such address, nothing answers, it is no Ray, or it denies access.
    """
    if not _ADDRESS.fullmatch(address):
        raise UserError(
            f"--address {address!r}: allowed is the address of the head's dashboard, "
            "http://HOST:8265 or https://HOST"
        )
    url, token = address.rstrip("/"), find_token()
    headers = {} if token is None else {"Authorization": f"Bearer {token.text}"}
    _check_answers(url, headers, token)
    with errors_of(url), _only(url):
        return JobSubmissionClient(url, headers=headers)


def _check_answers(url: str, headers: dict[str, str], token: Token | None) -> None:
    """The client itself would wait for ever where packets are swallowed."""
    try:
        answer = httpx2.get(f"{url}/api/version", headers=headers, timeout=ANSWER_SECONDS)
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise UserError(f"--address {url!r}: no Ray answers there: {_gist(error)}") from error
    if answer.status_code in (401, 403):
        raise UserError(_denied(url, token))
    try:
        known = answer.status_code == 200 and "ray_version" in answer.json()
    except ValueError:
        known = False
    if not known:
        raise UserError(
            f"--address {url!r}: something answers there (status {answer.status_code}), but it is "
            "not the dashboard of Ray"
        )


def _denied(url: str, token: Token | None) -> str:
    if token is None:
        return (
            f"--address {url!r}: access denied; the head asks for a token: set {TOKEN_VARIABLE}, "
            f"or {PATH_VARIABLE} to a file that holds it"
        )
    return f"--address {url!r}: access denied; the head does not know the token of {token.origin}"


@contextmanager
def _only(url: str) -> Iterator[None]:
    """Ray would follow RAY_ADDRESS instead of the address that it is given."""
    name = "RAY_API_SERVER_ADDRESS"
    earlier = os.environ.get(name)
    os.environ[name] = url
    try:
        yield
    finally:
        if earlier is None:
            del os.environ[name]
        else:
            os.environ[name] = earlier


@contextmanager
def errors_of(url: str) -> Iterator[None]:
    """Say in one line what a head refuses, or that it has gone."""
    try:
        yield
    except AuthenticationError as error:
        raise UserError(_denied(url, find_token())) from error
    # What requests raises is an OSError; the client itself raises RuntimeErrors.
    except (OSError, RuntimeError, aiohttp.ClientError) as error:
        raise UserError(f"--address {url!r}: {_gist(error)}") from error


def _gist(error: Exception) -> str:
    """The line of an answer that says what is wrong: of a trace the last one, else the first."""
    lines = lines_of(error)
    traced = any("Traceback" in line for line in lines)
    return (lines[-1] if traced else lines[0])[:300]
