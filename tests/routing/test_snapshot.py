"""Snapshots: what they are made of, that they come back as they were, and that a damaged one is refused."""

import datetime as dt
import json
import pathlib
import random

import numpy as np
import pandas as pd
import pytest
from tests.routing.made_up import AS_OF, columns, snapshot

from partnerml.errors import ConfigError, DataError, ModelError, SourceError
from partnerml.pairs._state import to_state
from partnerml.routing._partners import Account
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._snapshot_files import current, encode, publish_current

UTC = dt.UTC
PARTNERS = [
    {
        "partner_id": "p10",
        "country": "DE",
        "verticals": ["manufacturing", "retail"],
        "languages": ["de", "en"],
        "time_zone": "Europe/Berlin",
        "capacity_per_day": 3,
        "joined_at": dt.datetime(2025, 1, 1, 12, tzinfo=UTC),
        "flags": ["esg"],
        "margin": 3.5,
        "segment": "north",
    },
    {"partner_id": "p9", "max_open_leads": 5, "paused_until": "2026-07-01", "latitude": 1.0, "longitude": 2.0},
    {"partner_id": "p1", "tier": "gold", "time_zone": "Asia/Tokyo", "min_deal_amount": 100.0},
]
MORE = {
    "territories": [
        {"partner_id": "p9", "country": "FR", "exclusive": True},
        {"partner_id": "p10", "region": "DE-BE", "valid_from": "2027-01-01", "verticals": ["retail"]},
        {"partner_id": "p10", "latitude": 50.0, "longitude": 8.0, "radius_km": 80.0, "valid_to": "2026-01-01"},
    ],
    "certifications": [
        {"partner_id": "p9", "certification": "iso", "earned_at": "2025-01-01", "expires_at": "2026-01-01"},
        {"partner_id": "p1", "certification": "iso", "earned_at": "2025-01-01"},
        {"partner_id": "p1", "certification": "cloud", "earned_at": "2025-01-01", "revoked_at": "2027-01-01"},
    ],
    "accounts": [
        {"account_id": "a2", "name": "Acme GmbH", "domain": "WWW.Acme.com", "owner_partner_id": "p1"},
        {"account_id": "a1", "name": "Foo"},
    ],
    "deals": [
        {
            "deal_id": "d2",
            "partner_id": "p9",
            "registered_at": "2026-05-02",
            "outcome": "open",
            "registration_status": "approved",
            "account_id": "a2",
        },
        {
            "deal_id": "d1",
            "partner_id": "p1",
            "registered_at": "2026-05-01",
            "outcome": "open",
            "registration_status": "pending",
            "account_id": "a2",
            "protected_until": "2026-09-01",
            "country": "DE",
        },
        {
            "deal_id": "d3",
            "partner_id": "p1",
            "registered_at": "2026-05-01",
            "outcome": "open",
            "registration_status": "denied",
        },
        {
            "deal_id": "d4",
            "partner_id": "p1",
            "registered_at": "2026-05-01",
            "outcome": "won",
            "registration_status": "approved",
        },
    ],
    "leads": [
        {"lead_id": "old", "created_at": "2026-01-01"},
        {"lead_id": "l2", "created_at": "2026-05-20", "account_name": "Bar AG", "domain": "bar.de"},
        {"lead_id": "l1", "created_at": "2026-05-10", "account_id": "a1"},
    ],
    "assignments": [
        {"lead_id": "l1", "partner_id": "p9", "assigned_at": "2026-05-11", "response": "declined"},
        {"lead_id": "l1", "partner_id": "p1", "assigned_at": "2026-05-12", "response": "accepted"},
        {"lead_id": "l1", "partner_id": "p10", "assigned_at": "2026-05-13", "response": "expired"},
        {"lead_id": "l2", "partner_id": "p9", "assigned_at": "2026-05-21"},
    ],
    "cells": [
        {"partner_id": "p9", "dimension": "all", "value": "", "closed": 14, "won": 9, "days": 300},
        {"partner_id": "p9", "dimension": "vertical", "value": "retail", "closed": 4, "won": 3, "days": 90},
    ],
}
CONFIG = {
    "order": ["capacity"],
    "rules": {"language": {"missing": "pass"}},
    "tiers": {"gold": 5000.0},
    "split": {"share": 0.2, "policy": {"kind": "softmax"}},
    "batch": {"shares": [{"column": "tier", "value": "gold", "least": 0.1}]},
    "max_snapshot_age": "2d",
}


def full(**changes) -> Snapshot:
    return snapshot(PARTNERS, **{**MORE, "config": CONFIG, **changes})


