"""Passwords in addresses are not written down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# between the name of a user and the last @ (a password may hold a slash or an @), and among the settings behind the ?
_OF_USER = re.compile(r"(://[^/\s:@]*):\S*@")
_SETTING = re.compile(r"([?&][^=&\s]*passw[^=&\s]*=)[^&\s]+", re.IGNORECASE)


def masked(value: Any) -> Any:
    """Return a value with ``***`` in the place of each password of an address in its texts.

    Parameters
    ----------
    value : object
        Mappings and sequences are gone through; what is neither text nor one of these stays as it is.

    Examples
    --------
    >>> masked({"ledger": "postgresql+psycopg://ada:secret@db/leads", "seed": 7})
    {'ledger': 'postgresql+psycopg://ada:***@db/leads', 'seed': 7}
    """
    if isinstance(value, str):
        return _SETTING.sub(r"\1***", _OF_USER.sub(r"\1:***@", value))
    if isinstance(value, Mapping):
        return {key: masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [masked(part) for part in value]
    return value
