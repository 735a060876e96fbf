"""What comes before any choice: a lead that a partner has, one come again, a registered deal, an account with an owner.

Two companies are the same by account, by domain (not one where anybody may have an address), or by names that are
alike once case, accents and legal forms are taken off, where nothing else says that they are two: other accounts or
countries, and where the names are not quite the same, other domains or other numbers in them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from partnerml.routing._decision import DUPLICATE, OWNER, REGISTERED
from partnerml.routing._index import index_of
from partnerml.routing._matches import Companies, Keys
from partnerml.routing._names import domain_key, likeness, normalised, numbered_apart
from partnerml.routing._partners import NO_ROW, Account, Deal

if TYPE_CHECKING:
    from partnerml.routing._lead import Lead
    from partnerml.routing._partners import Partners
    from partnerml.routing._situation import Match, Situation
    from partnerml.routing._snapshot import Snapshot

Item = TypeVar("Item")
# by what two are the same, the surest first
_BY = ("lead", "account", "domain", "name")
_ONE_DAY = dt.timedelta(days=1)


@dataclasses.dataclass(frozen=True)
class Precedence:
    """A partner that a lead goes to before anybody is scored, or the lead that it repeats.

    Attributes
    ----------
    status : {"duplicate", "registered_deal", "existing_owner"}
    partner_id : str or None
        Of a duplicate, the partner of the other lead, where it has one.
    duplicate_of : str or None
        The other lead.
    deal_id : str or None
    evidence : mapping of str to object
        ``by`` (account, domain, name, or the lead itself for a deal and where a partner has it already) and what was
        equal; for names both of them as they were compared, ``score`` and ``threshold``.
    words : str
        For those who run the programme.
    anonymous : str
        For a partner: why the lead is not free, without a word about anybody else.
    """

    status: str
    partner_id: str | None
    duplicate_of: str | None
    deal_id: str | None
    evidence: Mapping[str, Any]
    words: str
    anonymous: str


@dataclasses.dataclass(frozen=True)
class _Same:
    """By what two are the same company: the place in `_BY`, and what shows it."""

    rank: int
    evidence: Mapping[str, Any]

    @classmethod
    def by(cls, what: str, **evidence: Any) -> Self:
        return cls(_BY.index(what), {"by": what, **evidence})

    @property
    def words(self) -> str:
        """The evidence in words."""
        shown = self.evidence
        if shown["by"] == "name":
            return f"name {shown['name']!r} like {shown['other_name']!r}, {shown['score']:g} of 100"
        return f"same {shown['by']} {next(value for key, value in shown.items() if key != 'by')}"


def keys_of(lead: Lead, snapshot: Snapshot) -> Keys:
    """Return by what a lead is known again; what it does not say itself, its account does."""
    account = snapshot.accounts.get(lead.get("account_id")) or Account(None, None, None, NO_ROW)
    return Keys(
        account_id=lead.get("account_id"),
        domain=domain_key(lead.get("domain")) or account.domain,
        name=normalised(lead.get("account_name")) or normalised(account.name),
        country=lead.get("country") or account.country,
        created_at=lead.get("created_at"),
    )


def precedence(situation: Situation) -> Precedence | None:
    """Return what a lead falls under before anybody is asked; None if it is free.

    In this order: the partner that has this very lead by the tables, where the ledger has given it to nobody; another
    lead that is the same, within `routing.duplicates.window`; a registered deal, approved or pending, while it is
    protected, the first registered of several; the partner who owns the account. A lead that has been with a partner
    is no duplicate, since others are duplicates of it, and goes back to none that had it.
    """
    held = _held(situation)
    if held is not None:
        return held
    keys = keys_of(situation.lead, situation.snapshot)
    return _duplicate(situation, keys) or _registered(situation, keys) or _owned(situation, keys)


# leads that a partner has


def _held(situation: Situation) -> Precedence | None:
    """Return who has the lead from before the ledger; of several that have it, who was given it last.

    Leads that repeat it name the same partner. Where the table of leads does not have it, the first by id stands.
    """
    # once the ledger has given the lead to somebody it alone knows: after a withdrawal it is to go on to others
    if situation.had or not situation.holders:
        return None
    lead_id, partner_id = situation.lead.lead_id, situation.snapshot.partners.partner_id
    last = _book(situation.snapshot).given_last.get(lead_id)
    rows = sorted(situation.holders, key=lambda row: (partner_id[row] != last, row))
    row = next((row for row in rows if _may_have(situation, row)), None)
    if row is None:
        return None
    partner = str(partner_id[row])
    return Precedence(
        status=OWNER,
        partner_id=partner,
        duplicate_of=None,
        deal_id=None,
        evidence=_Same.by("lead", lead_id=lead_id).evidence,
        words=f"partner {partner} has the lead already (table assignments)",
        anonymous="the lead is with a partner already",
    )


# duplicates


def _duplicate(situation: Situation, keys: Keys) -> Precedence | None:
    config = situation.config.duplicates
    if not config.enabled or situation.had:
        return None
    # the ledger knows who has a lead by now: what it says of one goes before the snapshot
    others = {match.lead_id: match for match in _book(situation.snapshot).leads.like(keys, config.name_threshold)}
    others |= {match.lead_id: match for match in situation.matches}
    others.pop(situation.lead.lead_id, None)
    found = [
        (match, same)
        for match in others.values()
        if _counts(situation, match) and (same := _how(keys, _keys_of_match(match), config.name_threshold)) is not None
    ]
    if not found:
        return None
    match, same = min(
        found, key=lambda pair: (pair[1].rank, pair[0].partner_id is None, pair[0].created_at, pair[0].lead_id)
    )
    return Precedence(
        status=DUPLICATE,
        partner_id=match.partner_id,
        duplicate_of=match.lead_id,
        deal_id=None,
        evidence={**same.evidence, "created_at": match.created_at.isoformat()},
        words=f"{_same_as(match, keys.created_at)} ({same.words}); {_became(match, config.window)}",
        anonymous="it is another lead come again",
    )


def _same_as(match: Match, created_at: dt.datetime | None) -> str:
    """Return which lead another one is; one that is older, and was sent later, has not come again."""
    if created_at is not None and created_at < match.created_at:
        return f"it is the same as the lead {match.lead_id} of {_day(match.created_at)}, which was given out before"
    return f"it is the lead {match.lead_id} of {_day(match.created_at)} come again"


def _became(match: Match, window: dt.timedelta) -> str:
    """Return who has the other lead; of a closed one what became of it, and when a lead of the company is a new one."""
    if match.partner_id is None:
        return "no partner has it"
    if match.outcome is None or match.closed_at is None:
        return f"partner {match.partner_id} has it"
    return (
        f"partner {match.partner_id} closed it as {match.outcome} on {_day(match.closed_at)}; a lead of this company "
        f"is a new one once none has come for {window / _ONE_DAY:g} days, and until then override gives it to somebody"
    )


def _counts(situation: Situation, match: Match) -> bool:
    """Tell whether a lead may have come again as this one.

    Of two leads that nobody has, the later one is the duplicate, whichever is asked for first: if each were one of the
    other, both would be lost.
    """
    if match.since < situation.moment - situation.config.duplicates.window:
        return False
    lead = situation.lead
    own = lead.get("created_at") or situation.moment, lead.lead_id
    return match.partner_id is not None or (match.created_at, match.lead_id) < own


# registered deals


def _registered(situation: Situation, keys: Keys) -> Precedence | None:
    threshold, lead_id = situation.config.duplicates.name_threshold, situation.lead.lead_id
    found = [(deal, _Same.by("lead", lead_id=lead_id)) for deal in situation.snapshot.deals.by_lead.get(lead_id, ())]
    found += [
        (deal, same)
        for deal in _book(situation.snapshot).deals.like(keys, threshold)
        if (same := _how(keys, _keys_of_deal(deal), threshold)) is not None
    ]
    valid = [(deal, same) for deal, same in found if _is_protected(situation, deal)]
    if not valid:
        return None
    # the first registered wins, whoever else asks
    deal, same = min(valid, key=lambda pair: (pair[0].registered_at, pair[0].deal_id, pair[1].rank))
    partner, until = str(situation.snapshot.partners.partner_id[deal.row]), _protected_until(situation, deal)
    return Precedence(
        status=REGISTERED,
        partner_id=partner,
        duplicate_of=None,
        deal_id=deal.deal_id,
        evidence={
            **same.evidence,
            "deal_id": deal.deal_id,
            "registration_status": deal.status,
            "registered_at": deal.registered_at.isoformat(),
            "protected_until": until.isoformat(),
        },
        words=f"partner {partner} registered the deal {deal.deal_id} on {_day(deal.registered_at)} ({deal.status}; "
        f"{same.words}); it is protected until {_day(until)}",
        anonymous="a deal with this company was registered first and is protected",
    )


def _protected_until(situation: Situation, deal: Deal) -> dt.datetime:
    return deal.protected_until or deal.registered_at + situation.config.protection


def _is_protected(situation: Situation, deal: Deal) -> bool:
    in_force = deal.registered_at <= situation.moment < _protected_until(situation, deal)
    return in_force and _may_have(situation, deal.row)


def _may_have(situation: Situation, row: int) -> bool:
    """Tell whether a partner has not left, since a lead is worth nothing to it then, and has not had the lead."""
    is_member = bool(index_of(situation.snapshot).membership.hold(situation.now, row))
    return is_member and situation.snapshot.partners.partner_id[row] not in situation.had


# owners


def _owned(situation: Situation, keys: Keys) -> Precedence | None:
    accounts = situation.snapshot.accounts
    account, same = accounts.get(keys.account_id), _Same.by("account", account_id=keys.account_id)
    if account is None and keys.domain is not None:
        account, same = accounts.of_domain(keys.domain), _Same.by("domain", domain=keys.domain)
    if account is None or account.owner == NO_ROW or not _may_have(situation, account.owner):
        return None
    partner = str(situation.snapshot.partners.partner_id[account.owner])
    return Precedence(
        status=OWNER,
        partner_id=partner,
        duplicate_of=None,
        deal_id=None,
        evidence=same.evidence,
        words=f"partner {partner} owns the account ({same.words})",
        anonymous="the account has an owner",
    )


# who is the same


def _how(keys: Keys, other: Keys, threshold: float) -> _Same | None:
    """Return by what two are the same company, the surest; None if they are not."""
    if keys.account_id is not None and keys.account_id == other.account_id:
        return _Same.by("account", account_id=keys.account_id)
    if keys.domain is not None and keys.domain == other.domain:
        return _Same.by("domain", domain=keys.domain)
    if keys.name is None or other.name is None or _contradict(keys, other):
        return None
    score = likeness(keys.name, other.name)
    if score < threshold:
        return None
    return _Same.by("name", name=keys.name, other_name=other.name, score=round(score, 1), threshold=threshold)


def _contradict(keys: Keys, other: Keys) -> bool:
    """Tell whether what is known of two companies says that they are not the same, however alike their names."""
    if keys.country and other.country and keys.country != other.country:
        return True
    if keys.account_id is not None and other.account_id is not None:  # they are known to differ by now
        return True
    if keys.name == other.name:  # one company may have several domains
        return False
    named_apart = keys.domain is not None and other.domain is not None
    return named_apart or numbered_apart(str(keys.name), str(other.name))


def _keys_of_match(match: Match) -> Keys:
    return Keys(match.account_id, match.domain, match.name, match.country)


def _keys_of_deal(deal: Deal) -> Keys:
    return Keys(deal.account_id, deal.domain, normalised(deal.name), deal.country)


class _Index(Generic[Item]):
    """Things of companies by what they are found by."""

    def __init__(self, items: Sequence[Item], keys: Callable[[Item], Keys]) -> None:
        self._items, self._companies = items, Companies(map(keys, items))

    def like(self, keys: Keys, threshold: float) -> list[Item]:
        """Return what has the same account or domain, or a name alike, in order."""
        return [self._items[place] for place in self._companies.like(keys, threshold)]


class _Book:
    """The earlier leads and the deals of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.given_last = {match.lead_id: match.partner_id for match in snapshot.leads}
        self.leads = _Index(snapshot.leads, _keys_of_match)
        self.deals = _Index(snapshot.deals.every, _keys_of_deal)


# kept by the partners, which copies of a snapshot with other prices share
_BOOKS: weakref.WeakKeyDictionary[Partners, _Book] = weakref.WeakKeyDictionary()


def _book(snapshot: Snapshot) -> _Book:
    found = _BOOKS.get(snapshot.partners)
    if found is None:
        found = _BOOKS[snapshot.partners] = _Book(snapshot)
    return found


def _day(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d}"
