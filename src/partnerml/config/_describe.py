"""Every key of the configuration with its type, default and meaning: what the documentation shows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from partnerml.config._base import Model
from partnerml.config._models import Config


@dataclasses.dataclass(frozen=True)
class KeyInfo:
    """One key of the configuration, as the documentation shows it."""

    key: str
    type: str
    default: str
    meaning: str


def describe() -> tuple[KeyInfo, ...]:
    """Return every key with its type, default and meaning, in the order of the file."""
    return tuple(_describe(Config, ""))


def _describe(model: type[Model], prefix: str) -> Iterator[KeyInfo]:
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        inner = _models_in(field.annotation)
        default = "" if inner and not field.is_required() else _default_text(field)
        yield KeyInfo(key, _type_text(field.annotation), default, field.description or "")
        repeated = typing.get_origin(field.annotation) is not None and "Mapping" in str(field.annotation)
        for child in inner:
            yield from _describe(child, f"{key}.NAME." if repeated else f"{key}.")


def _models_in(annotation: Any) -> list[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return [annotation]
    return [model for inner in typing.get_args(annotation) for model in _models_in(inner)]


def _default_text(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return {None: "null"}.get(value, str(value)) if not isinstance(value, Mapping) else "{}"


def _type_text(annotation: Any) -> str:
    if _models_in(annotation):
        return "mapping"
    if annotation is type(None):
        return "null"
    arguments = [item for item in typing.get_args(annotation) if item is not Ellipsis and not isinstance(item, str)]
    origin = typing.get_origin(annotation)
    if origin is tuple:
        return "list"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping"
    if origin is Annotated:
        return _type_text(arguments[0])
    if arguments:
        return " or ".join(dict.fromkeys(_type_text(item) for item in arguments))
    names = {str: "text", int: "integer", float: "number", bool: "true/false", dt.timedelta: "duration"}
    return names.get(annotation, str(getattr(annotation, "__name__", annotation)))
