"""Switching an entry to another ``kind`` leaves behind what belongs to the old kind."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from sweeper.spec.schema import fields_of, models_of, value_of, variant


def drop_stale(data: Any, said: Any, annotation: Any) -> None:
    """Delete from ``data`` what the kinds named in ``said`` leave without meaning.

    Dropped are keys of other kinds that the new kind lacks, and keys that the new kind requires
    and the old one had, since a value such as ``path`` means another thing there. What ``said``
    names itself stays, so that validation can complain about it.

    Args:
        data: composed part of a job, changed in place.
        said: what its author or the command line says about the same part.
        annotation: what the models allow for this part.
    """
    if not isinstance(data, dict) or not isinstance(said, Mapping):
        return
    old = _model(annotation, data)
    model = _model(annotation, said if "kind" in said else data)
    if model is not None and "kind" in said:
        for key in _stale(old, model, annotation) - said.keys():
            data.pop(key, None)
    if model is None:
        for key in _of_other_models(annotation, said):
            data.pop(key, None)
    for key in said.keys() & data.keys():
        below = fields_of(model).get(key) if model else value_of(annotation)
        drop_stale(data[key], said[key], below)


def _model(annotation: Any, data: Mapping[Any, Any]) -> type[BaseModel] | None:
    models = models_of(annotation)
    return models[0] if len(models) == 1 else variant(annotation, data.get("kind"))


def _of_other_models(annotation: Any, said: Mapping[Any, Any]) -> set[str]:
    """Keys of models without a kind that cannot stand beside what is said."""
    keys = [set(fields_of(model)) for model in models_of(annotation)]
    fitting = [allowed for allowed in keys if said.keys() <= allowed]
    return set[str]().union(*keys) - fitting[0] if len(fitting) == 1 else set()


def _stale(old: type[BaseModel] | None, new: type[BaseModel], annotation: Any) -> set[str]:
    everything = {key for model in models_of(annotation) for key in fields_of(model)}
    foreign = everything - fields_of(new).keys()
    if old is None or old is new:
        return foreign
    return foreign | {key for key, field in new.model_fields.items() if field.is_required()}
