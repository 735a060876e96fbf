"""Single values of a lead: texts, numbers, moments, codes and lists, read from whatever holds them.

The types are those of the tables (`partnerml.schema`). A value that cannot be read raises a `RefusedError`, which
says what the column must hold and what came; nothing else is raised, whatever comes.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import json
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from partnerml import schema
from partnerml.codes import valid_codes
from partnerml.moments import EPOCH_MS
from partnerml.schema import Type

LONGEST_TEXT = 10_000
LONGEST_LIST = 1_000
LONGEST_ID = 200
DEEPEST = 5  # lists and mappings inside other columns
_LARGEST = 1e15  # as in the tables: sums of amounts are exact below it
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ].*)?", re.ASCII)
_YEARS = (1900, 2199)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}
_LOWERED = frozenset(("vertical", "domain", "languages"))  # where case has no meaning


class RefusedError(ValueError):
    """A value that its column may not hold; the text says why."""


def shown(value: Any) -> str:
    """Return what came, short, whatever it is."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, bool | float | np.number | np.bool_):
        return str(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length():,} bits"
    if isinstance(value, dt.date | np.datetime64):
        return str(value)
    size = f" of {len(value):,}" if isinstance(value, bytes | list | tuple | set | frozenset | dict) else ""
    return f"{type(value).__name__}{size}"


def is_absent(value: Any) -> bool:
    """Tell whether a value is none: None, NaN, NaT, pandas' NA, or a text of blanks."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    # by their names, since a service that routes may never have loaded pandas
    return type(value).__name__ in ("NaTType", "NAType")


def name_of(given: Any) -> str:
    """Return the name of a column.

    Raises
    ------
    RefusedError
        If it is none.
    """
    if not isinstance(given, str) or not given.strip():
        raise RefusedError(f"names of columns are texts, got {shown(given)}")
    if len(given) > LONGEST_ID:
        raise RefusedError(f"names of columns have up to {LONGEST_ID} characters, got {len(given):,}: {shown(given)}")
    return _storable("the name of a column", str(given))


def value_of(name: str, value: Any, table: schema.Table = schema.LEADS) -> Any:
    """Return the clean value of a column of a table; None for no value.

    Raises
    ------
    RefusedError
        If the column may not hold it.
    """
    if is_absent(value):
        return None
    value = _plain(value)
    column = table.column(name)
    if column is None:
        return _other(name, value, 0)
    return _READERS[column.type](name, value)


def _plain(value: Any) -> Any:
    """Return Python's own value of one of numpy, and of the text and number types that are subclasses."""
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "OUSbiuf" else list(value)
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        return value.item()
    return str(value) if isinstance(value, str) else value


def _refuse(name: str, allowed: str, value: Any) -> RefusedError:
    return RefusedError(f"{name} must be {allowed}, got {shown(value)}")


