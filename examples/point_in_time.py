"""What a feature may see: windows, late rows, and deals whose outcome came later.

    python examples/point_in_time.py

Two partners with the same past. What is added to one of them afterwards changes nothing that was known before.
"""

from __future__ import annotations

import pandas as pd

from partnerml import Dataset, Ecosystem, build_dataset, tasks

AS_OF = "2026-03-01"
LOGINS = "events__portal_login__count__30d"
WON = "deals__won__amount__365d"

PARTNERS = pd.DataFrame({"partner_id": ["acme", "globex"], "joined_at": ["2025-01-01", "2025-01-01"]})
EVENTS = pd.DataFrame(
    [
        # partner, occurred at, recorded at
        ("acme", "2026-01-30 00:00", "2026-01-30 01:00"),  # exactly 30 days before as_of: in the window
        ("acme", "2026-02-20 09:00", "2026-02-20 09:00"),
        ("acme", "2026-02-28 18:00", "2026-03-01 06:00"),  # in time, and recorded too late to be known
        ("acme", "2026-03-01 00:00", "2026-03-01 00:00"),  # exactly on as_of: not in it
        ("globex", "2026-01-29 23:59", "2026-01-30 01:00"),  # a minute too early for the window
        ("globex", "2026-02-20 09:00", "2026-02-20 09:00"),
    ],
    columns=["partner_id", "occurred_at", "recorded_at"],
).assign(event_type="portal_login")
DEALS = pd.DataFrame(
    [
        # won in February, and entered as won in March: as of March 1 it was open, and its amount not known
        ("d1", "acme", "2026-01-10", "won", "2026-02-15", 9000.0, "2026-03-02"),
        ("d2", "globex", "2026-01-10", "won", "2026-02-15", 5000.0, "2026-02-16"),
    ],
    columns=["deal_id", "partner_id", "registered_at", "outcome", "closed_at", "amount", "closed_recorded_at"],
)


def features(events: pd.DataFrame, deals: pd.DataFrame) -> Dataset:
    """Build the features of both partners as of the first of March."""
    with Ecosystem.from_frames(partners=PARTNERS, events=events, deals=deals) as eco:
        return build_dataset(eco, tasks.churn(), as_of=AS_OF, labels=False)


def main() -> None:
    data = features(EVENTS, DEALS)
    seen = data.keys.join(data.X[[LOGINS, WON]])
    print(f"as of {AS_OF}:")
    print(seen.to_string(index=False))

    # the leak guard: whatever is known only later may not move a feature
    later = pd.DataFrame(
        [
            ("globex", "2026-02-27", "2026-03-15", "portal_login"),
            ("globex", "2026-04-01", "2026-04-01", "portal_login"),
        ],
        columns=["partner_id", "occurred_at", "recorded_at", "event_type"],
    )
    reopened = DEALS.assign(amount=[1.0, 5000.0])
    again = features(pd.concat([EVENTS, later], ignore_index=True), reopened)
    same = data.X.astype(object).equals(again.X.astype(object))
    print(f"\nwith two later logins and another amount entered later, the features are the same: {same}")

    window = next(info for info in data.dictionary if info.name == LOGINS)
    print(f"\n{window.name}: {window.definition}")
    print(f"from {window.table} ({', '.join(window.columns)}); missing means: {window.null_rule}")


if __name__ == "__main__":
    main()