def test_partners_lie_in_the_order_of_their_ids():
    partners = full().partners
    assert partners.partner_id.tolist() == ["p1", "p10", "p9"]
    assert [partners.row(name) for name in ("p9", "p1", "p2")] == [2, 0, None]
    assert partners.tier.tolist() == ["gold", None, None]
    np.testing.assert_array_equal(partners.capacity_per_day, [np.nan, 3, np.nan])
    assert partners.time_zones == ("Asia/Tokyo", "Europe/Berlin")
    assert partners.time_zone.tolist() == [0, 1, -1]
    assert partners.flags == (frozenset(), frozenset({"esg"}), frozenset())
    assert partners.flagged["esg"].tolist() == [False, True, False]
    assert partners.joined_at[1] == np.datetime64("2025-01-01T12:00")
    assert np.isnat(partners.joined_at[0])
    assert partners.paused_until[2] == np.datetime64("2026-07-01")
    np.testing.assert_array_equal(partners.column("margin"), [np.nan, 3.5, np.nan])
    assert partners.column("segment").tolist() == [None, "north", None]
    assert partners.column("time_zone").tolist() == ["Asia/Tokyo", "Europe/Berlin", None]
    assert partners.column("tier") is partners.tier
    assert partners.column("nonsense") is None


def test_rows_of_territories_and_certifications_keep_their_dates():
    made = full()
    areas = made.territories
    assert areas["row"].tolist() == [1, 1, 2]
    assert areas["exclusive"].tolist() == [False, False, True]
    assert np.isnat(areas["valid_from"]).tolist() == [False, True, True]
    # in the same order as the kernels have them
    assert (made.facts.territories.region >= 0).tolist() == [True, False, False]
    assert made.facts.territories.circle.tolist() == [False, True, False]
    held = made.certifications
    assert [held.names[code] for code in held.code] == ["cloud", "iso", "iso"]
    assert held.row.tolist() == [0, 0, 2]
    assert np.isnat(held.revoked_at).tolist() == [False, True, True]
    # the facts hold those that are valid at the moment
    assert made.facts.certifications.rows.everything.count.tolist() == [2, 0, 0]


def test_deals_accounts_and_leads():
    made = full()
    assert [deal.deal_id for deal in made.deals.every] == ["d1", "d2"]
    assert [deal.row for deal in made.deals.by_account["a2"]] == [0, 2]
    first = made.deals.by_domain["acme.com"][0]
    assert (first.status, first.name, first.country) == ("pending", "Acme GmbH", "DE")
    assert first.protected_until == dt.datetime(2026, 9, 1, tzinfo=UTC)
    assert made.accounts.get("a2") == Account("Acme GmbH", "acme.com", None, 0)
    assert made.accounts.get("a1") == Account("Foo", None, None, -1)
    assert made.accounts.get("a3") is None
    assert made.accounts.of_domain("acme.com") == made.accounts.get("a2")
    assert made.accounts.of_domain("foo.com") is None
    assert [(lead.lead_id, lead.partner_id, lead.name, lead.domain) for lead in made.leads] == [
        ("l1", "p1", None, None),
        ("l2", "p9", "bar", "bar.de"),
    ]


def test_how_likely_partners_accept():
    # one of three answered was accepted; each partner is drawn toward that
    np.testing.assert_allclose(full().acceptance, [(1 + 10 / 3) / 11, (10 / 3) / 11, (10 / 3) / 11])
    assert snapshot(2).acceptance.tolist() == [1.0, 1.0]


def rates(**changes) -> Snapshot:
    return full(prices={"p9": 0.25}, **changes)


def test_a_written_snapshot_comes_back(tmp_path):
    made = rates()
    folder = made.write(tmp_path)
    assert folder == tmp_path / made.id
    again = Snapshot.open(folder)
    assert again.id == made.id
    assert encode(again) == encode(made)
    assert again.as_of == AS_OF
    assert again.config == made.config
    assert again.leads == made.leads
    assert again.deals.every == made.deals.every
    np.testing.assert_array_equal(again.prices, [0, 0, 0.25])
    np.testing.assert_array_equal(again.acceptance, made.acceptance)
    (one, arrays), (other, same) = (to_state(part.facts) for part in (made, again))
    assert one == other
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, same[name], err_msg=name)
    assert again.facts.partner_id.tolist() == made.facts.partner_id.tolist()


def test_the_same_content_has_the_same_id_and_bytes_whatever_the_order_and_kind_of_frame(tmp_path):
    made = rates()
    shuffled = random.Random(3)
    moved = {name: shuffled.sample(rows, len(rows)) for name, rows in MORE.items()}
    other = snapshot(PARTNERS[::-1], **{**MORE, **moved, "config": CONFIG, "prices": {"p9": 0.25}})
    assert other.id == made.id
    frames = {name: pd.DataFrame(columns(rows)) for name, rows in {**MORE, "partners": PARTNERS}.items()}
    for frame in frames.values():
        for name in frame:
            if name.endswith(("_at", "_from", "_to", "_until")):
                frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    of_frames = Snapshot.of(as_of=AS_OF, **frames, prices=made.prices, config=made.config)
    assert of_frames.id == made.id
    made.write(tmp_path / "a")
    of_frames.write(tmp_path / "b")
    a, b = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).rglob("*")) if path.is_file()}
        for name in ("a", "b")
    )
    assert a == b


def test_any_other_content_has_another_id():
    found = [
        rates(),
        full(),
        rates(as_of=AS_OF + dt.timedelta(days=1)),
        rates(config=None),
        rates().with_prices([1, 2, 3]),
    ]
    found += [rates(**{name: None}) for name in MORE]
    assert len({made.id for made in found}) == len(found)


