"""The snapshot and the prices that a router goes by, and newer ones that it takes up."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from pathlib import Path

from partnerml.routing._opened import Opened
from partnerml.routing._pricing import PriceBook, Prices, aged
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._snapshot_files import current

_logger = logging.getLogger("partnerml")


class InUse:
    """What a router goes by; put in place at once, so that a call ends with what it began with.

    Parameters
    ----------
    snapshot : Snapshot
    source : Path or None
        Where the snapshot was opened; `refresh` looks there.
    reasons : bool
        Whether a decision tells what moved the model's score of the chosen partner.

    Attributes
    ----------
    opened : Opened
    book : PriceBook
    prices : Prices or None
        Those that were found last, in the unit of this objective or not.
    """

    def __init__(self, snapshot: Snapshot, *, source: Path | None, reasons: bool) -> None:
        self.source, self._reasons = source, reasons
        self.book = PriceBook(None if source is None else source.parent)
        # looking for a snapshot takes seconds, and routing does not wait for it
        self._looking = threading.Lock()
        self._ahead: set[str] = set()  # snapshots of later than now that were told of
        self._aged: dt.datetime | None = None  # when the old prices were found that were told of
        self.prices: Prices | None = None
        self._seen: Prices | None = None  # those published when it looked last
        self.opened = self._with_prices(Opened.of(snapshot, reasons=reasons))

    @property
    def unpriced(self) -> bool:
        """Whether no prices were found for these snapshots and their objective: all are 0."""
        found, snapshot = self.prices, self.opened.snapshot
        fits = found is not None and found.fits(snapshot.config.objective)
        return not fits and not snapshot.prices.any()

    def refresh(self) -> bool:
        """Follow ``current``, and the prices beside it; see `Router.refresh`."""
        if self.source is None:
            return False
        with self._looking:
            was, follows = self.opened, self.source.is_file()
            opened, snapshot_id = was, was.way.snapshot_id
            # asked often: to open and check a snapshot takes seconds
            if not follows or current(self.source.parent, name=self.source.name) != snapshot_id:
                found = Snapshot.open(self.source)
                opened = was if found.id == snapshot_id else Opened.of(found, reasons=self._reasons)
            self.opened = self._with_prices(opened)
            return self.opened is not was

    def take_up(self, found: Prices, *, publish: bool) -> None:
        """Go by prices that were found; published, so do all that follow these snapshots.

        Raises
        ------
        InputError
            If they are to be published, and the snapshot was opened in memory.
        """
        with self._looking:
            if publish:
                self.book.publish(found)
                self._seen = found
            self.prices = found
            self.opened = self._priced(self.opened)

    def checked(self, moment: dt.datetime, *, priced: bool = True) -> Opened:
        """Return what to decide by now; a snapshot that is too old is refused, and one of later than now told of.

        Parameters
        ----------
        moment : datetime
        priced : bool
            Whether prices have a say: those that are old are told of then.

        Raises
        ------
        ModelError
            If it is too old.
        """
        opened = self.opened
        opened.check_age(moment)
        return self._told(opened, moment, priced=priced)

    def unchecked(self, moment: dt.datetime) -> Opened:
        """Return what to go by now, however old it is, and tell the same of it: answers are kept in any case."""
        return self._told(self.opened, moment, priced=True)

    def _told(self, opened: Opened, moment: dt.datetime, *, priced: bool) -> Opened:
        self._tell_of_future(opened, moment)
        if priced:
            self._tell_of_old_prices(opened, moment)
        return opened

    def _tell_of_future(self, opened: Opened, moment: dt.datetime) -> None:
        """Warn once of a snapshot that knows what is not known by now: the clock or the date of publishing is wrong."""
        if moment < opened.snapshot.as_of and opened.way.snapshot_id not in self._ahead:
            self._ahead.add(opened.way.snapshot_id)
            _logger.warning(
                "snapshot %s is as of %s, and it is %s UTC: what is decided now goes by what is known later only",
                opened.way.snapshot_id,
                f"{opened.snapshot.as_of:%Y-%m-%d}",
                f"{moment:%Y-%m-%d %H:%M}",
            )

    def _tell_of_old_prices(self, opened: Opened, moment: dt.datetime) -> None:
        """Warn once of prices that are used still: the leads and the capacity that they were found by are gone."""
        prices, most = self.prices, opened.config.max_price_age
        if prices is None or opened.way.prices_id is None or not prices.too_old(moment, most):
            return
        if prices.found_at != self._aged:
            self._aged = prices.found_at
            _logger.warning("%s", aged(prices, most))

    def _with_prices(self, opened: Opened) -> Opened:
        """Return a snapshot with the prices that were found last: here, or published since it looked."""
        if self.source is not None and self.source.is_file():
            published = self.book.published()
            if published != self._seen:
                self._seen = self.prices = published
        return self._priced(opened)

    def _priced(self, opened: Opened) -> Opened:
        """Return a snapshot with the prices that were found last, if they are in the unit of its objective."""
        prices = self.book.fitting(self.prices, opened.config.objective)
        if prices is not None:
            return opened.priced_by(prices, self.book)
        return opened if opened.way.prices_id is None else opened.as_published()
