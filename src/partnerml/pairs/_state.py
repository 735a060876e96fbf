"""What is known of partners as named arrays and plain values, and back: how a snapshot holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from partnerml.pairs._arrays import Cells, Lists, Ragged, Tally, Vocabulary
from partnerml.pairs._facts import PartnerFacts, Record, Territories

Arrays = dict[str, npt.NDArray[Any]]
# named, never taken from a file: reading what is known must not be able to reach other code
_KINDS = {kind.__name__: kind for kind in (PartnerFacts, Record, Territories, Cells, Lists, Ragged, Tally)}
_IDS = "partner_id"


def to_state(facts: PartnerFacts) -> tuple[dict[str, Any], Arrays]:
    """Return how facts are put together, as JSON values, and their arrays by name; without the ids of the partners."""
    arrays: Arrays = {}
    layout = _taken_apart(facts, "facts", arrays)
    return layout, arrays


def from_state(layout: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], partner_id: Any) -> PartnerFacts:
    """Rebuild from `to_state`.

    Parameters
    ----------
    layout : mapping
    arrays : mapping of str to array
    partner_id : array of str, shape (n,)

    Raises
    ------
    KeyError, TypeError, ValueError
        If the state is not that of facts.
    """
    given = {**layout, "parts": {**layout["parts"], _IDS: {"value": None}}}
    found: PartnerFacts = _put_together(given, arrays)
    return dataclasses.replace(found, partner_id=np.asarray(partner_id, dtype=object))


def _taken_apart(value: Any, name: str, arrays: Arrays) -> dict[str, Any]:
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {"array": name}
    if isinstance(value, Vocabulary):
        return {"texts": sorted(value.index, key=value.index.__getitem__)}
    if isinstance(value, Mapping):
        return {"mapping": {key: _taken_apart(part, f"{name}.{key}", arrays) for key, part in value.items()}}
    if isinstance(value, int):
        return {"value": value}
    names = [field for field in _fields(value) if field != _IDS]
    parts = {part: _taken_apart(getattr(value, part), f"{name}.{part}", arrays) for part in names}
    return {"kind": type(value).__name__, "parts": parts}


def _fields(value: Any) -> tuple[str, ...]:
    return value._fields if isinstance(value, Tally) else tuple(field.name for field in dataclasses.fields(value))


def _put_together(layout: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    if "array" in layout:
        return arrays[layout["array"]]
    if "texts" in layout:
        return Vocabulary({text: code for code, text in enumerate(layout["texts"])})
    if "mapping" in layout:
        return MappingProxyType({key: _put_together(part, arrays) for key, part in layout["mapping"].items()})
    if "value" in layout:
        return layout["value"]
    return _KINDS[layout["kind"]](**{name: _put_together(part, arrays) for name, part in layout["parts"].items()})