def test_one_that_is_there_stays_and_one_that_is_damaged_is_written_again(tmp_path):
    made = rates()
    folder = made.write(tmp_path)
    before = (folder / "snapshot.json").stat().st_mtime_ns
    made.write(tmp_path)
    assert (folder / "snapshot.json").stat().st_mtime_ns == before
    (folder / "snapshot.json").write_text("{}")
    made.write(tmp_path)
    assert Snapshot.open(folder).id == made.id


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    made, written = rates(), pathlib.Path.write_bytes

    def full_disk(path, content):
        if path.name == "prices.npy":
            raise OSError("no space left on device")
        return written(path, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        made.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_current_names_the_one_to_route_by(tmp_path):
    one, other = rates(), full()
    for made in (one, other):
        publish_current(tmp_path, made.write(tmp_path).name)
        assert current(tmp_path) == made.id
        assert Snapshot.open(tmp_path / "current").id == made.id
    with pytest.raises(SourceError, match=r"there is no snapshot 'abc' in .*publish it first"):
        publish_current(tmp_path, "abc")
    assert current(tmp_path) == other.id
    (tmp_path / "current").write_text("../../etc\n")
    with pytest.raises(SourceError, match=r"current must hold the id of a snapshot, got '../../etc'"):
        Snapshot.open(tmp_path / "current")
    with pytest.raises(SourceError, match=r"does not name a snapshot .* run partnerml publish first"):
        current(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return rates().write(tmp_path_factory.mktemp("snapshots"))


FILES = sorted(encode(rates()))


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(written, name, tmp_path):
    folder = copied(written, tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"is damaged: {name} changed since it was written; publish it again"):
        Snapshot.open(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"is damaged: 1 file\(s\) missing: {name}"):
        Snapshot.open(folder)


def test_a_manifest_of_another_digest_is_written_again(written, tmp_path):
    folder = copied(written, tmp_path)
    _changed(folder, id="0" * 12)
    with pytest.raises(ModelError, match=r"its id is not that of its files; publish it again"):
        Snapshot.open(folder)
    assert Snapshot.open(written).write(tmp_path) == folder
    assert Snapshot.open(folder).id == written.name


def copied(folder: pathlib.Path, where: pathlib.Path) -> pathlib.Path:
    for path in folder.rglob("*"):
        if path.is_file():
            to = where / folder.name / path.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())
    return where / folder.name


def _changed(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: _changed(f, format=2), ModelError, r"written by a newer partnerml \(format 2, this one reads 1\)"),
        (lambda f: _changed(f, format=0), ModelError, "written by an older partnerml"),
        (lambda f: _changed(f, kind="partnerml model"), ModelError, "its kind is 'partnerml model', not"),
        (lambda f: _changed(f, id="0" * 12), ModelError, r"manifest.json is damaged: its id is not that of its files"),
        (lambda f: _changed(f, files=[]), ModelError, "is not that of a snapshot"),
        (lambda f: (f / "manifest.json").write_text("{"), ModelError, "manifest.json is damaged"),
        (lambda f: (f / "manifest.json").unlink(), SourceError, "has no manifest.json: it is no snapshot"),
        (lambda f: (f / "more.txt").write_text("x"), ModelError, r"holds 1 file\(s\) that are not part"),
    ],
)
def test_a_folder_that_is_no_snapshot_of_ours(written, tmp_path, spoil, error, message):
    folder = copied(written, tmp_path)
    spoil(folder)
    with pytest.raises(error, match=message):
        Snapshot.open(folder)


def test_there_is_none(tmp_path):
    with pytest.raises(SourceError, match="nothing is not there: it is no snapshot; run partnerml publish"):
        Snapshot.open(tmp_path / "nothing")


def test_a_function_cannot_be_written(tmp_path):
    with pytest.raises(ConfigError, match="a snapshot with the scorer 'callable' cannot be written: it is code"):
        snapshot(2, p={"p0": 0.5}).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"partners": {"name": ["a"]}}, "partners: partner_id is null in 1 row"),
        ({"partners": {"partner_id": ["a", "b", "a"]}}, r"partners: 1 key\(s\) come more than once, first 'a'"),
        ({"partners": {"partner_id": ["a"], "latitude": ["north"]}}, "partners.latitude must hold values of the type"),
        (
            {"partners": {"partner_id": ["a"]}, "prices": [1.0, 2.0]},
            "prices must be one finite number for each of the 1",
        ),
        ({"partners": {"partner_id": ["a"]}, "prices": [np.nan]}, "prices must be one finite number"),
        ({"partners": {"partner_id": ["a"]}, "known": snapshot(2).facts}, "is not of those in the table partners"),
    ],
)
def test_tables_that_break_their_schema(given, message):
    with pytest.raises(DataError, match=message):
        Snapshot.of(as_of=AS_OF, **given)


def test_nothing_at_all(tmp_path):
    made = snapshot(0)
    assert len(Snapshot.open(made.write(tmp_path))) == 0
