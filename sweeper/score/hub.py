"""Datasets on the Hugging Face hub, with errors that say what to do.

The ``datasets`` package is imported inside the functions: it takes seconds, and only jobs that
name a hub dataset need it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from sweeper.errors import UserError
from sweeper.spec.wording import hint, listed, one_line

if TYPE_CHECKING:
    from datasets import Dataset, DatasetInfo

TIMEOUT_S = 5.0


@cache
def require_reachable(path: str, revision: str, key: str) -> None:
    """Ask the hub for the dataset, once and with a short timeout.

    The ``datasets`` package itself would retry for half a minute. In offline mode nothing is
    asked, and the cache answers. A dataset that was reached is not asked for again: BLiMP is
    loaded in 67 configurations.

    Raises:
        UserError: no such dataset or revision, or no answer from the hub.
    """
    from huggingface_hub import HfApi, constants, errors

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(path, revision=revision, timeout=TIMEOUT_S)
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{key}.revision: dataset {path!r} has no {revision!r}") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"{key}.path: the hub has no dataset {path!r} that you may read; "
            "for a local file set kind: file"
        ) from error
    except Exception as error:  # which HTTP library raises depends on the version of the hub's
        raise UserError(_unreachable(path, key, error)) from error


def config_names(path: str, revision: str, key: str) -> list[str]:
    """Names of the dataset's configurations.

    Raises:
        UserError: the dataset cannot be had.
    """
    from datasets import get_dataset_config_names
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return _cached_config_names(path, revision, key)
    require_reachable(path, revision, key)
    with _plain_errors(path, key):
        return [str(name) for name in get_dataset_config_names(path, revision=revision)]


def _cached_config_names(path: str, revision: str, key: str) -> list[str]:
    """Names from the cached dataset card.

    Offline, ``get_dataset_config_names`` says "default" whatever there is, and the cached data may
    be a part of the configurations only.
    """
    from huggingface_hub import DatasetCard, errors, hf_hub_download

    try:
        file = hf_hub_download(path, "README.md", repo_type="dataset", revision=revision)
    except errors.LocalEntryNotFoundError as error:
        raise UserError(_unreachable(path, key, error)) from error
    data = DatasetCard.load(file).data
    found = data.get("configs") or data.get("dataset_info") or []
    names = [entry.get("config_name") for entry in (found if isinstance(found, list) else [found])]
    if not names or None in names:
        raise UserError(f"{key}.configs: the cache of {path!r} does not tell them; name them")
    return names


def describe(path: str, config: str | None, revision: str, key: str) -> "DatasetInfo":
    """What the hub says about the dataset, without its data; columns and splits may be unknown.

    Raises:
        UserError: the dataset cannot be had, or the configuration does not exist.
    """
    from datasets import load_dataset_builder

    require_reachable(path, revision, key)
    with _plain_errors(path, key):
        return load_dataset_builder(path, config, revision=revision).info


def load(path: str, config: str | None, split: str, revision: str, key: str) -> "Dataset":
    """Download (or take from the cache) one split.

    Raises:
        UserError: the dataset cannot be had, or configuration or split do not exist.
    """
    from datasets import load_dataset

    require_reachable(path, revision, key)
    with _plain_errors(path, key):
        return load_dataset(path, config, split=split, revision=revision)


def require_split(info: "DatasetInfo", split: str, key: str) -> None:
    """Check the split where the dataset's description lists its splits.

    Args:
        info: what ``describe`` returned.
        split: name, or a slice of one such as ``train[:10%]``.
        key: the job's key of the dataset.

    Raises:
        UserError: no such split.
    """
    known = list(info.splits or {})
    names = [part.partition("[")[0].strip() for part in split.split("+")]
    for name in names:
        if known and name not in (*known, "all"):
            raise UserError(
                f"{key}.split: the dataset has no split {name!r}; {listed(known)}"
                f"{hint(name, known)}"
            )


@contextmanager
def _plain_errors(path: str, key: str) -> Iterator[None]:
    """Errors of the ``datasets`` package as one line for the user."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except ConnectionError as error:
        raise UserError(_unreachable(path, key, error)) from error
    except (DatasetsError, ValueError, FileNotFoundError) as error:
        raise UserError(f"{key}: dataset {path!r}: {one_line(str(error))[:300]}") from error


def _unreachable(path: str, key: str, error: Exception) -> str:
    return (
        f"{key}.path: the hub cannot be reached for dataset {path!r} "
        f"({type(error).__name__}: {one_line(str(error))[:120]}); for a local copy set kind: file "
        "and path: FILE, for a copy in the cache the environment variable HF_HUB_OFFLINE=1"
    )
