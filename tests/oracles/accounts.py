"""Accounts row by row, in plain Python over lists of dicts: who has a row, and whether it became a partner.

It shares no code with `partnerml.features`. Moments are naive UTC; a missing column is a missing key.
"""

from __future__ import annotations

from datetime import timedelta

DAY = timedelta(days=1)
NONE = timedelta(0)


def state(row):
    """(since, is one now, is one since nobody knows when)."""
    since = row.get("partner_since")
    flag = row.get("is_partner")
    is_now = flag if flag is not None else (since is not None or row.get("partner_id") is not None)
    return since, is_now, since is None and is_now


def is_excluded(row, exclude):
    """Whether a value of a row is among those to leave out."""
    for column, values in exclude.items():
        found = row.get(column)
        items = found if isinstance(found, list) else [] if found is None else [found]
        texts = [str(item).strip().lower() for item in items]
        if any(value.strip().lower() in texts for value in values):
            return True
    return False


def candidates(rows, moment, *, lag=NONE, exclude=None):
    """Ids of the accounts that were there and no partners, by what was known before a moment."""
    found = []
    for row in rows:
        since, _, always = state(row)
        created = row.get("created_at")
        known = created is None or created + lag < moment
        partner = always or (since is not None and since + lag < moment)
        if known and not partner and not is_excluded(row, exclude or {}):
            found.append(row["account_id"])
    return sorted(found)


def partners(rows, moment, *, lag=NONE, exclude=None):
    """Ids of the accounts that had become partners, and are partners still."""
    found = []
    for row in rows:
        since, is_now, always = state(row)
        became = always or (since is not None and since + lag < moment)
        if became and is_now and not is_excluded(row, exclude or {}):
            found.append(row["account_id"])
    return sorted(found)


def dated(rows, until, *, horizon, lag=NONE, exclude=None):
    """(account, created, label or None, days, observed) of each account at its creation, sorted by (created, id)."""
    found = []
    for row in rows:
        since, _, always = state(row)
        created = row.get("created_at")
        if created is None or created + lag >= until or always or is_excluded(row, exclude or {}):
            continue
        if since is not None and since < created:
            continue
        seen = since is not None and since + lag < until
        end = created + horizon * DAY
        label = None if end + lag > until else float(seen and since < end)
        stop = since if seen else max(created, until - lag)
        found.append((row["account_id"], created, label, (stop - created) / DAY, seen))
    return sorted(found, key=lambda one: (one[1], one[0]))
