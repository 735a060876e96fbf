"""Publishing: tables, features and the registered model of an ecosystem as one folder that routing opens."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest
from tests.routing.made_up_close import DAY, close_model

from partnerml.config import Config
from partnerml.errors import ConfigError, NoChampionError
from partnerml.features import Catalogue, build_rows
from partnerml.models import Registry
from partnerml.progress import Progress
from partnerml.publishing import publish, snapshot_of, snapshots_folder
from partnerml.routing._scorer import wanted
from partnerml.routing._snapshot import Snapshot
from partnerml.routing._snapshot_files import current, encode

pytestmark = [pytest.mark.xdist_group("routing-close"), pytest.mark.slow]


@pytest.fixture(scope="module")
def close():
    return close_model()


@pytest.fixture(scope="module")
def eco(close, tmp_path_factory):
    out = tmp_path_factory.mktemp("published")
    config = Config.of_source(None, [f"output={out}", "routing.first_stage.keep=50", "engine.threads=2"])
    with close.open(config=config) as opened:
        yield opened


def test_without_a_model_it_says_what_to_do(eco):
    with pytest.raises(NoChampionError, match="there is no model of close to route by: run partnerml train close"):
        publish(eco, as_of=DAY)
    assert not snapshots_folder(eco.config).exists()


@pytest.fixture(scope="module")
def published(eco, close):
    registry = Registry(eco.config.tracking_uri)
    registry.register("close", registry.log_run("close", close.model), alias="challenger")
    return publish(eco, as_of=DAY, progress=Progress.silent())


def test_it_is_the_one_to_route_by(eco, close, published):
    assert published.parent == snapshots_folder(eco.config)
    assert current(snapshots_folder(eco.config)) == published.name
    opened = Snapshot.open(snapshots_folder(eco.config) / "current")
    assert opened.id == published.name
    assert opened.scorer.version == close.model.version
    assert opened.versions["model"] == "challenger"
    assert opened.versions["model_version"] == close.model.version
    assert opened.config.first_stage.keep == 50
    assert opened.as_of == DAY
    manifest = json.loads((published / "manifest.json").read_text())
    assert "model/blend.json" in manifest["files"]


def test_again_it_is_the_same_to_the_last_byte(eco, published, close):
    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}
    assert publish(eco, as_of=DAY) == published
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before
    config = Config.of_source(None, ["engine.threads=1", "routing.first_stage.keep=50"])
    with close.open(config=config) as alone:
        one = encode(snapshot_of(alone, as_of=DAY, model=close.model))
    # but for what says where the model came from
    assert {name for name, content in one.items() if content != (published / name).read_bytes()} == {"snapshot.json"}


def test_a_champion_comes_before_a_challenger_and_old_snapshots_stay(eco, published):
    registry = Registry(eco.config.tracking_uri)
    registry.promote("close", 1)
    later = publish(eco, as_of=DAY)
    assert later != published
    assert published.is_dir()
    assert Snapshot.open(snapshots_folder(eco.config) / "current").versions["model"] == "champion"


def test_features_are_those_of_the_day_and_rules_read_current_values(eco, close, published):
    opened = Snapshot.open(published)
    names = [name for name in wanted(close.model) if not name.startswith("pair__")]
    keys = pd.DataFrame({"partner_id": opened.partners.partner_id.astype(str), "as_of": pd.Timestamp(DAY)})
    built = build_rows(eco, keys, catalogue=Catalogue.from_dict(close.model.catalogue).only(names))
    assert built.keys["partner_id"].tolist() == opened.partners.partner_id.tolist()
    columns = opened.scorer._quick.columns
    frame = columns.decode(np.asarray(opened.scorer.codes))[names]
    for name in names:
        if name in columns.vocabulary:
            known = built.X[name].astype(object).where(built.X[name].isin(columns.vocabulary[name]))
            assert frame[name].astype(object).fillna("").tolist() == known.fillna("").tolist()
        else:
            np.testing.assert_array_equal(frame[name], built.X[name].to_numpy(dtype=np.float64))
    table = close.tables["partners"].to_pandas().set_index("partner_id").loc[opened.partners.partner_id]
    limits = table["max_open_leads"].to_numpy(dtype=np.float64, na_value=np.nan)
    np.testing.assert_array_equal(opened.partners.max_open_leads, limits)


def test_tables_are_those_of_today(close, published):
    opened = Snapshot.open(published)
    deals = close.tables["deals"].to_pandas()
    live = deals[(deals["outcome"] == "open") & deals["registration_status"].isin(["approved", "pending"])]
    assert {deal.deal_id for deal in opened.deals.every} == set(live["deal_id"])
    leads = close.tables["leads"].to_pandas()
    recent = leads[leads["created_at"] >= DAY - dt.timedelta(days=90)]
    assert {lead.lead_id for lead in opened.leads} == set(recent["lead_id"])
    assert len(opened.accounts) == len(close.tables["accounts"])
    made = close.tables["assignments"].to_pandas().sort_values("assigned_at")
    kept = made[~made["response"].isin(["declined", "expired", "withdrawn"])]
    holder = kept.groupby("lead_id")["partner_id"].last()
    for lead in opened.leads:
        assert lead.partner_id == holder.get(lead.lead_id)
    assert ((opened.acceptance > 0) & (opened.acceptance < 1)).all()


def test_open_leads_are_those_that_were_held_that_day(close, published):
    """Held against a walk over the rows: given before, and not known by then to be refused, closed or a closed deal."""
    day = pd.Timestamp(DAY).tz_localize(None)
    naive = {name: close.tables[name].to_pandas() for name in ("assignments", "deals")}
    for frame in naive.values():
        for name in frame.select_dtypes("datetimetz"):
            frame[name] = frame[name].dt.tz_convert("UTC").dt.tz_localize(None)
    deals = naive["deals"]
    closed = deals[deals["outcome"].isin(["won", "lost", "cancelled"]) & deals["closed_at"].notna()]
    known = closed.get("closed_recorded_at", closed["closed_at"]).fillna(closed["closed_at"])
    ended = set(zip(closed["lead_id"][known < day], closed["partner_id"][known < day], strict=True))
    held = set()
    for row in naive["assignments"].itertuples():
        if row.assigned_at >= day or (row.lead_id, row.partner_id) in ended:
            continue
        refused = row.response in ("declined", "expired", "withdrawn")
        answered = row.responded_at if pd.notna(row.responded_at) else row.assigned_at
        over = row.outcome in ("won", "lost", "cancelled")
        recorded = getattr(row, "closed_recorded_at", None)
        when = next((at for at in (recorded, row.closed_at) if pd.notna(at)), row.assigned_at)
        if not (refused and answered < day) and not (over and when < day):
            held.add((row.lead_id, row.partner_id))
    assert held
    assert set(Snapshot.open(published).held) == held


def test_a_day_begins_at_midnight(eco, close):
    with pytest.raises(ConfigError, match="a snapshot is as of 00:00 UTC of a day"):
        snapshot_of(eco, as_of="2025-01-13T09:00", model=close.model)
