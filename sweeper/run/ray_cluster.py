"""Joining Ray: an embedded one that only this machine can reach, or a running cluster.

Ray is imported inside the functions: ``ray_executor`` sets what it reads when it is imported.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sweeper.errors import UserError
from sweeper.run.metrics import UNIT_SECONDS, Metric, Record
from sweeper.run.ray_token import (
    MODE_VARIABLE,
    PATH_VARIABLE,
    TOKEN_VARIABLE,
    ensure_token,
    find_token,
)

OBJECT_STORE_BYTES = 100 * 2**20
"""Small: results go to the store, never through Ray."""

ANSWER_SECONDS = 10.0
"""How long a cluster's head may take to answer a connection."""


def join(address: str, num_cpus: int) -> None:
    """Start an embedded Ray for this user alone, or join a running cluster.

    Args:
        address: "local", "auto" or ``host:port``.
        num_cpus: cores that an embedded Ray gives out.

    Raises:
        UserError: Ray runs in this process already, or none can be started or joined.
    """
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        raise UserError("cluster: Ray runs in this process already; call ray.shutdown() first")
    _check_answers(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    # Ray puts its own handler in the place of the driver's, which stops cleanly.
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address == "local":
            _start(num_cpus, options)
        else:
            _show_token()
            ray.init(address=address, **options)
    except UserError:
        raise
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        text = " ".join(str(error).split())
        if ":" in address and os.environ.get(MODE_VARIABLE) != "token":
            text += f"; if it asks for a token, set {TOKEN_VARIABLE} or {PATH_VARIABLE}"
        raise UserError(f"cluster.address = {address!r}: {text}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_terminate)


def recorder(metric: Metric) -> Record:
    """A metric of Ray, which the agent of its node shows to Prometheus."""
    from ray.util import metrics

    said = metric.name, metric.description
    record: Record
    if metric.kind == "counter":
        record = metrics.Counter(*said, metric.tags).inc
    elif metric.kind == "gauge":
        record = metrics.Gauge(*said, metric.tags).set
    else:
        record = metrics.Histogram(*said, list(UNIT_SECONDS), metric.tags).observe
    return record


def _start(num_cpus: int, options: dict[str, Any]) -> None:
    import ray

    ensure_token()
    with _loopback_only():
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            num_cpus=num_cpus,
            **options,
        )


def _show_token() -> None:
    """Use a token that the user names; by itself Ray does so only for clusters of this machine."""
    from ray._private.authentication import authentication_token_setup

    if os.environ.get(TOKEN_VARIABLE) or os.environ.get(PATH_VARIABLE):
        find_token()  # a file that cannot be read is the user's to mend
        # Ray announces what was asked for.
        logging.getLogger(authentication_token_setup.__name__).setLevel(logging.ERROR)
        authentication_token_setup.maybe_enable_token_auth_if_token_available(
            warn_if_disabled=False
        )


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let a node that starts meanwhile have the loopback address.

    Ray takes that of a network interface, and listens on all of them, wherever nodes could join; a
    loopback address that it is given is replaced. This switch is for systems where none can.
    """
    from ray._private import ray_constants

    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    here, inherited = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(name)
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[name] = "0"  # for the processes of the node
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = here
        if inherited is None:
            del os.environ[name]
        else:
            os.environ[name] = inherited


def _check_answers(address: str) -> None:
    """A head that does not answer must not keep Ray waiting for minutes."""
    host, separator, port = address.rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(f"cluster.address = {address!r}: no Ray answers there: {error}") from error
