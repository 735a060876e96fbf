"""Names parse back, catalogues are values, and what the default one holds."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features import tables as made

from partnerml.errors import ConfigError
from partnerml.features import Activity, Catalogue, Feature, default_catalogue, describe

DAY, START = made.DAY, made.START
SLUGS = st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True)


@given(SLUGS, st.sampled_from(["count__30d", "value__ever", "count_ratio__7d_30d", "recency_days__ever"]))
def test_names_parse_back_whatever_the_event_type(kind, rest):
    measure, window = rest.split("__")
    feature = Feature("events", kind, measure, window)
    assert Feature.parse(feature.name) == feature


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logins", "is not the name of a feature"),
        ("events__login__counts__30d", "no measure 'counts'"),
        ("deals__won__value__30d", "value exists for events"),
        ("events__login__count__30", "window '30' does not fit count"),
        ("events__login__count__0d", "window '0d' does not fit count"),
        ("events__login__count_ratio__30d", "does not fit count_ratio"),
        ("deals__open__count__30d", "window '30d' does not fit count of deals, which takes no window: write asof"),
        ("deals__owned__count__30d", "count of deals has the kinds all, registered, won, lost, open"),
        ("events__login__distinct_types__30d", "distinct_types of events has the kinds all"),
        ("partners__country__trait__30d", "does not fit trait"),
        ("activity__all__count_trend__1w", "does not fit count_trend"),
    ],
)
def test_a_name_that_is_no_feature_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        Feature.parse(name)


def test_a_catalogue_survives_json_and_keeps_its_vocabulary():
    catalogue = Catalogue(
        (Feature.parse("events__login__count__30d"), Feature.parse("events__other__count__90d")),
        event_types=("login",),
        activity=Activity(exclude=("deals",)),
        static_traits=("country",),
    )
    assert Catalogue.from_dict(json.loads(json.dumps(catalogue.to_dict()))) == catalogue
    only = catalogue.only(["events__other__count__90d"])
    assert only.names == ("events__other__count__90d",)
    assert only.event_types == catalogue.event_types


def test_a_catalogue_refuses_what_it_cannot_mean():
    login = Feature.parse("events__login__count__30d")
    with pytest.raises(ConfigError, match="1 feature\\(s\\) are listed twice, first events__login__count__30d"):
        Catalogue((login, login), event_types=("login",))
    with pytest.raises(ConfigError, match="'login', which is not among the event types survey"):
        Catalogue((login,), event_types=("survey",))
    with pytest.raises(ConfigError, match="1 of 1 features are not in it, first events__login__count__7d"):
        Catalogue((login,), event_types=("login",)).only(["events__login__count__7d"])
    with pytest.raises(ConfigError, match="61 event types, at most 60"):
        Catalogue((), event_types=tuple(f"t{i}" for i in range(61)))


def event(kind, days=-1, **columns):
    return {"partner_id": "A", "occurred_at": START + days * DAY, "event_type": kind, **columns}


def default(backend, rows):
    tables = {"partners": [{"partner_id": "A", "joined_at": START - 400 * DAY}], "events": rows}
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        return default_catalogue(eco, before=START)


def test_event_types_are_those_known_before_the_first_as_of(backend):
    rows = [event("login"), event("survey", recorded_at=START), event("demo", 0), event("training")]
    assert default(backend, rows).event_types == ("login", "training")


def test_rare_event_types_are_folded_into_other(backend):
    rows = [event(f"t{i:02d}") for i in range(25) for _ in range(30 - i)] + [event("all")] * 99
    catalogue = default(backend, rows)
    assert catalogue.event_types == tuple(f"t{i:02d}" for i in range(20))
    assert "events__other__count__90d" in catalogue.names
    assert not any(name.startswith("events__t24__") for name in catalogue.names)


def test_what_bgnbd_reads_is_always_there(backend):
    with contextlib.closing(made.Tables(backend, {"partners": [{"partner_id": "A"}]})) as eco:
        names = default_catalogue(eco, before=START).names
    for measure in ("active_days", "recency_days", "age_days"):
        assert f"activity__all__{measure}__ever" in names


def test_every_feature_has_words(backend):
    rows = [event("portal_login", value=1.0), event("survey"), event("cert_exam")]
    tables = {
        "partners": [{"partner_id": "A", "joined_at": START, "country": "DE"}],
        "events": rows,
        "deals": [{"deal_id": "1", "registered_at": START, "outcome": "won", "closed_at": START, "amount": 1.0}],
        "certifications": [{"partner_id": "A", "certification": "sales", "earned_at": START}],
    }
    with contextlib.closing(made.Tables(backend, tables)) as eco:
        catalogue = default_catalogue(eco, before=START)
    infos = {feature.name: describe(feature) for feature in catalogue.features}
    for info in infos.values():
        assert all((info.definition, info.words, info.subject, info.group, info.unit, info.null_rule, info.columns))
    assert len({info.words for info in infos.values()}) == len(infos)
    login = infos["events__portal_login__count__30d"]
    assert (login.words, login.subject) == ("portal logins in the last 30 days", "portal logins")
    assert (login.group, login.window_days, login.table) == ("events__portal_login", 30, "events")
    assert infos["deals__won__amount__365d"].subject == "won revenue"
    assert infos["deals__won__amount__365d"].columns == ("closed_at", "outcome", "amount")
    assert infos["events__survey__recency_days__ever"].words == "days since the last of the surveys"
