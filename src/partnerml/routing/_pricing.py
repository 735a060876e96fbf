"""Prices that change between two snapshots: each set of them a small file, found again by its content.

::

    OUT/snapshots/prices/current.json   the last that were found, by the ids of partners: they outlast a snapshot
    OUT/snapshots/prices/ID.npy         those that decisions were made with, by the rows of their snapshot
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from partnerml import outputs
from partnerml.errors import InputError, ModelError
from partnerml.pairs._arrays import Floats
from partnerml.routing._decision import counted

_FOLDER, _LAST = "prices", "current.json"
_DIGITS = 12
_logger = logging.getLogger("partnerml")


def id_of_prices(prices: Floats) -> str:
    """Return the first 12 hex digits of the SHA-256 of some prices."""
    return hashlib.sha256(np.asarray(prices, dtype="<f8").tobytes()).hexdigest()[:_DIGITS]


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices as they were found once, by the ids of partners.

    Attributes
    ----------
    found_at : datetime
        Zoned.
    leads : int
        By how many.
    expected : int
        For how many that were to come.
    objective : str
        ``routing.objective`` that they were found by, which is their unit: wins, or money.
    by_partner : mapping of str to float
        Of those that have one, in units of utility; that of all others is 0.
    since : datetime or None
        The leads by which they were found came from then on, until they were found; None where a version that did not
        write it down found them.
    """

    found_at: dt.datetime
    leads: int
    expected: int
    objective: str
    by_partner: Mapping[str, float]
    since: dt.datetime | None = None

    def of(self, partner_id: Iterable[str]) -> Floats:
        """Return the prices of some partners, in their order."""
        return np.array([self.by_partner.get(partner, 0.0) for partner in partner_id], dtype=np.float64)

    def to_json(self) -> str:
        """Return them as a text."""
        return outputs.canonical_json({**vars(self), **self.evidence()})

    def evidence(self) -> dict[str, Any]:
        """Return when they were found and by which leads, as plain values: what a decision at these prices tells."""
        since = None if self.since is None else self.since.isoformat()
        return {"found_at": self.found_at.isoformat(), "since": since, "leads": self.leads, "expected": self.expected}

    def words(self) -> str:
        """Return when they were found and by which leads, in words."""
        span = "by then" if self.since is None else f"from {_minute(self.since)} on"
        return f"the prices of {_minute(self.found_at)} UTC, found by {counted(self.leads, 'lead')} that came {span}"

    def fits(self, objective: str) -> bool:
        """Tell whether they are in the unit of an objective: a price in money says nothing of chances."""
        return self.objective == objective

    def too_old(self, moment: dt.datetime, most: dt.timedelta) -> bool:
        """Tell whether they were found longer ago than is meant to be."""
        return moment - self.found_at > most

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError, TypeError, KeyError, AttributeError
            If it is something else.
        """
        told = json.loads(text)
        prices = {str(partner): float(price) for partner, price in told["by_partner"].items()}
        if not all(map(math.isfinite, prices.values())):
            raise ValueError("a price is no finite number")
        found_at, since = dt.datetime.fromisoformat(told["found_at"]), told.get("since")
        since = None if since is None else dt.datetime.fromisoformat(since)
        return cls(found_at, int(told["leads"]), int(told["expected"]), str(told["objective"]), prices, since)


def _minute(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def aged(prices: Prices, most: dt.timedelta) -> str:
    """Return what is told of prices that are older than ``routing.max_price_age``."""
    return (
        f"{prices.words()}, are older than routing.max_price_age ({most.total_seconds() / 3600:g} hours): leads and "
        "capacity are others by now; run partnerml reprice again"
    )


class PriceBook:
    """The prices that decisions were made with, so that they can be made again.

    Parameters
    ----------
    snapshots : Path or None
        The folder of the snapshots, where prices are kept as ``prices/ID.npy``; None = in memory.
    """

    def __init__(self, snapshots: Path | None) -> None:
        self._folder = None if snapshots is None else snapshots / _FOLDER
        self._known: dict[str, Floats] = {}
        self._warned: dict[str, str] = {}  # of what, in which words: those who follow look often

    def keep(self, prices: Floats) -> str:
        """Keep prices, and return their id."""
        found = id_of_prices(prices)
        if self._folder is None:
            self._known[found] = np.array(prices, dtype=np.float64)
        elif not (path := self._folder / f"{found}.npy").exists():
            with outputs.whole_file(path) as fresh, fresh.open("wb") as handle:
                np.save(handle, np.asarray(prices, dtype="<f8"), allow_pickle=False)
        return found

    def publish(self, prices: Prices) -> Path:
        """Make prices those that all take up who follow these snapshots; switched in one step.

        Raises
        ------
        InputError
            If the prices are kept in memory, where nobody else finds them.
        """
        if self._folder is None:
            raise InputError("prices are published beside snapshots; this router's snapshot was opened in memory")
        return outputs.write_text(self._folder / _LAST, prices.to_json())

    def published(self) -> Prices | None:
        """Return the prices that were published last; None if there are none, or, with a warning, if they are damaged.

        Leads can be routed without prices, and answers written: what is wrong with them stops nobody.
        """
        path, found, wrong = None if self._folder is None else self._folder / _LAST, None, ""
        try:
            found = None if path is None else Prices.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            wrong = (
                f"{path} holds no prices ({error!r}), and leads are routed without them; run partnerml reprice again, "
                "or delete it to do without"
            )
        self._warn("damaged", wrong)
        return found

    def fitting(self, prices: Prices | None, objective: str) -> Prices | None:
        """Return prices if they are in the unit of an objective; None, with a warning, if they are not.

        A price in money, set against the chance to win, would keep a partner from every lead.
        """
        if prices is None or prices.fits(objective):
            self._warn("objective", "")
            return prices
        self._warn(
            "objective",
            f"the prices of {prices.found_at:%Y-%m-%d %H:%M} UTC are in the unit of routing.objective: "
            f"{prices.objective}, and leads are routed by {objective}, without them; run partnerml reprice again",
        )
        return None

    def _warn(self, what: str, wrong: str) -> None:
        """Warn of what was not wrong when somebody looked last, or was otherwise."""
        if wrong and wrong != self._warned.get(what):
            _logger.warning("%s", wrong)
        self._warned[what] = wrong

    def find(self, prices_id: str) -> Floats:
        """Return prices that were kept.

        Raises
        ------
        InputError
            If they are not there.
        ModelError
            If their file is damaged.
        """
        if self._folder is None:
            if prices_id not in self._known:
                raise InputError(f"the prices {prices_id} were kept in the memory of another router and are gone")
            return self._known[prices_id]
        path = self._folder / f"{prices_id}.npy"
        try:
            found: Floats = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"the prices {prices_id} are not in {path.parent}; restore the file to replay") from None
        except (OSError, ValueError) as error:
            raise ModelError(f"{path} cannot be read: {error}; restore the file to replay") from error
        if id_of_prices(found) != prices_id:
            raise ModelError(f"{path} is damaged: its content has another id; restore the file to replay")
        return found
