"""What can be said about a lead and a partner: measures of the close task."""

from __future__ import annotations

from collections.abc import Iterator

from partnerml.features._measure import AS_OF, EVER, LIVE, ZERO, Family, Measure

_WORKED = "deals+assignments"
_OUTCOMES = ("outcome", "closed_at", "vertical", "country", "amount")
_HELD = ("assigned_at", "response", "responded_at", "outcome", "closed_at")


def pair_measures() -> Iterator[Measure]:
    """Yield what is said of a lead and a partner, as of 00:00 UTC of the day of assignment."""
    p = Family.PAIRS
    for kind, name, unit, rule, words, table, columns in (
        (
            "place", "distance_km", "km", "null without the coordinates of both",
            "distance to the customer in km", "leads+partners", ("latitude", "longitude"),
        ),
        (
            "place", "given_km", "km", "null if it handed the lead in itself, or without the coordinates of both",
            "distance in km to the customer of a lead that it did not hand in itself",
            "leads+partners", ("latitude", "longitude", "source_partner_id"),
        ),
        (
            "place", "level", "level", "null if the country of either is unknown",
            "how near its office is (0 other country, 1 same country, 2 same region, 3 same postal area)",
            "leads+partners", ("country", "region", "postal_code"),
        ),
        (
            "territory", "level", "level", "null if it has no territory: it is unrestricted",
            "how closely its territory holds the lead (0 not, 1 country or wider, 2 region or circle, 3 postal area)",
            "leads+territories", ("country", "region", "postal_prefix", "radius_km", "verticals"),
        ),
        (
            "vertical", "similarity", "ratio", "null if the industry of either is unknown",
            "how much of the lead's industry code one of its own shares", "leads+partners", ("vertical", "verticals"),
        ),
        (
            "language", "coverage", "ratio", "null if the lead names none, or the partner's are unknown",
            "share of the lead's languages that it speaks", "leads+partners", ("languages",),
        ),
        (
            "certification", "coverage", "ratio", "null if the lead asks for none",
            "share of the required certifications that it holds", "leads+certifications",
            ("required_certifications", "certification", "earned_at", "expires_at", "revoked_at"),
        ),
        (
            "source", "own", "flag", "0 if another partner or nobody handed it in",
            "whether it handed the lead in itself (1 or 0)", "leads", ("source_partner_id",),
        ),
        ("all", "tenure_days", "days", "null without a joining date", "days since joining", "partners", ("joined_at",)),
    ):  # fmt: skip
        yield Measure(name, {"pair": (kind,)}, AS_OF, p, unit, rule, words, columns, words, table=table)
    yield Measure(
        "log_ratio", {"pair": ("size",)}, EVER, p, "log ratio",
        "null without the lead's amount, or without won deals that have one",
        "size of the lead against the deals that it has won (log; 0: as large as their mean)", ("amount",),
        "size of the lead", table=_WORKED,
    )  # fmt: skip
    yield from _track_record(p)
    yield Measure(
        "open_leads", {"pair": ("load",)}, LIVE, p, "count", ZERO, "leads that it holds open", _HELD, "open leads",
        table="assignments",
    )  # fmt: skip
    yield Measure(
        "share", {"pair": ("load",)}, LIVE, p, "ratio", "null without a known limit (partner_history.max_open_leads)",
        "share of its limit of open leads that is taken", (*_HELD, "max_open_leads"), "open leads",
        table="assignments+partner_history",
    )  # fmt: skip


def _track_record(p: Family) -> Iterator[Measure]:
    """Yield what is said of the deals and leads that the partner closed, all of them or those like this one."""
    unsaid = "or if the lead does not say which"
    for name, unit, rule, words, subject in (
        ("win_rate", "ratio", f"null if nobody's closed, {unsaid}",
         "share of its closed deals and leads{where} that it won, allowing for small numbers",
         "win rate{where}"),
        ("cycle_days", "days", f"null if nobody won any, {unsaid}",
         "mean days to win{where}, allowing for small numbers", "days to win{where}"),
        ("count", "count", f"{ZERO}; null if the lead does not say which", "deals and leads{where} that it closed",
         "closed deals{where}"),
        ("won", "count", f"{ZERO}; null if the lead does not say which", "deals and leads{where} that it won",
         "won deals{where}"),
    ):  # fmt: skip
        kinds = ("all", "vertical", "country", "size")
        yield Measure(
            name, {"pair": kinds}, EVER, p, unit, rule, words, _OUTCOMES, subject, table=_WORKED,
        )  # fmt: skip