def _storable(name: str, text: str) -> str:
    # no database and no file of UTF-8 takes these
    if "\x00" in text:
        raise RefusedError(f"{name} must be a text without NUL characters, got {shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RefusedError(f"{name} must be a text of whole Unicode characters, got {shown(text)}") from None
    return text


def _short(name: str, text: str, most: int) -> str:
    if len(text) > most:
        raise RefusedError(f"{name} has up to {most:,} characters, got {len(text):,}")
    return _storable(name, text)


def _text(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = _whole(name, value)
    if not isinstance(value, str):
        raise _refuse(name, "a text", value)
    text = _short(name, value.strip(), LONGEST_TEXT)
    return text.lower() if name in _LOWERED else text


def _id(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = _whole(name, value)
    if not isinstance(value, str):
        raise _refuse(name, "a text or a whole number (a float would not join: 12.0 is not 12)", value)
    return _short(name, value.strip(), LONGEST_ID)


def _whole(name: str, value: int) -> str:
    if value.bit_length() > 3 * LONGEST_ID:  # Python refuses to write out very long ones
        raise _refuse(name, f"a whole number of at most {LONGEST_ID} digits", value)
    return str(value)


def _number(name: str, value: Any, allowed: str = "a number below 1e15 in size with a decimal point") -> float:
    if isinstance(value, str):
        text = value.strip()
        if len(text) > LONGEST_ID or _NUMBER.fullmatch(text) is None:
            raise _refuse(name, allowed, value)
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        raise _refuse(name, allowed, value)
    # comparing never overflows, as abs of a Decimal may; not-a-number is refused with infinity
    if not -_LARGEST < value < _LARGEST:
        raise _refuse(name, allowed, value)
    return float(value) + 0.0  # minus zero is zero


def _amount(name: str, value: Any) -> float:
    allowed = "an amount of zero or more, below 1e15, with a decimal point and no thousands separators"
    number = _number(name, value, allowed)
    if number < 0:
        raise _refuse(name, allowed, value)
    return number


def _degrees(most: float) -> Callable[[str, Any], float]:
    def read(name: str, value: Any) -> float:
        allowed = f"degrees from {-most:g} to {most:g}"
        number = _number(name, value, allowed)
        if abs(number) > most:
            raise _refuse(name, allowed, value)
        return number

    return read


def _boolean(name: str, value: Any) -> bool:
    found: bool | None = None
    if isinstance(value, str):
        found = _BOOLEANS.get(value.strip().lower())
    elif isinstance(value, int | float) and value in (0, 1):
        found = bool(value)
    if found is None:
        raise _refuse(name, "true or false, yes or no, 1 or 0", value)
    return found


def _moment(name: str, value: Any) -> dt.datetime:
    allowed = f"a date or a moment in ISO 8601 from {_YEARS[0]} to {_YEARS[1]}, or epoch milliseconds"
    try:
        found = _zoned(value)
    except (ValueError, OverflowError):
        found = None
    if found is None or not _YEARS[0] <= found.year <= _YEARS[1]:
        raise _refuse(name, allowed, value)
    return found


def _zoned(value: Any) -> dt.datetime | None:
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()  # an integer where Python has no such year
        return value.replace(tzinfo=dt.UTC) if isinstance(value, dt.datetime) else None
    if isinstance(value, str):
        text = value.strip()
        if len(text) > LONGEST_ID or _DATE.fullmatch(text) is None:
            return None
        value = dt.datetime.fromisoformat(text)
    if isinstance(value, dt.datetime):
        # a Timestamp of pandas is a datetime too; plain ones keep what follows simple
        plain = dt.datetime.combine(value.date(), value.time(), tzinfo=value.tzinfo)
        return plain.replace(tzinfo=dt.UTC) if plain.tzinfo is None else plain.astimezone(dt.UTC)
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time(), tzinfo=dt.UTC)
    if isinstance(value, int) and EPOCH_MS[0] <= value <= EPOCH_MS[1]:
        return _EPOCH + dt.timedelta(milliseconds=value)
    return None


def _code(kind: Type, allowed: str) -> Callable[[str, Any], str]:
    def read(name: str, value: Any) -> str:
        code = value.strip().upper() if isinstance(value, str) else ""
        if code not in _codes(kind):
            raise _refuse(name, allowed, value)
        return code

    return read


@functools.cache
def _codes(kind: Type) -> frozenset[str]:
    return frozenset(valid_codes(kind))


def _list(name: str, value: Any) -> tuple[str, ...] | None:
    items = _items(name, value)
    if len(items) > LONGEST_LIST:
        raise RefusedError(f"{name} has up to {LONGEST_LIST:,} entries, got {len(items):,}")
    # what a lead asks for has no order
    return tuple(sorted({_entry(name, item) for item in items if not is_absent(item)})) or None


def _items(name: str, value: Any) -> list[Any]:
    allowed = "a list of texts, a JSON array, or a text split at ';' or '|'"
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if not isinstance(value, str):
        raise _refuse(name, allowed, value)
    text = _short(name, value.strip(), LONGEST_TEXT)
    if not text.startswith("["):
        return re.split("[;|]", text)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise _refuse(name, allowed, value) from None
    return list(found)


def _entry(name: str, item: Any) -> str:
    item = _plain(item)
    if isinstance(item, int) and not isinstance(item, bool):
        item = _whole(name, item)
    if not isinstance(item, str):
        raise _refuse(f"each entry of {name}", "a text", item)
    text = _short(f"an entry of {name}", item.strip(), LONGEST_ID)
    return text.lower().replace("_", "-") if name in _LOWERED else text


def _other(name: str, value: Any, depth: int) -> Any:
    """Return a value of a column that the schema does not know, in the words of JSON; None for no value."""
    if is_absent(value):
        return None
    value = _plain(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _short(name, value.strip(), LONGEST_TEXT)
    if isinstance(value, int | float | decimal.Decimal):
        number = _number(name, value, "a number below 1e15 in size")
        return int(number) if number.is_integer() else number  # 5 and 5.0 are one number
    if isinstance(value, dt.date | np.datetime64):
        return _moment(name, value).isoformat()
    return _nested(name, value, depth)


def _nested(name: str, value: Any, depth: int) -> Any:
    if not isinstance(value, list | tuple | Mapping):
        raise _refuse(name, "what JSON can hold: a text, a number, true or false, a list or a mapping", value)
    if len(value) > LONGEST_LIST:
        raise RefusedError(f"{name} has up to {LONGEST_LIST:,} entries, got {len(value):,}")
    if depth >= DEEPEST:
        raise RefusedError(f"{name} is nested deeper than {DEEPEST} levels; give it as a text")
    if isinstance(value, Mapping):
        inner = {name_of(key): _other(name, item, depth + 1) for key, item in value.items()}
        return {key: item for key, item in sorted(inner.items()) if item is not None}
    return [_other(name, item, depth + 1) for item in value]


_READERS: Mapping[Type, Callable[[str, Any], Any]] = MappingProxyType(
    {
        Type.ID: _id,
        Type.TEXT: _text,
        Type.TIMESTAMP: _moment,
        Type.AMOUNT: _amount,
        Type.BOOLEAN: _boolean,
        Type.LIST: _list,
        Type.COUNTRY: _code(Type.COUNTRY, "a two-letter ISO 3166-1 code such as DE (the United Kingdom is GB)"),
        Type.REGION: _code(Type.REGION, "an ISO 3166-2 code such as US-CA"),
        Type.CURRENCY: _code(Type.CURRENCY, "a three-letter ISO 4217 code such as EUR"),
        Type.LATITUDE: _degrees(90.0),
        Type.LONGITUDE: _degrees(180.0),
    }
)
