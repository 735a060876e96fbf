"""Offers and capacity as the contract tells them, in plain Python: no table, no counter, all of it counted anew.

Every offer that was ever made is kept with what became of it; whatever is asked is counted from there.
"""

import dataclasses
import datetime as dt
import zoneinfo


@dataclasses.dataclass
class Given:
    """A lead that a partner was offered, or holds."""

    lead: str
    partner: str
    asked: bool
    at: dt.datetime
    day: dt.date
    week: tuple
    status: str
    deadline: dt.datetime | None = None
    closed: str | None = None


@dataclasses.dataclass
class Book:
    """Partners with a zone and limits (day, week, open; None = unlimited), and all that they were given."""

    partners: dict
    given: list = dataclasses.field(default_factory=list)

    def date(self, partner, now):
        return now.astimezone(zoneinfo.ZoneInfo(self.partners[partner]["zone"])).date()

    def load(self, partner, now):
        """Units of the day, of the week, and open leads."""
        day = self.date(partner, now)
        week = day.isocalendar()[:2]
        own = [one for one in self.given if one.partner == partner]
        return (
            # what was offered on the day counts, whatever became of it
            sum(one.asked and one.day == day for one in own),
            # of the week that which was not given back
            sum(one.asked and one.week == week and one.status in ("offered", "accepted") for one in own),
            sum(one.status in ("offered", "accepted") and one.closed is None for one in own),
        )

    def has_room(self, partner, now):
        limits = self.partners[partner]["limits"]
        return all(limit is None or used < limit for used, limit in zip(self.load(partner, now), limits, strict=True))

    def holder(self, lead):
        holding = [
            one
            for one in self.given
            if one.lead == lead and one.status in ("offered", "accepted") and one.closed is None
        ]
        assert len(holding) <= 1
        return holding[0] if holding else None

    def had(self, lead):
        return {one.partner for one in self.given if one.lead == lead}

    def closed(self, lead):
        return any(one.lead == lead and one.closed for one in self.given)

    def offer(self, lead, partner, now, deadline):
        assert self.has_room(partner, now)
        assert self.holder(lead) is None
        day = self.date(partner, now)
        self.given.append(Given(lead, partner, True, now, day, day.isocalendar()[:2], "offered", deadline))

    def give(self, lead, partner, now):
        """Give a lead away without asking; who holds it loses it."""
        if (holder := self.holder(lead)) is not None:
            holder.status = "withdrawn"
        day = self.date(partner, now)
        self.given.append(Given(lead, partner, False, now, day, day.isocalendar()[:2], "accepted"))

    def respond(self, lead, response, now):
        """Answer for the partner to whom the lead is offered; what comes at the deadline comes too late."""
        offer = self.holder(lead)
        offer.status = "expired" if now >= offer.deadline else response

    def expire(self, now):
        late = [one for one in self.given if one.status == "offered" and now >= one.deadline]
        for one in late:
            one.status = "expired"
        return {one.lead for one in late}

    def close(self, lead, outcome):
        self.holder(lead).closed = outcome
