"""What the sections of a configuration are made of: strict, frozen values and the types of their keys."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainSerializer
from pydantic_core import PydanticCustomError

from partnerml.config._reading import nearest

_DURATION = re.compile(r"(\d+)\s*([wdhm])")
_UNITS = {
    "w": dt.timedelta(weeks=1),
    "d": dt.timedelta(days=1),
    "h": dt.timedelta(hours=1),
    "m": dt.timedelta(minutes=1),
}
_LONGEST = dt.timedelta(days=3660)  # ten years: what is longer is a slip of the hand, and what it is added to overflows


def parse_duration(value: object) -> dt.timedelta:
    """Read a duration such as ``2d``, ``12h``, ``30m`` (minutes) or ``1w``.

    Raises
    ------
    ValueError
        If it is anything else, or longer than ten years.
    """
    if isinstance(value, dt.timedelta):
        return _not_too_long(value, value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a duration is a number and w, d, h or m (minutes), such as 2d or 12h; got {value!r}")
    unit, digits = _UNITS[match[2]], match[1].lstrip("0") or "0"
    # a number that is far too long is no number of Python's either: one unit too many says as much
    most = _LONGEST // unit + 1
    return _not_too_long(unit * (int(digits) if len(digits) <= len(str(most)) else most), value)


def _not_too_long(found: dt.timedelta, value: object) -> dt.timedelta:
    if found > _LONGEST:
        raise ValueError(f"a duration is at most {_LONGEST.days}d (ten years); got {value!r:.80}")
    return found


def _duration_text(value: dt.timedelta) -> str:
    for unit, length in _UNITS.items():
        if value and value % length == dt.timedelta(0):
            return f"{value // length}{unit}"
    return "0d"


def as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def as_text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _as_date(value: object) -> object:
    """Return the text of a date, which YAML gives as a date where it is not quoted."""
    return value.isoformat() if isinstance(value, dt.date) else as_text(value)


def _a_date(value: str | None) -> str | None:
    if value is not None:
        try:
            dt.date.fromisoformat(value)
        except ValueError:
            raise refusal(f"{value!r} is not a date such as 2026-01-01") from None
    return value


Duration = Annotated[dt.timedelta, BeforeValidator(parse_duration), PlainSerializer(_duration_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Date = Annotated[str | None, BeforeValidator(_as_date), AfterValidator(_a_date)]


def refusal(message: str, key: str = "") -> PydanticCustomError:
    # the message travels as context, so that braces in it are not taken for placeholders
    return PydanticCustomError("partnerml", "{message}", {"message": message, "key": key})


class Model(pydantic.BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", populate_by_name=True)

    later: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        return tuple(field.alias or name for name, field in cls.model_fields.items())

    @pydantic.model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: object) -> object:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            return value
        known = cls.keys()
        for key in value:
            if key in cls.later:
                raise refusal(f"not available in this version of partnerml (known: {', '.join(known)})", key)
            if key not in known and key not in cls.model_fields:
                raise refusal(f"unknown key{nearest(str(key), known)} (known: {', '.join(known)})", str(key))
        return value


class Sparse(Model):
    """Written as it was given: in these, a key that is absent and one that is null differ."""

    @pydantic.model_serializer(mode="wrap")
    def _only_what_was_given(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        given = {fields[name].alias or name for name in self.model_fields_set} | self.model_fields_set
        return {key: value for key, value in handler(self).items() if key in given}
