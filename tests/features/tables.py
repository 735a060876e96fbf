"""Small ecosystems for the tests of the features: lists of dicts, and strategies that draw awkward ones."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import math

import ibis
import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from partnerml import schema
from partnerml.features import _measure as measure
from partnerml.features._measures import MEASURES
from partnerml.features._spine import keys_table, spine_from
from partnerml.features._spine import moments as moments_of

TYPES = {
    schema.Type.TIMESTAMP: pa.timestamp("us"),
    schema.Type.NUMBER: pa.float64(),
    schema.Type.AMOUNT: pa.float64(),
    schema.Type.SHARE: pa.float64(),
    schema.Type.LATITUDE: pa.float64(),
    schema.Type.LONGITUDE: pa.float64(),
    schema.Type.INTEGER: pa.int64(),
    schema.Type.BOOLEAN: pa.bool_(),
    schema.Type.LIST: pa.list_(pa.string()),
}
START = dt.datetime(2025, 3, 1)  # noqa: DTZ001 (naive UTC, as inside the engine)
DAY = dt.timedelta(days=1)
TICK = dt.timedelta(microseconds=1)
PARTNERS = ("A", "B", "C", "D", "E", "F")
EVENT_TYPES = ("login", "portal__visit", "survey")
WINDOWS = (1, 7, 30, 60, 90)
MIDNIGHTS = (START, START + 9 * DAY, START + 31 * DAY, START + 120 * DAY)
OFF_MIDNIGHT = (START, START + 9 * DAY + dt.timedelta(hours=12, minutes=30), START + 10 * DAY, START + 31 * DAY)

# an example compiles and runs a query: shrinking a failure would take minutes
quick = {
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
}


def every_key(as_of):
    """Every partner at every moment."""
    return pd.DataFrame(itertools.product(PARTNERS, as_of), columns=["partner_id", "as_of"])


def same(found, expected, *, tolerance=1e-12):
    """Whether a feature is what an oracle says: a number, a text, or None."""
    if expected is None or pd.isna(found):
        return expected is None and pd.isna(found)
    if isinstance(expected, str):
        return found == expected
    return math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)


def check_rows(data, names, expected):
    """Compare features of a dataset, row by row, with ``expected(name, partner_id, naive moment)``."""
    for i, (partner_id, moment) in enumerate(data.keys.itertuples(index=False)):
        for name in names:
            wanted = expected(name, partner_id, moment.to_pydatetime().replace(tzinfo=None))
            assert same(data.X[name].iloc[i], wanted), (name, partner_id, moment, data.X[name].iloc[i], wanted)


def family_columns(backend, tables, lags, keys, family, catalogue):
    """Return the columns of one family of features, as a frame by (partner_id, as_of) in the order of the keys."""
    with contextlib.closing(Tables(backend, tables, lags)) as eco:
        points = moments_of(list(keys["as_of"]))
        spine = spine_from(eco, keys_table(keys), points)
        found = family(eco, catalogue.features, catalogue=catalogue, spine=spine, as_of=points)
        assert set(found.columns) == {"slot", *catalogue.names}
        assert all(found[name].type().is_float64() for name in catalogue.names)
        both = spine.select("slot", "partner_id", "as_of").inner_join(found, "slot").drop("slot")
        frame = backend.to_pyarrow(both).to_pandas()
    assert len(frame) == len(keys)
    return frame.set_index(["partner_id", "as_of"]).loc[list(zip(keys["partner_id"], keys["as_of"], strict=True))]


_SPANS = {
    measure.DAYS: ("30d",),
    measure.DAYS_OR_EVER: ("90d", "ever"),
    measure.TWO_SPANS: ("7d_30d",),
    measure.WEEKS: ("12w",),
    measure.STREAK_WEEKS: ("12w",),
    measure.EVER: ("ever",),
}


def stream_names():
    """The whole catalogue of the stream: every measure of every source and kind."""
    found = []
    for entry in MEASURES:
        if entry.family is measure.Family.WINDOWS:
            for source, kinds in entry.on.items():
                for kind in kinds or ("all", "login", "other"):
                    found += [f"{source}__{kind}__{entry.name}__{window}" for window in _SPANS[entry.window]]
    return tuple(found)


class Tables:
    """The part of `Ecosystem` that the features use, over lists of dicts."""

    def __init__(self, backend, tables, lags=None):
        self.backend = backend
        self.lags = dict(lags or {})
        self._names = {}
        for name, rows in tables.items():
            self._names[name] = ibis.util.gen_name(name)
            backend.create_table(self._names[name], _arrow(name, rows), temp=True)
        # asking for a table describes it each time
        self._tables = {name: backend.table(stored) for name, stored in self._names.items()}

    @property
    def tables(self):
        return tuple(self._names)

    def table(self, name):
        return self._tables[name]

    def has(self, table, *columns):
        return table in self._names and set(columns) <= set(self.table(table).columns)

    def lag(self, table):
        return self.lags.get(table, dt.timedelta(0))

    def default_until(self):
        return START + 400 * DAY

    def close(self):
        for name in self._names.values():
            self.backend.drop_table(name)


def _arrow(name, rows):
    """Columns are those of any row, and the required ones."""
    table = schema.TABLES[name]
    present = {column for row in rows for column in row} | set(table.required)
    fields = []
    for column in [*table.names, *sorted(present - set(table.names))]:
        if column in present:
            declared = table.column(column)
            of_own = pa.bool_() if any(isinstance(row.get(column), bool) for row in rows) else pa.string()
            fields.append(pa.field(column, TYPES.get(declared.type, pa.string()) if declared else of_own))
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def moments(as_of, before=400):
    """Draw moments that love edges: as_ofs, window edges, midnights, and one microsecond beside them."""
    edges = sorted({moment - days * DAY for moment in as_of for days in (0, *WINDOWS)})
    ticks = st.sampled_from((-TICK, dt.timedelta(0), TICK))
    at_edge = st.builds(lambda edge, tick: edge + tick, st.sampled_from(edges), ticks)
    times = st.sampled_from([dt.timedelta(0), dt.timedelta(hours=12, minutes=30), DAY - TICK])
    on_day = st.builds(lambda day, time: START + day * DAY + time, st.integers(-before, 150), times)
    return st.one_of(at_edge, on_day)


DELAYS = st.sampled_from([None, None, dt.timedelta(0), TICK, dt.timedelta(hours=13), DAY, 9 * DAY, 25 * DAY, 200 * DAY])


def _later(moment, delay):
    return None if moment is None or delay is None else moment + delay


def events(as_of, *, size=60):
    """Draw rows of ``events``."""

    def row(partner, moment, type_, value, actor, delay):
        return {
            "partner_id": partner,
            "occurred_at": moment,
            "event_type": type_,
            "value": value,
            "actor": actor,
            "recorded_at": _later(moment, delay),
        }

    values = st.one_of(st.none(), st.integers(-500, 500).map(lambda cents: cents / 100))
    one = st.builds(
        row,
        st.sampled_from(PARTNERS),
        moments(as_of),
        st.sampled_from((*EVENT_TYPES, "rare")),
        values,
        st.sampled_from([None, "partner", "partner", "vendor"]),
        DELAYS,
    )
    return st.integers(0, size).flatmap(lambda n: st.lists(one, min_size=n, max_size=n))


def deals(as_of, *, size=20):
    """Draw rows of ``deals``; some are direct, some closed later than any as_of."""

    def row(number, partner, moment, outcome, after, amount, delay, closed_delay):
        closed = None if outcome == "open" else moment + after
        return {
            "deal_id": f"D{number}",
            "partner_id": partner,
            "registered_at": moment,
            "outcome": outcome,
            "closed_at": closed,
            "amount": amount,
            "recorded_at": _later(moment, delay),
            "closed_recorded_at": _later(closed, closed_delay),
        }

    one = st.tuples(
        st.sampled_from((*PARTNERS, None)),
        moments(as_of),
        st.sampled_from(("open", "won", "won", "lost", "cancelled")),
        st.sampled_from([dt.timedelta(0), TICK, DAY, 30 * DAY, 200 * DAY]),
        st.one_of(st.none(), st.integers(0, 100_000).map(lambda cents: cents / 100)),
        DELAYS,
        DELAYS,
    )
    return st.lists(one, max_size=size).map(lambda rows: [row(i, *values) for i, values in enumerate(rows)])


def shares(deal_rows):
    """Draw rows of ``deal_partners`` for some of the deals."""
    if not deal_rows:
        return st.just([])

    def row(deal, partner, share, primary):
        return {"deal_id": deal["deal_id"], "partner_id": partner, "share": share, "is_primary": primary}

    one = st.builds(
        row,
        st.sampled_from(deal_rows),
        st.sampled_from(PARTNERS),
        st.sampled_from([None, None, 0.25, 0.5, 1.0]),
        st.sampled_from([None, True, False]),
    )
    return st.lists(one, max_size=8, unique_by=lambda r: (r["deal_id"], r["partner_id"]))


def certifications(as_of):
    """Draw rows of ``certifications``."""

    def row(partner, moment, delay):
        return {
            "partner_id": partner,
            "certification": "sales",
            "earned_at": moment,
            "recorded_at": _later(moment, delay),
        }

    return st.lists(st.builds(row, st.sampled_from(PARTNERS), moments(as_of), DELAYS), max_size=6)


@st.composite
def ecosystems(draw, as_of):
    """Draw (tables, lags): every optional table and column may be absent."""
    partners = [{"partner_id": name} for name in PARTNERS]
    for row in partners:
        row["joined_at"] = draw(st.one_of(st.none(), moments(as_of)))
        row["left_at"] = draw(st.one_of(st.none(), st.none(), moments(as_of)))
        row["country"] = draw(st.sampled_from([None, "DE", "FR"]))
        row["latitude"] = draw(st.sampled_from([None, 1.5, -3.0]))
    tables = {"partners": partners}
    if draw(st.integers(0, 9)):
        tables["events"] = draw(events(as_of))
    if draw(st.integers(0, 3)):
        tables["deals"] = draw(deals(as_of))
        if draw(st.booleans()):
            tables["deal_partners"] = draw(shares(tables["deals"]))
    if draw(st.booleans()):
        tables["certifications"] = draw(certifications(as_of))
    if draw(st.booleans()):
        rows = st.builds(
            lambda partner, moment, country, tier: {
                "partner_id": partner,
                "valid_from": moment,
                "country": country,
                "tier": tier,
            },
            st.sampled_from(PARTNERS),
            moments(as_of),
            st.sampled_from([None, "DE", "US"]),
            st.sampled_from([None, "gold", "silver"]),
        )
        key = lambda row: (row["partner_id"], row["valid_from"])  # noqa: E731
        tables["partner_history"] = draw(st.lists(rows, min_size=1, max_size=6, unique_by=key))
    dropped = draw(st.sampled_from([(), (), ("recorded_at", "closed_recorded_at"), ("actor", "value", "amount")]))
    tables = {name: [_without(row, dropped) for row in rows] for name, rows in tables.items()}
    lag = st.sampled_from([dt.timedelta(0), dt.timedelta(0), TICK, dt.timedelta(hours=12), 2 * DAY])
    lags = {name: draw(lag) for name in ("events", "deals", "certifications", "partner_history", "partners")}
    return tables, lags


def _without(row, columns):
    return {name: value for name, value in row.items() if name not in columns}
